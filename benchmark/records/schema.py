"""The schema of a record of a run: every field with its type, unit and meaning, and what a whole record must hold.

Writer and reader hold records to the same rules: `wrong` says which break them. What was not measured is
null, never zero. Units stand in the comments.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from visual_decathlon.benchmark.config.kernels import LAYOUTS, NORMS
from visual_decathlon.datasets.catalogue import DOMAINS, fit_name
from visual_decathlon.datasets.errors import InputError

SCHEMA_VERSION = 4
SINCE = {
    "together": 2,
    **dict.fromkeys(("presentation", "backbone_manifest", "together_manifest", "asked"), 3),
    **dict.fromkeys(("runs_on_device", "cpu_seconds"), 3),
    **dict.fromkeys(("layout", "norm", "step", "first_step_seconds", "skipped_steps"), 4),
}
"""Fields that older records lack, and the version that brought them: read as null."""

_EPOCH = pa.struct(
    [("epoch", pa.int32()), ("loss", pa.float64()), ("train_top1", pa.float64()), ("seconds", pa.float64())]
)
EPOCH = tuple(field.name for field in _EPOCH)
"""What a record's history says of an epoch."""

# (name, type, what it says). Those marked hashed decide the numbers.
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
    # what it costs
    ("floats", pa.int64(), "trained floats stored for the domain, without head and running statistics"),
    ("bits", pa.int64(), "stored bits beside them"),
    ("head_floats", pa.int64(), "parameters of the head"),
    ("bytes", pa.int64(), "size of the domain's file on disk, bytes"),
    ("base_floats", pa.int64(), "parameters of the plain backbone without head"),
    ("multiplier", pa.float64(), "#par. of the paper: (base + 9 floats) / base, heads not counted"),
    ("macs_train", pa.int64(), "multiply-adds of the convolutions, forward, one image, adapters beside; fvcore"),
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
    ("machine", pa.string(), "processor and system"),
    ("command", pa.string(), "the command that made it"),
    ("created", pa.string(), "UTC time, ISO 8601"),
    (
        "asked",
        pa.string(),
        "the same, of a bench that asked for it where a newer run of its kind was; or null",
    ),
)

SCHEMA = pa.schema([pa.field(name, kind, metadata={"comment": text}) for name, kind, text in FIELDS])

# What may be null: not every run has it, or it was not measured.
NULLABLE = {
    *("limit", "correct", "top1", "history", "merge_difference", "bytes", "macs_train", "macs_inference"),
    *("train_seconds", "prepare_seconds", "step_ms", "step_ms_p10", "step_ms_p90", "train_img_s", "eval_img_s"),
    *("peak_mb", "joules", *SINCE),
}
RANGES = {
    **{name: (0, 2**53) for name, kind, _ in FIELDS if pa.types.is_integer(kind) or pa.types.is_floating(kind)},
    **dict.fromkeys(("eval_images", "train_images", "base_floats", "classes", "runs_on_device"), (1, 2**53)),
    "lr": (0, 1.8e308),  # whatever number was asked for: such a run ends at its first loss that is none
    "top1": (0, 100),
    "multiplier": (1e-9, 1e9),
}
MEASURED = ("train_seconds", "prepare_seconds", "step_ms", "step_ms_p10", "step_ms_p90", "train_img_s", "eval_img_s")
MEASURED += ("peak_mb", "joules", "cpu_seconds", "first_step_seconds")
_CREATED = r"^\d{4}-\d\d-\d\dT\d\d:\d\d"
CATEGORIES = [name for name, kind, _ in FIELDS if kind == pa.string() and name != "hash"]


def as_table(records: Sequence[Mapping]) -> pa.Table:
    """Records as a table of this schema; fields they lack are null.

    A byte of a path or a command that is no UTF-8 (Python holds it as half a surrogate pair) is written as `\\udcff`.
    """
    plain = [{n: _text(v) if isinstance(v, str) else v for n, v in record.items()} for record in records]
    return pa.Table.from_pylist(plain, SCHEMA)


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode()


def check(records: Sequence[Mapping], fields: Iterable[str] | None = None) -> pa.Table:
    """Records as a table. InputError for the first that a reader would refuse, of these fields where some are named."""
    table = as_table(records)
    for row, field, what in violations(table.select(list(fields)) if fields is not None else table):
        run = records[row].get("hash")
        raise InputError(
            f"the record of the run {run} could not be read again, as it has {describe_violation(field, what)}"
        )
    return table


