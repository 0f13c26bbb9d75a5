"""The schema of a run's record: every field with type, unit and meaning, and the rules for a valid record.

Writers and readers apply the same rules; `violations` finds the records that break them. A value that was not measured
is null, never zero. Units are in the comments.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from visual_decathlon.benchmark.config.kernels import LAYOUTS, NORMS
from visual_decathlon.datasets.catalogue import DOMAINS, is_valid_name
from visual_decathlon.datasets.errors import InputError

SCHEMA_VERSION = 6
SINCE = {
    "together": 2,
    **dict.fromkeys(("presentation", "backbone_manifest", "together_manifest", "asked"), 3),
    **dict.fromkeys(("runs_on_device", "cpu_seconds"), 3),
    **dict.fromkeys(("layout", "norm", "step", "first_step_seconds", "skipped_steps"), 4),
    "routed": 5,
    **dict.fromkeys(("environment", "driver", "node"), 6),
}
"""Fields that older records lack, with the version that introduced them. They are read as null."""

_EPOCH = pa.struct(
    [("epoch", pa.int32()), ("loss", pa.float64()), ("train_top1", pa.float64()), ("seconds", pa.float64())]
)
EPOCH = tuple(field.name for field in _EPOCH)
"""Fields of an epoch in a record's history."""

