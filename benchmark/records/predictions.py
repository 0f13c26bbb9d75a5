"""The predictions of a run for each image, written on request to `predictions/<hash>.parquet`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.parquet_file import open_parquet
from visual_decathlon.benchmark.records.store import write_table
from visual_decathlon.datasets.catalogue import Domain, category_id
from visual_decathlon.datasets.errors import InputError, option, reason
from visual_decathlon.datasets.text import as_text

if TYPE_CHECKING:
    from torch import Tensor

# (name, type, comment). The comments are in the files: do not reword them.
FIELDS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("image_id", pa.int64(), "official image id; of an own domain its image's running number, see `file`"),
    (
        "category_id",
        pa.int64(),
        "the predicted class: 10^7 k + its number from 1, k the domain's, 0 of an own one; null where a judge took "
        "the image for another domain's",
    ),
    ("domain", pa.string(), "domain name"),
    ("top5", pa.list_(pa.int64()), "category ids, the likeliest first; fewer where the domain has fewer classes"),
    # Older files, which stay readable, lack the fields below.
    ("class_name", pa.string(), 'name of the predicted class, "" where the release gives none; null as category_id'),
    ("top5_names", pa.list_(pa.string()), "their names"),
    ("file", pa.string(), "the image's file, a POSIX path below the release or the own folder"),
)
SCHEMA = pa.schema([pa.field(name, kind, metadata={"comment": text}) for name, kind, text in FIELDS])


def likeliest(logits: "Tensor") -> "Tensor":
    """Returns the indices of the five likeliest classes, likeliest first: (N, classes) -> (N, 5), or all of fewer.

    Of equal logits the first class comes first, as with argmax.
    """
    import torch

    return torch.cat([part.argsort(dim=1, descending=True, stable=True)[:, :5] for part in logits.split(4096)])


def has_predictions(results: Path, hash: str, images: int) -> bool:
    """Whether the file of the run's predictions is complete: a row for each of `images`, and every field."""
    path = ResultsFolder(results).predictions(hash)
    try:
        if not path.is_file():
            return False
        with open_parquet(path) as file:
            return file.metadata.num_rows == images and set(SCHEMA.names) <= set(file.schema_arrow.names)
    except (pa.ArrowException, OSError, InputError):
        return False


def write_predictions(
    results: Path,
    hash: str,
    domain: Domain,
    names: Sequence[str],
    files: Sequence[str],
    ids: np.ndarray,
    logits: "Tensor",
) -> Path:
    """Writes one row for each image, in the order of the split. Raises InputError as `write_table` does.

    `names` are those of the classes, `files` and `ids` (N,) int64 those of the images. `logits` is (N, classes), or
    has one more column, which is largest where a domain classifier assigns the image to another domain.
    """
    first, classes = category_id(domain.k, 0), len(names)
    top, chosen = likeliest(logits[:, :classes]).numpy(), logits.argmax(1).numpy()
    of_class = np.array([*names, None], object)  # None for another domain
    columns = [
        pa.array(ids),
        pa.array(first + chosen, mask=chosen >= classes),
        pa.array([domain.name] * len(ids)),
        pa.array([*(first + top)], SCHEMA.field("top5").type),
        pa.array(of_class[chosen], pa.string()),
        pa.array(of_class[top].tolist(), SCHEMA.field("top5_names").type),
        pa.array([as_text(file) for file in files]),
    ]
    return write_table(pa.Table.from_arrays(columns, schema=SCHEMA), ResultsFolder(results).predictions(hash))


def read_predictions(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns (image ids, category ids), each (N,) int64.

    Raises InputError for a file that is not from `write_predictions`, and for an image without a category.
    """
    try:
        with open_parquet(path) as file:
            table = file.read(["image_id", "category_id"])
        if table.schema.types != [pa.int64(), pa.int64()]:
            raise pa.ArrowInvalid("its image_id and category_id are no whole numbers")
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} holds no predictions ({reason(error)}); remove it and run again with {option('predictions')}1"
        ) from None
    if table["category_id"].null_count:
        raise InputError(
            f"{path} gives {table['category_id'].null_count:,} image(s) no category, since the method took them for "
            f"another domain's; a submission needs one for each: take another {option('method')}"
        )
    return table["image_id"].to_numpy(), table["category_id"].to_numpy()