def plausible(record: Mapping) -> dict:
    """The record with null for a time, a memory or an energy that is none.

    An energy counter that was reset falls, steps shorter than the clock's tick give an infinite throughput: no
    training is lost for that.
    """
    none = [n for n in MEASURED if (value := record.get(n)) is not None and not 0 <= value < 2**53]
    return {**record, **dict.fromkeys(none)}


def describe_violation(field: str, what: str) -> str:
    """What `wrong` says of a field: "a top1 that is no number", "versions that are no list of versions"."""
    article = "" if what.startswith("are ") else "an " if field[0] in "aeiou" else "a "
    return f"{article}{field} that {what}"


def violations(table: pa.Table) -> list[tuple[int, str, str]]:
    """(row, field, "is no number") of every record that lacks what is always there or says what cannot be.

    Held to the fields that `table` has. A record that breaks several rules is told by the first.
    """
    found: dict[int, tuple[str, str]] = {}

    def hold(fits: pa.ChunkedArray | pa.Array, field: str, what: str) -> None:
        """Null fits."""
        if not pc.all(fits, min_count=0).as_py():
            for row in pc.indices_nonzero(pc.invert(pc.fill_null(fits, True))).to_pylist():
                found.setdefault(row, (field, what))

    names = table.column_names
    for name in names:
        column = table[name]
        if name not in NULLABLE and column.null_count:
            hold(pc.is_valid(column), name, "is empty")
        if column.type == pa.float64():
            hold(pc.is_finite(column), name, "is no number")
        if name in RANGES:
            least, most = RANGES[name]
            hold(pc.and_(pc.greater_equal(column, least), pc.less_equal(column, most)), name, "cannot be")
        if name in CATEGORIES and name != "command":
            hold(_fit(column, lambda text: len(text) <= _LONGEST), name, f"has more than {_LONGEST:,} characters")
        if name in _TEXTS:
            hold(_fit(column, _TEXTS[name][0]), name, _TEXTS[name][1])
    if {"correct", "eval_images", "top1"} <= set(names):
        share = pc.multiply(pc.divide(pc.cast(table["correct"], pa.float64()), table["eval_images"]), 100.0)
        hold(pc.less(pc.abs(pc.subtract(share, table["top1"])), 1e-6), "top1", "its correct contradicts")
        alike = pc.equal(pc.is_valid(table["correct"]), pc.is_valid(table["top1"]))
        hold(alike, "top1", "has no correct beside it, or the other way round")
    if "history" in names and len(table):
        for row in _no_history(table["history"].combine_chunks()):
            found.setdefault(row, ("history", "holds what is no number"))
    return [(row, *what) for row, what in sorted(found.items())]


def _fit(column: pa.ChunkedArray, fits) -> pa.ChunkedArray:
    """Whether each text fits; each different one is looked at once."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, pa.string())
    texts = pc.unique(column).drop_null()
    if all(map(fits, texts.to_pylist())):
        return pa.chunked_array([pa.array([True])])
    return pc.is_in(column, pa.array([t for t in texts.to_pylist() if fits(t)] + [None], pa.string()))


def _no_history(column: pa.ListArray) -> set[int]:
    """Rows with an epoch that lacks a number."""
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
"""Columns of the tables whose names an own domain cannot have."""


def names_a_domain(name: str) -> bool:
    """Whether it is an official domain, or an own one of which a table can have a column."""
    return name in DOMAINS or (fit_name(name) and name not in TAKEN)


def is_profile(text: str) -> bool:
    """Whether it is the JSON of a profile, as far as tables need it."""
    settings = _json(text) or {}
    network = settings.get("network")
    return (
        isinstance(network, str)
        and len(network) <= _LONGEST_NAME
        and all(isinstance(settings.get(name), int | float) for name in ("width", "crop"))
    )


def is_versions(text: str) -> bool:
    """Whether it is the JSON of names and versions: texts; numbers and nulls, too, as once written on a GPU."""
    found = _json(text)
    return found is not None and all(
        isinstance(value, str | int | None) and not isinstance(value, bool) for value in found.values()
    )


def _is_presentation(text: str) -> bool:
    return (_json(text) or {}).keys() == {"mean", "std", "flip", "crop"}


def _json(text: str) -> dict | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


STEPS = ("eager", "graph", "compiled", "compiled graph")
_LONGEST, _LONGEST_NAME = 20_000, 200  # characters that a figure or a page can still show
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
