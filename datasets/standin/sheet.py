"""Draws a contact sheet of a release: one picture with eight images of each domain."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from visual_decathlon.datasets.annotations import Split, domains_in, read_split
from visual_decathlon.datasets.decode import SUFFIXES, decode
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.io import write_bytes

_CELL, _LABEL, _GAP, _ROWS = 108, 64, 4, 8


def refuse_target(out: Path) -> None:
    """Raises InputError if `out` cannot be the name of a picture; call it before anything is drawn."""
    if os.path.isdir(out):
        raise InputError(
            f"{out} is a folder; name the picture in it, e.g. {option('sheet')}{out / 'sheet.png'}", field="sheet"
        )
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{out} does not end as a picture does; use one of {', '.join(sorted(SUFFIXES))}", field="sheet"
        )


def contact_sheet(root: Path, out: Path) -> None:
    """Writes a picture to `out`: for each domain below `root` its column's name and eight val images of many classes.

    `out` is written completely or not at all. Raises InputError naming the annotation file or image that is wrong, or
    `out` if it cannot be written.
    """
    refuse_target(out)
    rows = [(domain.column, _images(read_split(root, domain, "val"))) for domain in domains_in(root)]
    heights = [max(image.height for image in images) for _, images in rows]
    sheet = Image.new("RGB", (_LABEL + _ROWS * (_CELL + _GAP) + _GAP, sum(heights) + _GAP * (len(rows) + 1)), "white")
    pencil, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    top = _GAP
    for (column, images), height in zip(rows, heights, strict=True):
        pencil.text((6, top + height // 2 - 8), column, fill="black", font=font)
        for place, image in enumerate(images):
            left = _LABEL + place * (_CELL + _GAP) + (_CELL - image.width) // 2
            sheet.paste(image, (left, top + (height - image.height) // 2))
        top += height + _GAP
    _write(sheet, out)


def _write(sheet: Image.Image, out: Path) -> None:
    content = io.BytesIO()
    try:
        sheet.save(content, Image.registered_extensions()[out.suffix.lower()])
    except (OSError, ValueError, KeyError) as error:  # Pillow lacks this format, or its size limit is exceeded
        raise InputError(
            f"{out} cannot be drawn ({error}); name a picture of another kind with {option('sheet')}"
        ) from None
    write_bytes(content.getvalue(), out, named="sheet")


def _images(split: Split) -> list[Image.Image]:
    return [decode(split.root / split.files[index], split.domain.name) for index in _different(split)]


def _different(split: Split) -> list[int]:
    """Indices of eight images spread over the classes, of eight different classes if there are that many."""
    rank = np.zeros(len(split), dtype=np.int64)
    seen: dict[int, int] = {}
    for index, label in enumerate(split.labels):
        rank[index] = seen.get(label, 0)
        seen[label] = rank[index] + 1
    order = np.lexsort((split.labels, rank))
    first = order[: max(len(seen), _ROWS)]
    return [int(first[i]) for i in np.linspace(0, len(first) - 1, min(_ROWS, len(first))).astype(int)]
