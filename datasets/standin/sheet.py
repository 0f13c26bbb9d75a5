"""Draws one contact sheet of a release: eight images of each domain, to be looked at."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datasets.annotations import domains_in, read_split

_CELL, _LABEL, _GAP, _ROWS = 108, 64, 4, 8


def contact_sheet(root: Path, out: Path) -> None:
    """Writes a PNG to `out`: for each domain below `root` its column's name and eight val images of many classes."""
    domains = domains_in(root)
    heights = [_row_height(read_split(root, domain, "val")) for domain in domains]
    sheet = Image.new(
        "RGB", (_LABEL + _ROWS * (_CELL + _GAP) + _GAP, sum(heights) + _GAP * (len(domains) + 1)), "white"
    )
    pencil, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    top = _GAP
    for domain, height in zip(domains, heights, strict=True):
        split = read_split(root, domain, "val")
        pencil.text((6, top + height // 2 - 8), domain.column, fill="black", font=font)
        for place, index in enumerate(_different(split)):
            with Image.open(root / split.files[index]) as image:
                left = _LABEL + place * (_CELL + _GAP) + (_CELL - image.width) // 2
                sheet.paste(image.convert("RGB"), (left, top + (height - image.height) // 2))
        top += height + _GAP
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)


def _different(split) -> list[int]:
    """Indices of eight images, of eight classes where there are as many, spread over the classes."""
    rank = np.zeros(len(split), dtype=np.int64)
    seen: dict[int, int] = {}
    for index, label in enumerate(split.labels):
        rank[index] = seen.get(label, 0)
        seen[label] = rank[index] + 1
    order = np.lexsort((split.labels, rank))
    first = order[: max(len(seen), _ROWS)]
    return [int(first[i]) for i in np.linspace(0, len(first) - 1, min(_ROWS, len(first))).astype(int)]


def _row_height(split) -> int:
    heights = []
    for index in _different(split):
        with Image.open(split.root / split.files[index]) as image:
            heights.append(image.height)
    return max(heights)
