"""The record of a run: its typed, versioned schema in one place, and how records are written and read.

One record is one row in one Parquet file, written under another name and renamed, so a reader never
sees half of one. What was not measured is null, never zero. Units stand in the comments.
"""

import contextlib
import errno
import os
import re
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datasets.errors import BadInput, Unwritable

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 3
RERUNS = "reruns"  # the folder of runs made again: read where it is named itself, not from above
# Fields that older records lack: read as null.
_SINCE = {"together": 2, "presentation": 3, "runs_on_device": 3, "cpu_seconds": 3}

_ORDER = ("method", "k", "domain", "seed", "hash")  # of records; the official number falls

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
    ("backbone", pa.string(), "hash of the backbone: its recipe, or its file's content; hashed"),
    ("backbone_source", pa.string(), "'pretrained' on imagenet12 of the data, or the file's name and hash"),
    ("structure", pa.string(), "backbone pretrained 'plain' or with 'series' adapters in it"),
    ("source_cell", pa.bool_(), "the pretrained network's own accuracy; its times are the pretraining's"),
    (
        "together",
        pa.list_(pa.string()),
        "domains of the joint training that it is a part of, in order; else null; hashed",
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
    ("precision", pa.string(), "fp32, tf32 (a CPU computes it as fp32) or bf16"),
    ("commit", pa.string(), "git commit, with + where the tree was changed"),
    ("versions", pa.string(), "python, torch and other versions, a CPU's instruction set, JSON"),
    ("machine", pa.string(), "processor and system"),
    ("command", pa.string(), "the command that made it"),
    ("created", pa.string(), "UTC time, ISO 8601"),
)

SCHEMA = pa.schema([pa.field(name, kind, metadata={"comment": text}) for name, kind, text in FIELDS])

# What may be null: not every run has it, or it was not measured.
_NULLABLE = {
    *("limit", "together", "correct", "top1", "history", "merge_difference", "bytes", "macs_train", "macs_inference"),
    *("train_seconds", "prepare_seconds", "step_ms", "step_ms_p10", "step_ms_p90", "train_img_s", "eval_img_s"),
    *("peak_mb", "joules", "presentation", "runs_on_device", "cpu_seconds"),
}
_RANGES = {
    **{name: (0, 2**53) for name, kind, _ in FIELDS if pa.types.is_integer(kind) or pa.types.is_floating(kind)},
    **dict.fromkeys(("eval_images", "train_images", "base_floats", "classes", "runs_on_device"), (1, 2**53)),
    "top1": (0, 100),
    "multiplier": (1e-9, 1e9),
}
_CREATED = r"^\d{4}-\d\d-\d\dT\d\d:\d\d"
_HOST = re.sub(r"\W", "", os.uname().nodename)[:60]  # in temporary names: other machines may share the folder
_CATEGORIES = [name for name, kind, _ in FIELDS if kind == pa.string() and name != "hash"]


def write_record(record: dict, folder: Path) -> Path:
    """Write one record to `folder`/<hash>.parquet. Raises BadInput where it cannot be written."""
    return write_table(pa.Table.from_pylist([record], SCHEMA), folder / f"{record['hash']}.parquet")