# (name, type, comment). Fields marked `hashed` decide the numbers. The comments are in the files: do not reword them.
FIELDS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("schema", pa.int32(), "version of this schema"),
    ("hash", pa.string(), "identity of the run: sha256 of what decides its numbers, 16 hex digits"),
    # what was run
    ("method", pa.string(), "method string, options that differ from their defaults"),
    ("method_full", pa.string(), "method string with every option; hashed"),
    ("label", pa.string(), "the method as tables print it"),
    ("family", pa.string(), "the method's family"),
    ("fidelity", pa.string(), "reproduction of a published CNN method, adaptation, or ours"),
    ("domain", pa.string(), "domain name; hashed"),
    ("column", pa.string(), "its column in Table 1"),
    ("k", pa.int32(), "official domain number; 0 for a user's own domain"),
    ("seed", pa.int32(), "seed of head, adapters, order and augmentation; hashed"),
    ("split", pa.string(), "val (trained on train), test (on train+val), holdout (4/5 against 1/5 of train); hashed"),
    ("limit", pa.int32(), "images a split was cut to, null where it was not; hashed; taints the row"),
    ("profile", pa.string(), "name of the profile"),
    ("settings", pa.string(), "the whole profile as JSON, overrides in it; what decides numbers is hashed"),
    ("lr", pa.float64(), "peak learning rate in use; hashed"),
    ("data", pa.string(), "name of the data: the stand-ins' version and seed, or the release's folder"),
    ("data_id", pa.string(), "hash of the release's annotations: rows of one table share it"),
    ("standin", pa.bool_(), "whether the data are drawn stand-ins: such a score is never a real one"),
    ("train_manifest", pa.string(), "content hash of the training images and labels; hashed"),
    ("eval_manifest", pa.string(), "content hash of the evaluated images and labels; hashed"),
    (
        "presentation",
        pa.string(),
        "mean, std, flip and crop of the domain as shown, JSON; null in records before schema 3; hashed",
    ),
    ("backbone", pa.string(), "hash of the backbone: its recipe, or the given weights; hashed"),
    (
        "backbone_manifest",
        pa.string(),
        "content hash of the images and labels that the backbone was pretrained on; null for a given one",
    ),
    ("backbone_source", pa.string(), "'pretrained' on imagenet12 of the data, or the file's name and hash"),
    ("structure", pa.string(), "backbone pretrained 'plain' or with 'series' adapters in it"),
    ("source_cell", pa.bool_(), "the pretrained network's own accuracy; its times are the pretraining's"),
    (
        "together",
        pa.list_(pa.string()),
        "domains of the joint training that it is a part of, in order; else null; hashed",
    ),
    (
        "together_manifest",
        pa.string(),
        "content hash of the images, labels and colours of those domains; null where there are none",
    ),
    ("off_the_shelf", pa.bool_(), "series adapters put on a backbone pretrained without them"),
    ("training", pa.int32(), "version of the training code, raised by hand when numbers change; hashed"),
    # what came out
    ("classes", pa.int32(), "classes of the domain"),
    ("train_images", pa.int64(), "images trained on"),
    ("eval_images", pa.int64(), "images evaluated"),
    ("correct", pa.int64(), "of them classified right, null where the split has no labels"),
    ("top1", pa.float64(), "100 * correct / eval_images, %; null where the split has no labels"),
    ("history", pa.list_(_EPOCH), "per epoch: mean loss, top-1 on the training batches (%), seconds"),
    ("merged", pa.bool_(), "evaluated with the adapters folded into the convolutions"),
    ("merge_difference", pa.float64(), "largest deviation of merged from unmerged logits, relative, one batch"),
    (
        "routed",
        pa.int64(),
        "evaluated images that the classifier of domains takes for this domain's; null where there is no classifier",
    ),
    # what it costs
    ("floats", pa.int64(), "trained floats stored for the domain, without head and running statistics"),
    ("bits", pa.int64(), "stored bits beside them"),
    ("head_floats", pa.int64(), "parameters of the head"),
    ("bytes", pa.int64(), "size of the domain's file on disk, bytes"),
    ("base_floats", pa.int64(), "parameters of the plain backbone without head"),
    ("multiplier", pa.float64(), "#par. of the paper: (base + shared + 9 domains' own) / base, heads not counted"),
    (
        "macs_train",
        pa.int64(),
        "multiply-adds forward, one image, adapters beside: of resnet26 those of the convolutions, of other networks "
        "also those of linear layers (not of the head) and of attention",
    ),
    ("macs_inference", pa.int64(), "the same after merging"),
    # how long it took
    ("train_seconds", pa.float64(), "training alone, evaluation outside the clock, s"),
    ("cpu_seconds", pa.float64(), "processor time of the training, s; null in records before schema 3"),
    (
        "prepare_seconds",
        pa.float64(),
        "once before training: features of the frozen network, s; null where there is none",
    ),
    ("step_ms", pa.float64(), "median training step, ms"),
    ("step_ms_p10", pa.float64(), "its 10th percentile, ms"),
    ("step_ms_p90", pa.float64(), "its 90th percentile, ms"),
    ("train_img_s", pa.float64(), "training throughput, median, img/s"),
    ("eval_img_s", pa.float64(), "inference throughput, img/s"),
    (
        "first_step_seconds",
        pa.float64(),
        "from the start of training to the end of its first step, compiling in it, s; null before schema 4",
    ),
    ("skipped_steps", pa.int64(), "steps that fp16 skipped, as a gradient overflowed; null in other precisions"),
    ("peak_mb", pa.float64(), "peak memory: of the GPU, or of the process that trained, MB"),
    ("joules", pa.float64(), "energy of training by NVML, J"),
    # where and by what
    ("device", pa.string(), "the device's name"),
    ("threads", pa.int32(), "threads of the process that trained"),
    ("workers", pa.int32(), "processes that trained side by side: their step times share the machine"),
    (
        "runs_on_device",
        pa.int32(),
        "runs that shared the device, at most, while this one trained; 1: it was alone; null before schema 3",
    ),
    ("precision", pa.string(), "fp32, tf32 (a CPU computes it as fp32), bf16 or fp16 (with a dynamic loss scale)"),
    (
        "layout",
        pa.string(),
        "memory layout of images and weights: channels_last or contiguous (NCHW); null before schema 4",
    ),
    ("norm", pa.string(), "batch norm: plain, or fused with what follows it; null before schema 4"),
    (
        "step",
        pa.string(),
        "how a training step was done: eager, graph (a CUDA graph), compiled, compiled graph; null before schema 4",
    ),
    ("commit", pa.string(), "git commit, with + where the tree was changed"),
    ("versions", pa.string(), "python, torch and other versions, a CPU's instruction set, JSON"),
    (
        "environment",
        pa.string(),
        "digest of Python's and all installed packages' versions, which environments/<digest>.txt lists; null before "
        "schema 6",
    ),
    ("machine", pa.string(), "processor and system"),
    ("driver", pa.string(), "version of the GPU's driver; null where there is none, and before schema 6"),
    ("node", pa.string(), "name of the cluster's machine; null with the local engine, and before schema 6"),
    ("command", pa.string(), "the command that made it"),
    ("created", pa.string(), "UTC time, ISO 8601"),
    (
        "asked",
        pa.string(),
        "the same, of a bench that asked for it where a newer run of its kind was; or null",
    ),
)

