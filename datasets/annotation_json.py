"""Reads the JSON of an annotation file: takes what training needs, in the spellings that tools write, and no more.

As the common COCO readers do, it leaves alone what it has no use for (info, licenses, areas, boxes, sizes: the
image itself says how large it is). Numbers may be written as 1, 1.0 or "1".
"""

import json
from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from visual_decathlon.datasets.errors import InputError

Bad = Callable[[str, str], InputError]
"""bad(what is wrong with the file, the remedy)"""

_Id = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]  # differences of two stay inside int64


class ListedImage(msgspec.Struct):
    id: _Id
    file_name: str
    width: Any = None
    height: Any = None


class Annotation(msgspec.Struct):
    image_id: _Id
    category_id: _Id


class Category(msgspec.Struct):
    id: _Id
    name: Any = None


class Content(msgspec.Struct):
    images: list[ListedImage]
    categories: list[Category]
    annotations: list[Annotation] | None = None  # absent where labels are kept back
    info: Any = None


_LISTS = {"images": ListedImage, "categories": Category, "annotations": Annotation}
_REMEDIES = {
    "id": "give each a whole number of its own",
    "file_name": "write the image's path below the release, such as data/dtd/train/0001/000001.jpg",
    "image_id": "write the id of the image",
    "category_id": "write the id of the category",
    "images": "write a list of {id, file_name}",
    "categories": "write a list of {id, name}",
    "annotations": "write a list of {image_id, category_id}",
}


def read_content(data: bytes, bad: Bad) -> Content:
    """What the file says. Raises `bad`, naming the entry and the field, where something is amiss."""
    data = data.removeprefix(BOM_UTF8)
    try:
        return msgspec.json.decode(data, type=Content, strict=False)
    except msgspec.ValidationError:
        pass
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # NaN, which is no JSON, is written for an empty cell by tools that people use
    try:
        raw = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise bad(f"is no JSON ({error})", "restore the file, or save it again as UTF-8") from None
    try:
        return msgspec.convert(raw, Content, strict=False)
    except msgspec.ValidationError as error:
        what, field = _amiss(raw)
        raise bad(
            what or f"is not an annotation file ({error})", _REMEDIES.get(field, "see the README's layout")
        ) from None


def _amiss(raw: Any) -> tuple[str, str]:
    """(what is wrong, the field that it is about) of the first entry that does not fit."""
    if not isinstance(raw, dict):
        return "is not an annotation file: it holds no object with `images`, `categories`, `annotations`", ""
    for key, kind in _LISTS.items():
        entries = raw.get(key)
        if entries is None and key == "annotations":
            continue
        if entries is None:
            return f"lacks the key `{key}`", key
        if not isinstance(entries, list):
            return f"has {_short(entries)} as `{key}`", key
        for i, entry in enumerate(entries):
            if not isinstance(entry, dict):
                return f"has {_short(entry)} as {key}[{i}]", key
            for field in msgspec.structs.fields(kind):
                if field.required and field.name not in entry:
                    return f"lacks the key `{field.name}` in {key}[{i}]", field.name
                try:
                    msgspec.convert(entry.get(field.name), field.type, strict=False)
                except msgspec.ValidationError:
                    return f"has {_short(entry[field.name])} as `{field.name}` in {key}[{i}]", field.name
    return "", ""


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
