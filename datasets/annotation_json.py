"""Reads the JSON of an annotation file: only the fields that training needs, in all spellings that common tools write.

Like the common COCO readers it ignores all other fields (licenses, areas, boxes). Width and height are kept as they
are written, for the check of a release; the image itself decides its size. Numbers may be written as 1, 1.0 or "1".
"""

import json
from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from visual_decathlon.datasets.errors import InputError

MakeError = Callable[[str, str], InputError]
"""`make_error(problem, remedy)`: the error for one annotation file."""

_Id = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]  # the difference of two ids fits into int64


class ListedImage(msgspec.Struct):
    """An entry of `images`."""

    id: _Id
    file_name: str
    width: Any = None
    height: Any = None


class Annotation(msgspec.Struct):
    """An entry of `annotations`: the label of one image."""

    image_id: _Id
    category_id: _Id


class Category(msgspec.Struct):
    """An entry of `categories`: one class."""

    id: _Id
    name: Any = None


class Content(msgspec.Struct):
    """The content of an annotation file."""

    images: list[ListedImage]
    categories: list[Category]
    annotations: list[Annotation] | None = None  # missing if labels are withheld
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


def read_content(data: bytes, make_error: MakeError) -> Content:
    """The content of the file. Raises `make_error(...)`, naming the entry and the field, if something is wrong."""
    data = data.removeprefix(BOM_UTF8)
    try:
        return msgspec.json.decode(data, type=Content, strict=False)
    except msgspec.ValidationError:
        pass
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # for example NaN, which is not JSON: common tools write it for an empty cell
    try:
        raw = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise make_error(f"is no JSON ({error})", "restore the file, or save it again as UTF-8") from None
    try:
        return msgspec.convert(raw, Content, strict=False)
    except msgspec.ValidationError as error:
        problem, field = _first_problem(raw)
        problem = problem or f"is not an annotation file ({error})"
        raise make_error(problem, _REMEDIES.get(field, "see the README's layout")) from None


def _first_problem(raw: Any) -> tuple[str, str]:
    """(problem, name of the field) of the first entry that does not fit; ("", "") if there is none."""
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