SCHEMA = pa.schema([pa.field(name, kind, metadata={"comment": text}) for name, kind, text in FIELDS])

# Fields that may be null: not every run has them, or they were not measured.
NULLABLE = {
    *("limit", "correct", "top1", "history", "merge_difference", "bytes", "macs_train", "macs_inference"),
    *("train_seconds", "prepare_seconds", "step_ms", "step_ms_p10", "step_ms_p90", "train_img_s", "eval_img_s"),
    *("peak_mb", "joules", *SINCE),
}
RANGES = {
    **{name: (0, 2**53) for name, kind, _ in FIELDS if pa.types.is_integer(kind) or pa.types.is_floating(kind)},
    **dict.fromkeys(("eval_images", "train_images", "base_floats", "classes", "runs_on_device"), (1, 2**53)),
    "lr": (0, 1.8e308),  # any number: a run with too large a rate ends at its first loss that is not finite
    "top1": (0, 100),
    "multiplier": (1e-9, 1e9),
}
MEASURED = ("train_seconds", "prepare_seconds", "step_ms", "step_ms_p10", "step_ms_p90", "train_img_s", "eval_img_s")
MEASURED += ("peak_mb", "joules", "cpu_seconds", "first_step_seconds")
_CREATED = r"^\d{4}-\d\d-\d\dT\d\d:\d\d"
CATEGORIES = [name for name, kind, _ in FIELDS if kind == pa.string() and name != "hash"]


def as_table(records: Sequence[Mapping]) -> pa.Table:
    """Returns records as a table of this schema, with null for fields that they lack.

    A byte that is not UTF-8, in a path or a command, is a lone surrogate in Python and is written as `\\udcff`.
    """
    plain = [{n: _text(v) if isinstance(v, str) else v for n, v in record.items()} for record in records]
    return pa.Table.from_pylist(plain, SCHEMA)


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode()


def check(records: Sequence[Mapping], fields: Iterable[str] | None = None) -> pa.Table:
    """Returns records as a table. Raises InputError for the first that a reader would refuse.

    `fields` are the fields to check; None checks all.
    """
    table = as_table(records)
    for row, field, what in violations(table.select(list(fields)) if fields is not None else table):
        run = records[row].get("hash")
        raise InputError(
            f"the record of the run {run} could not be read again, as it has {describe_violation(field, what)}"
        )
    return table


def plausible(record: Mapping) -> dict:
    """Returns the record with null for a time, memory or energy that is impossible.

    An energy counter that was reset gives a negative energy, and steps shorter than the clock's tick an infinite
    throughput: no training may be lost for that.
    """
    impossible = [n for n in MEASURED if (value := record.get(n)) is not None and not 0 <= value < 2**53]
    return {**record, **dict.fromkeys(impossible)}


def describe_violation(field: str, what: str) -> str:
    """Puts a violation into words: "a top1 that is no number", "versions that are no list of versions"."""
    article = "" if what.startswith("are ") else "an " if field[0] in "aeiou" else "a "
    return f"{article}{field} that {what}"


