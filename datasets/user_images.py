"""Images that a user passes in memory or by path, with the same pixels as in a pack.

Each one is a path, the content of a file, a PIL image, an array or a tensor.
"""

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
    """A replacement for a Pack: images in memory, with the same pixels as a pack with the same `shorter` side."""

    labels = None

    def __init__(self, images: Sequence[UserImage], shorter: int, domain: str):
        self._pixels = [
            np.asarray(resized(rgb(image, f"image {i}", domain), shorter)) for i, image in enumerate(images, 1)
        ]
        self.ids = np.arange(1, len(images) + 1)
        self.sizes = np.array([pixels.shape[:2] for pixels in self._pixels]).reshape(-1, 2)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.ids)

    def images(self, index: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the images with the indices (n,), (H, W, 3) uint8 each."""
        return (self._pixels[i] for i in index.tolist())


def list_images(images: Any) -> list | None:
    """The images of an iterable, or of an array or tensor with four dimensions; None if `images` is a single image.

    An array of paths or other objects with one dimension is a list of images too. For a dictionary the result is None,
    and `rgb` refuses it.
    """
    if isinstance(images, np.ndarray) and images.dtype.kind in "OU" and images.ndim == 1:
        return images.tolist()
    if isinstance(images, np.ndarray | Tensor):
        return list(images) if images.ndim == 4 else None
    if isinstance(images, str | _CONTENT | os.PathLike | Image.Image | Mapping) or not isinstance(images, Iterable):
        return None
    return None if hasattr(images, "read") else list(images)


def rgb(image: UserImage, name: str, domain: str) -> Image.Image:
    """One image as 8-bit RGB, decoded like an image file; `name` and `domain` are only used in messages.

    Bytes, or an object that reads bytes, such as `open(path, "rb")`, are the whole content of a file; it is read from
    its beginning if it can seek. A PIL image may have any mode that a file may have. An array or a tensor has the shape
    (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels in the order RGB; the fourth, alpha, is dropped. If both the
    first and the last dimension could be the channels, they are the first of a tensor and the last of an array. Values
    are integers from 0 to 255, uint16 from 0 to 65,535, or floats from 0 to 1, rounded to 8 bits as in a file. Raises
    InputError.
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
        remedy = "give a path, an open file, a PIL image, an array or a tensor"
        raise InputError(f"{domain}: {name} is a {type(image).__name__}; {remedy}")
    pixels = _eight_bits(_channels_last(values, isinstance(image, Tensor), name, domain), name, domain)
    return decode_image(Image.fromarray(pixels), Path(name), domain)


def _content(file: BinaryIO, name: Path, domain: str) -> bytes:
    """The whole content of an open file, read from its beginning as PIL does: its position may be at the end."""
    try:
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)
        data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a ValueError if the file is closed, or is text that is not UTF-8
        if isinstance(file, io.TextIOBase) and not file.closed:
            raise ImageError(domain, name, "is a file opened as text", 'open it with "rb"') from None
        raise ImageError(domain, name, f"cannot be read ({reason(error)})", "open it again") from None
    if not isinstance(data, _CONTENT):
        problem = f"is a {type(file).__name__} that reads {type(data).__name__}, not bytes"
        raise ImageError(domain, name, problem, 'open a file with "rb"')
    if len(data) > MAX_BYTES:
        raise ImageError(domain, name, f"has more than {MAX_BYTES:,} bytes", "make it smaller or remove it")
    return bytes(data)


def _channels_last(values: np.ndarray, tensor: bool, name: str, domain: str) -> np.ndarray:
    """The values as (H, W) or (H, W, 3 or 4)."""
    ends = [end for end in ((0, 2) if tensor else (2, 0)) if values.ndim == 3 and values.shape[end] in (1, 3, 4)]
    if values.size and values.ndim == 2:
        return values
    if values.size and ends:
        values = np.moveaxis(values, ends[0], 2)
        return values[..., 0] if values.shape[2] == 1 else values
    kind = "a tensor" if tensor else "an array"
    raise InputError(f"{domain}: {name} is {kind} of shape {values.shape}; give (H, W, 3), (3, H, W) or (H, W)")


def _eight_bits(values: np.ndarray, name: str, domain: str) -> np.ndarray:
    """The values rounded to uint8. Raises InputError for other types and ranges than `rgb` accepts."""
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) * 255 + 32767) // 65535
    elif values.dtype.kind == "f":
        values = np.rint(values.astype(np.float64) * 255)
    elif values.dtype.kind not in "iu":
        raise InputError(f"{domain}: {name} holds {values.dtype}; give uint8 from 0 to 255 or floats from 0 to 1")
    if not (values.min() >= 0 and values.max() <= 255):  # also refuses NaN
        problem = "floats outside of 0 to 1" if values.dtype.kind == "f" else "numbers outside of 0 to 255"
        raise InputError(f"{domain}: {name} holds {problem}; give the image itself, not normalised")
    return np.ascontiguousarray(values, np.uint8)