def parquet(table: pa.Table) -> pa.Buffer:
    """The table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue()


def write_table(table: pa.Table, path: Path) -> Path:
    """Write Parquet whole or not at all. Raises BadInput where it cannot be written."""
    return write_bytes(parquet(table), path)


def write_bytes(content: bytes | pa.Buffer, path: Path, named: str = "RESULTS") -> Path:
    """Write under another name, then rename: a reader sees the old file or the new one, whole.

    `named` is the variable that names the place. Raises BadInput where it cannot be written.
    """
    return write_all({path: content}, named)[0]


def write_all(contents: Mapping[Path, bytes | pa.Buffer | None], named: str = "RESULTS") -> list[Path]:
    """Write files that belong together, or none: all under other names first; None removes a file of before.

    Returns those that were written. Raises BadInput as `write_bytes`.
    """
    written = {path: temporary_name(path) for path, content in contents.items() if content is not None}
    path = Path()
    try:
        for path, temporary in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(contents[path])
            if path.is_dir():
                raise IsADirectoryError
        for path, temporary in written.items():
            os.replace(temporary, path)
    except OSError as error:
        for temporary in written.values():
            with contextlib.suppress(OSError):  # the folder itself may be what is missing
                temporary.unlink()
        reason, mend = error.strerror or str(error), "see its rights"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            mend = "free some space"
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason, mend = "a file stands where a folder is needed", "remove that"
        if isinstance(error, IsADirectoryError):
            reason, mend = "a folder stands there", "remove that"
        named = "CACHE" if path.parent.name == "backbones" else named
        in_the_way = isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError)
        raise (BadInput if in_the_way else Unwritable)(
            f"{path} cannot be written ({reason}); {mend}, or name another place with {named}="
        ) from None
    for path in contents.keys() - written.keys():
        with contextlib.suppress(OSError):
            path.unlink()
    return list(written)


def temporary_name(path: Path) -> Path:
    """Beside `path`, hidden, of this machine, process and thread alone."""
    return path.with_name(f".{path.name}.{_HOST}.{os.getpid()}-{threading.get_ident()}")


def clear(*folders: Path) -> None:
    """Remove what writes of this machine left in the folders when they were killed: temporary files, no record."""
    pattern = re.compile(rf"\..+\.{re.escape(_HOST)}\.(\d+)-\d+")
    for folder in folders:
        with contextlib.suppress(OSError):  # another command may be at it, too
            for path in folder.iterdir():
                if (left := pattern.fullmatch(path.name)) and not _alive(int(left[1])):
                    path.unlink()


def sweep(results: Path, *backbones: Path) -> None:
    """The same for a results folder and folders of backbones."""
    clear(results, *(results / name for name in ("records", "adapters", "unfinished", "predictions")), *backbones)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's
    return True


def existing(source: Path | None) -> None:
    """BadInput where FROM= names something and that is no folder."""
    if source is not None and not source.is_dir():
        what = "is a file; name the folder it is in" if source.exists() else "does not exist; name a folder of records"
        raise BadInput(f"FROM={source} {what}")


def read_record(path: Path) -> dict:
    """The one record of a file that `write_record` made. Raises as `read_records`."""
    return _read(path).to_pylist()[0]


def read_records(folders: Iterable[Path]) -> list[dict]:
    """Every record below the folders, the first of one hash, in the order of method, domain, seed.

    Raises BadInput for a file that cannot be read, is no Parquet or not of this schema, for a number that is none,
    and for two records of one hash whose numbers differ.
    """
    folders, found, several = list(folders), {}, False
    for _, table in _tables(folders):
        for record in table.to_pylist():
            several |= found.setdefault(record["hash"], record) is not record
    if several:
        _agree(folders)
    return sorted(found.values(), key=lambda r: tuple(-r[n] if n == "k" else r[n] for n in _ORDER))


def read_frame(folders: Iterable[Path], history: bool = False) -> "pd.DataFrame":
    """The same records as columns, a row each, `history` only where it is asked for; for many at once.

    Texts but for the hash are categories in their own order, whole numbers with nulls are floats with NaN.
    Runs without a top-1 are left out: on a test split without labels there is nothing to compare.
    """
    folders, kept = list(folders), [name for name in SCHEMA.names if history or name != "history"]
    tables = (table.filter(pc.is_valid(table["top1"])) for _, table in _tables(folders, kept))
    table = pa.concat_tables([_as_categories(SCHEMA.empty_table().select(kept)), *tables])
    frame = table.unify_dictionaries().to_pandas(self_destruct=True, split_blocks=True)
    if frame["hash"].duplicated().any():
        _agree(folders)
        frame = frame.drop_duplicates("hash")
    for name in _CATEGORIES:
        frame[name] = frame[name].cat.reorder_categories(sorted(frame[name].cat.categories))
    return frame.sort_values(list(_ORDER), ascending=[n != "k" for n in _ORDER], ignore_index=True)


def read_histories(folders: Iterable[Path], hashes: Collection[str]) -> dict[str, list[dict]]:
    """The history of each of these runs by its hash; runs without one are left out. Raises as `read_records`."""
    wanted = pa.array(sorted(hashes), pa.string())
    found: dict[str, list[dict]] = {}
    for path, table in _tables(folders, ["schema", "hash", "history"]):
        for row in table.filter(pc.is_in(table["hash"], wanted)).to_pylist():
            if row["history"]:
                if any(value is None or not np.isfinite(value) for epoch in row["history"] for value in epoch.values()):
                    wrong = f"{path}: the run {row['hash']} has a history with what is no number"
                    raise BadInput(f"{wrong}; remove it and run again")
                found.setdefault(row["hash"], row["history"])
    return found


def _agree(folders: Iterable[Path]) -> None:
    """BadInput where two records of one hash differ in what came out: they are of two runs, and one is wrong."""
    seen: dict[str, tuple[tuple, Path]] = {}
    for path, table in _tables(folders, ["schema", "hash", "correct", "top1"]):
        for _, name, *numbers in zip(*(column.to_pylist() for column in table.columns), strict=True):
            first, where = seen.setdefault(name, (numbers, path))
            if first != numbers:
                files = f"{where} and {path} hold" if where != path else f"{path} twice holds"
                raise BadInput(
                    f"{files} the run {name} with different numbers (right and top-1: "
                    f"{first[0]}, {first[1]}, and {numbers[0]}, {numbers[1]}); remove the wrong one"
                )


def _tables(folders: Iterable[Path], columns: list[str] | None = None) -> Iterator[tuple[Path, pa.Table]]:
    """Every file of records below the folders; of some columns, where they are named, with texts as categories."""
    for folder in folders:
        for path in _files(folder):
            if (table := _read(path, columns)) is not None:
                yield path, table


def _files(folder: Path) -> list[Path]:
    """The Parquet files below a folder that are not being written, in the order of their paths."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise BadInput(f"{error.filename} cannot be read ({error.strerror}); see its rights") from None

    found = []
    for base, below, names in os.walk(folder, onerror=refuse):
        below[:] = [name for name in below if name != RERUNS]
        found += [Path(base, name) for name in names if name.endswith(".parquet") and not name.startswith(".")]
    return sorted(found)