def violations(table: pa.Table) -> list[tuple[int, str, str]]:
    """Returns (row, field, "is no number") for every record with an empty field or an impossible value.

    Only the fields that `table` has are checked. Of a record that breaks several rules, the first is returned.
    """
    broken: dict[int, tuple[str, str]] = {}

    def require(fits: pa.ChunkedArray | pa.Array, field: str, what: str) -> None:
        """Notes the rows that do not fit; null fits."""
        if not pc.all(fits, min_count=0).as_py():
            for row in pc.indices_nonzero(pc.invert(pc.fill_null(fits, True))).to_pylist():
                broken.setdefault(row, (field, what))

    names = table.column_names
    for name in names:
        column = table[name]
        if name not in NULLABLE and column.null_count:
            require(pc.is_valid(column), name, "is empty")
        if column.type == pa.float64():
            require(pc.is_finite(column), name, "is no number")
        if name in RANGES:
            least, most = RANGES[name]
            require(pc.and_(pc.greater_equal(column, least), pc.less_equal(column, most)), name, "cannot be")
        if name in CATEGORIES and name != "command":
            require(_fit(column, lambda text: len(text) <= _LONGEST), name, f"has more than {_LONGEST:,} characters")
        if name in _TEXTS:
            require(_fit(column, _TEXTS[name][0]), name, _TEXTS[name][1])
    if {"correct", "eval_images", "top1"} <= set(names):
        share = pc.multiply(pc.divide(pc.cast(table["correct"], pa.float64()), table["eval_images"]), 100.0)
        require(pc.less(pc.abs(pc.subtract(share, table["top1"])), 1e-6), "top1", "its correct contradicts")
        alike = pc.equal(pc.is_valid(table["correct"]), pc.is_valid(table["top1"]))
        require(alike, "top1", "has no correct next to it, or the other way round")
    if "history" in names and len(table):
        for row in _no_history(table["history"].combine_chunks()):
            broken.setdefault(row, ("history", "holds what is no number"))
    return [(row, *what) for row, what in sorted(broken.items())]


def _fit(column: pa.ChunkedArray, fits) -> pa.ChunkedArray:
    """Returns whether each text fits; each distinct text is tested once."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, pa.string())
    texts = pc.unique(column).drop_null()
    if all(map(fits, texts.to_pylist())):
        return pa.chunked_array([pa.array([True])])
    return pc.is_in(column, pa.array([t for t in texts.to_pylist() if fits(t)] + [None], pa.string()))


def _no_history(column: pa.ListArray) -> set[int]:
    """Returns the rows with an epoch in which a number is missing or not finite."""
    epochs, of = pc.list_flatten(column), pc.list_parent_indices(column)
    whole = pa.array([True] * len(epochs), pa.bool_())
    for i in range(epochs.type.num_fields):
        values = pc.struct_field(epochs, [i])
        whole = pc.and_(whole, pc.fill_null(pc.is_finite(pc.cast(values, pa.float64())), False))
    return set(of.filter(pc.invert(whole)).to_pylist())


TAKEN = frozenset(
    ("mean", "method", "family", "fidelity", "seeds", "domains", "data", "data_id", "standin", "split", "limit")
    + ("profile", "settings", "backbone_source", "training", "baseline", "records")
)
"""Columns of the tables: names that a user's own domain cannot have."""


def names_a_domain(name: str) -> bool:
    """Whether it names an official domain, or an own one that can be a column of a table."""
    return name in DOMAINS or (is_valid_name(name) and name not in TAKEN)


def is_profile(text: str) -> bool:
    """Whether it is the JSON of a profile, with the settings that tables need."""
    settings = _json(text) or {}
    network = settings.get("network")
    return (
        isinstance(network, str)
        and len(network) <= _LONGEST_NAME
        and all(isinstance(settings.get(name), int | float) for name in ("width", "crop"))
    )


def is_versions(text: str) -> bool:
    """Whether it is JSON of names and versions: strings; also integers and nulls, which were written on a GPU once."""
    versions = _json(text)
    return versions is not None and all(
        isinstance(value, str | int | None) and not isinstance(value, bool) for value in versions.values()
    )


def _is_presentation(text: str) -> bool:
    return (_json(text) or {}).keys() == {"mean", "std", "flip", "crop"}


def _json(text: str) -> dict | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


STEPS = ("eager", "graph", "compiled", "compiled graph")
_LONGEST, _LONGEST_NAME = 20_000, 200  # characters that a figure or a page can show
_TEXTS = {
    "domain": (names_a_domain, "names no domain and no column of a table"),
    "settings": (is_profile, "are no profile"),
    "versions": (is_versions, "are no list of versions"),
    "presentation": (_is_presentation, "is none"),
    "created": (re.compile(_CREATED).match, "is no time"),
    "asked": (re.compile(_CREATED).match, "is no time"),
    "layout": (LAYOUTS.__contains__, f"is none of {', '.join(LAYOUTS)}"),
    "norm": (NORMS.__contains__, f"is none of {', '.join(NORMS)}"),
    "step": (STEPS.__contains__, f"is none of {', '.join(STEPS)}"),
}
