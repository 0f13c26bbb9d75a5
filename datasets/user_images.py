"""Images in hand, a path, a file's content, a PIL image, an array or a tensor each, as a pack would hold them."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from visual_decathlon.datasets.decode import MAX_BYTES, decode, decode_bytes, decode_image, resized
from visual_decathlon.datasets.errors import ImageError, InputError, reason

UserImage: TypeAlias = str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray | Tensor
"""One image. See `rgb`."""
_CONTENT = bytes | bytearray | memoryview


class ImagesInMemory:
    """Stands in for a Pack: images in memory, of the same pixels as a pack of the same `shorter` side."""

    labels = None

    def __init__(self, images: Sequence[UserImage], shorter: int, domain: str):
        self._pixels = [
            np.asarray(resized(rgb(image, f"image {i}", domain), shorter)) for i, image in enumerate(images, 1)
        ]
        self.ids = np.arange(1, len(images) + 1)
        self.sizes = np.array([pixels.shape[:2] for pixels in self._pixels]).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.ids)

    def images(self, index: np.ndarray) -> Iterator[np.ndarray]:
        return (self._pixels[i] for i in index.tolist())


def list_images(images: Any) -> list | None:
    """The images of an iterable, or of an array or tensor of four dimensions; None where `images` is a single one.

    An array of paths or other objects, of one dimension, is several, too. A dictionary is none: `rgb` refuses it.
    """
    if isinstance(images, np.ndarray) and images.dtype.kind in "OU" and images.ndim == 1:
        return images.tolist()
    if isinstance(images, np.ndarray | Tensor):
        return list(images) if images.ndim == 4 else None
    if isinstance(images, str | _CONTENT | os.PathLike | Image.Image | Mapping) or not isinstance(images, Iterable):
        return None
    return None if hasattr(images, "read") else list(images)


def rgb(image: UserImage, name: str, domain: str) -> Image.Image:
    """One image as 8-bit RGB, as the file of it is decoded; `name` and `domain` are for messages only.

    Bytes, and an object that reads bytes, as `open(path, "rb")` gives it, are a file's whole content; it is read from
    its beginning where it can go there. A PIL image may have any mode that a file may have. An array or a tensor is
    (H, W), (H, W, C) or (C, H, W), with 1, 3 or 4 channels, RGB, of which the fourth, alpha, is dropped; where both
    ends fit, a tensor has its channels first and an array last. Its values are whole numbers 0 to 255, uint16 0 to
    65,535, or floats 0 to 1, rounded to 8 bits as in a file. Raises InputError.
    """
    if isinstance(image, str | os.PathLike):
        return decode(Path(image), domain)
    if isinstance(image, Image.Image):
        return decode_image(image, Path(name), domain)
    if isinstance(image, _CONTENT):
        return decode_bytes(bytes(image), Path(name), domain)
    if hasattr(image, "read"):
        return decode_bytes(_content(image, Path(name), domain), Path(name), domain)
    if isinstance(image, Tensor):
        values = image.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    elif isinstance(image, np.ndarray):
        values = image
    else:
        what = "give a path, an open file, a PIL image, an array or a tensor"
        raise InputError(f"{domain}: {name} is a {type(image).__name__}; {what}")
    grey = _eight_bits(_channels_last(values, isinstance(image, Tensor), name, domain), name, domain)
    return decode_image(Image.fromarray(grey), Path(name), domain)


def _content(file: BinaryIO, name: Path, domain: str) -> bytes:
    """All of an open file, which may end where it was written last: from its beginning, as PIL reads it."""
    try:
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)
        data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a closed file's is a ValueError, and so is a text's that is no UTF-8
        if isinstance(file, io.TextIOBase) and not file.closed:
            raise ImageError(domain, name, "is a file opened as text", 'open it with "rb"') from None
        raise ImageError(domain, name, f"cannot be read ({reason(error)})", "open it again") from None
    if not isinstance(data, _CONTENT):
        told = f"is a {type(file).__name__} that reads {type(data).__name__}, not bytes"
        raise ImageError(domain, name, told, 'open a file with "rb"')
    if len(data) > MAX_BYTES:
        raise ImageError(domain, name, f"has more than {MAX_BYTES:,} bytes", "make it smaller or remove it")
    return bytes(data)


def _channels_last(values: np.ndarray, tensor: bool, name: str, domain: str) -> np.ndarray:
    """(H, W) or (H, W, 3 or 4)."""
    ends = [end for end in ((0, 2) if tensor else (2, 0)) if values.ndim == 3 and values.shape[end] in (1, 3, 4)]
    if values.size and values.ndim == 2:
        return values
    if values.size and ends:
        values = np.moveaxis(values, ends[0], 2)
        return values[..., 0] if values.shape[2] == 1 else values
    kind = "a tensor" if tensor else "an array"
    raise InputError(f"{domain}: {name} is {kind} of shape {values.shape}; give (H, W, 3), (3, H, W) or (H, W)")


def _eight_bits(values: np.ndarray, name: str, domain: str) -> np.ndarray:
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) * 255 + 32767) // 65535
    elif values.dtype.kind == "f":
        values = np.rint(values.astype(np.float64) * 255)
    elif values.dtype.kind not in "iu":
        raise InputError(f"{domain}: {name} holds {values.dtype}; give uint8 from 0 to 255 or floats from 0 to 1")
    if not (values.min() >= 0 and values.max() <= 255):  # NaN is neither
        what = "floats outside of 0 to 1" if values.dtype.kind == "f" else "numbers outside of 0 to 255"
        raise InputError(f"{domain}: {name} holds {what}; give the image itself, not normalised")
    return np.ascontiguousarray(values, np.uint8)