def _as_categories(table: pa.Table) -> pa.Table:
    """As `read_dictionary` reads it."""
    kinds = {f.name: pa.dictionary(pa.int32(), f.type) if f.name in _CATEGORIES else f.type for f in table.schema}
    return table.cast(pa.schema(list(kinds.items())))


def _read(path: Path, columns: list[str] | None = None) -> pa.Table | None:
    """The records of a file, of this schema; None where it is a table made from records that lies beside them."""
    names = columns or SCHEMA.names
    try:
        there = pq.read_schema(path).names
        if not {"schema", "hash", "method"} <= set(there):
            return None
        kept = [name for name in names if name in there]
        with pq.ParquetFile(path, read_dictionary=[n for n in _CATEGORIES if n in kept] if columns else None) as file:
            table = file.read(kept)
    except PermissionError:
        raise BadInput(f"{path} cannot be read (Permission denied); see its rights") from None
    except (pa.ArrowException, OSError) as error:
        what = " ".join(str(error).split())[:80]
        raise BadInput(f"{path} is no readable Parquet file ({what}); remove it and run again") from None
    versions = set(pc.unique(table["schema"]).to_pylist())
    if other := versions - set(range(1, SCHEMA_VERSION + 1)):
        other = ", ".join(map(str, sorted(other, key=str)))
        raise BadInput(f"{path} holds records of schema {other}, this reads 1 to {SCHEMA_VERSION}; remove or move it")
    for name, since in _SINCE.items():
        if name not in there and name in names and max(versions, default=0) < since:
            table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
    if lacking := [name for name in names if name not in table.column_names]:
        raise BadInput(f"{path} holds records without the field {lacking[0]}; remove it and run again")
    now = pa.array(np.full(len(table), SCHEMA_VERSION, np.int32))
    table = table.select(names).set_column(0, SCHEMA.field("schema"), now)
    wanted = SCHEMA if columns is None else _as_categories(SCHEMA.empty_table().select(names)).schema
    try:
        table = table.cast(wanted)
    except pa.ArrowException as error:
        what = " ".join(str(error).split())[:160]
        raise BadInput(f"{path} holds records with a field of another type ({what}); remove it and run again") from None
    _check(table, path)
    return table


def _check(table: pa.Table, path: Path) -> None:
    """BadInput for a record that lacks what is always there, or says what cannot be."""

    def hold(fits: pa.ChunkedArray, what: str) -> None:
        if not pc.all(fits, min_count=0).as_py():
            wrong = table["hash"][pc.index(fits, False).as_py()]
            raise BadInput(f"{path}: the run {wrong} has a {what}; remove it and run again")

    names = table.column_names
    for name in names:
        column = table[name]
        if name not in _NULLABLE and column.null_count:
            raise BadInput(f"{path} holds a record whose {name} is empty; remove it and run again")
        if column.type == pa.float64():
            hold(pc.is_finite(column), f"{name} that is no number")
        if name in _RANGES:
            least, most = _RANGES[name]
            hold(pc.and_(pc.greater_equal(column, least), pc.less_equal(column, most)), f"{name} that cannot be")
    if {"correct", "eval_images", "top1"} <= set(names):
        share = pc.multiply(pc.divide(pc.cast(table["correct"], pa.float64()), table["eval_images"]), 100.0)
        hold(pc.less(pc.abs(pc.subtract(share, table["top1"])), 1e-6), "top1 that its correct contradicts")
    if "created" in names:
        hold(pc.match_substring_regex(pc.cast(table["created"], pa.string()), _CREATED), "created that is no time")
