"""Opens one image file and gives 8-bit RGB, or says in one sentence why it cannot.

Pixels come out as torchvision's ImageFolder loader gives them (`convert("RGB")`: alpha is dropped,
EXIF orientation is not applied), except that 16-bit greys are scaled and not clipped.
"""

import io
import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from visual_decathlon.datasets.errors import ImageError, InputError, reason
from visual_decathlon.datasets.io import read_plain

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
"""What is opened. Named, because PIL would try all it knows, and hand EPS to an outside program."""
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".ppm", ".pgm", ".pbm", ".pnm"}
    | {".bmp", ".tif", ".tiff", ".webp", ".gif"}
)
if find_spec("PIL._avif"):  # Pillow 11.3 and later, where it was built with it
    FORMATS, SUFFIXES = (*FORMATS, "AVIF"), SUFFIXES | {".avif"}
MAX_PIXELS = 80_000_000
"""Refused above this before any pixel is decoded: a decompression bomb, or no image for this suite."""
MAX_BYTES = 2**29
"""Of a file: more than any image of so many pixels has."""
MAX_ASPECT = 50
"""Refused above this many times as long as wide: packing sets the shorter side, and 1 x 4000 pixels would grow huge."""

# Ours is the stricter limit and an error, so PIL's warning (from 89 million pixels) is noise.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # "Corrupt EXIF data" and the like


def decode(path: Path, domain: str) -> Image.Image:
    """The image at `path` as 8-bit RGB; InputError where it is missing, empty, cut off or no image."""
    return decode_bytes(read_bytes(path, domain), path, domain)


def decode_bytes(data: bytes, path: Path, domain: str) -> Image.Image:
    """As `decode`, from bytes already read; `path` and `domain` are for the message only."""
    return to_rgb(load_bytes(data, path, domain), path, domain)


def read_bytes(path: Path, domain: str) -> bytes:
    """The bytes of an image file; InputError where there are none."""
    try:
        if not path.is_file():  # False for a pipe too, which would block for ever
            state = "is not a plain file" if path.exists() else "is missing"
            if path.is_symlink() and not path.exists():
                state = f"is a link to {os.readlink(path)}, which is missing"
            raise ImageError(domain, path, state, "restore or remove the file")
        data = read_plain(path, MAX_BYTES)
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(
            domain, path, f"cannot be read ({reason(error)})", "check the disk and its permissions"
        ) from None
    if not data:
        raise ImageError(domain, path, "is empty (0 bytes)", "restore or remove the file")
    return data


def load_bytes(data: bytes, path: Path, domain: str) -> Image.Image:
    """The fully decoded image in its own mode (RGB, L, P, CMYK, ...)."""
    if not data:
        raise ImageError(domain, path, "is empty (0 bytes)", "restore or remove the file")
    return _loaded(lambda: Image.open(io.BytesIO(data), formats=FORMATS), path, domain)


def decode_image(image: Image.Image, path: Path, domain: str) -> Image.Image:
    """As `decode`, of an image that PIL has opened or made; `path` and `domain` are for the message only."""
    return to_rgb(_loaded(lambda: image, path, domain), path, domain)


def _loaded(opened: Callable[[], Image.Image], path: Path, domain: str) -> Image.Image:
    try:
        image = opened()
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if not min(image.size):
            raise ImageError(domain, path, f"has no pixels ({image.width} × {image.height})", "restore or remove it")
        if max(image.size) > MAX_ASPECT * min(image.size):
            shape = f"has {image.width} × {image.height} pixels, over {MAX_ASPECT} times as many one way as the other"
            raise ImageError(domain, path, shape, "crop or remove it")
        image.load()
        return image
    except UnidentifiedImageError:
        what = f"is not an image ({', '.join(FORMATS)} are read)"
        raise ImageError(domain, path, what, "restore or remove the file") from None
    except Image.DecompressionBombError:
        raise ImageError(domain, path, f"has more than {MAX_PIXELS:,} pixels", "make it smaller or remove it") from None
    except InputError:
        raise
    except MemoryError:
        raise ImageError(domain, path, "needs more memory than there is", "make it smaller or remove it") from None
    except Exception as error:
        raise ImageError(domain, path, f"is truncated or damaged ({error})", "restore the file") from None


def to_rgb(image: Image.Image, path: Path, domain: str) -> Image.Image:
    """An opened image of any mode as 8-bit RGB."""
    mode = image.mode
    if mode == "RGB":
        return image
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PPM", "PNG")):
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if mode == "P":
        image = image.convert("RGBA")  # PIL warns of a palette's transparency on the direct way
    if mode in ("I", "F"):  # the meaning of white is nowhere said; PIL would clip at 255
        raise ImageError(domain, path, f"holds 32-bit pixels (mode {mode})", "save it with 8 or 16 bits a channel")
    try:
        return image.convert("RGB")
    except (ValueError, OSError) as error:
        raise ImageError(domain, path, f"is of mode {mode} ({error})", "save it as RGB") from None


def resized(image: Image.Image, shorter: int) -> Image.Image:
    """The image with a shorter side of so many pixels, by PIL's bicubic filter.

    One within a pixel of it is kept as it is: a few of the release have 73 in place of 72.
    """
    side = min(image.size)
    if shorter <= side <= shorter + 1:
        return image
    return image.resize([max(shorter, round(edge * shorter / side)) for edge in image.size], Image.Resampling.BICUBIC)
