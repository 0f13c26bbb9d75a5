"""Decodes one image file to 8-bit RGB, or raises an error that explains in one sentence why it cannot.

Pixels are those of torchvision's ImageFolder loader (`convert("RGB")`: alpha is dropped, EXIF orientation is not
applied), except that 16-bit greys are scaled and not clipped.
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
"""The formats that are opened. They are listed because PIL would try all it knows, and run a program for EPS."""
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".ppm", ".pgm", ".pbm", ".pnm"}
    | {".bmp", ".tif", ".tiff", ".webp", ".gif"}
)
if find_spec("PIL._avif"):  # Pillow 11.3 and later, if built with AVIF
    FORMATS, SUFFIXES = (*FORMATS, "AVIF"), SUFFIXES | {".avif"}
MAX_PIXELS = 80_000_000
"""Larger images are refused before any pixel is decoded: they are decompression bombs, or not for this suite."""
MAX_BYTES = 2**29
"""Larger files are refused: no image of MAX_PIXELS needs as many bytes."""
MAX_ASPECT = 50
"""A larger ratio of the sides is refused: packing sets the shorter side, so 1 × 4000 pixels would become huge."""

# MAX_PIXELS is stricter and raises an error, so PIL's warning (from 89 million pixels) is not needed.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # "Corrupt EXIF data" and the like


def decode(path: Path, domain: str) -> Image.Image:
    """The image at `path` as 8-bit RGB. Raises InputError if it is missing, empty, truncated or not an image."""
    return decode_bytes(read_bytes(path, domain), path, domain)


def decode_bytes(data: bytes, path: Path, domain: str) -> Image.Image:
    """Like `decode`, for the bytes of a file; `path` and `domain` are only used in the message."""
    return to_rgb(load_bytes(data, path, domain), path, domain)


def read_bytes(path: Path, domain: str) -> bytes:
    """The bytes of an image file. Raises InputError if it is missing, unreadable or empty."""
    try:
        if not path.is_file():  # also False for a pipe, which would block for ever
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
    """The fully decoded image in its own mode (RGB, L, P, CMYK, ...). Raises InputError as `decode` does."""
    if not data:
        raise ImageError(domain, path, "is empty (0 bytes)", "restore or remove the file")
    return _loaded(lambda: Image.open(io.BytesIO(data), formats=FORMATS), path, domain)


def decode_image(image: Image.Image, path: Path, domain: str) -> Image.Image:
    """Like `decode`, for an image that PIL has opened or made; `path` and `domain` are only used in the message."""
    return to_rgb(_loaded(lambda: image, path, domain), path, domain)


def _loaded(open_image: Callable[[], Image.Image], path: Path, domain: str) -> Image.Image:
    """The image of `open_image()` with its pixels loaded. Raises ImageError if PIL fails or a limit is exceeded."""
    try:
        image = open_image()
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
        problem = f"is not an image ({', '.join(FORMATS)} are read)"
        raise ImageError(domain, path, problem, "restore or remove the file") from None
    except Image.DecompressionBombError:
        raise ImageError(domain, path, f"has more than {MAX_PIXELS:,} pixels", "make it smaller or remove it") from None
    except InputError:
        raise
    except MemoryError:
        raise ImageError(domain, path, "needs more memory than there is", "make it smaller or remove it") from None
    except Exception as error:
        raise ImageError(domain, path, f"is truncated or damaged ({error})", "restore the file") from None


def to_rgb(image: Image.Image, path: Path, domain: str) -> Image.Image:
    """An opened image of any mode as 8-bit RGB. Raises InputError for modes that cannot be converted."""
    mode = image.mode
    if mode == "RGB":
        return image
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PPM", "PNG")):
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if mode == "P":
        image = image.convert("RGBA")  # a direct conversion makes PIL warn about the palette's transparency
    if mode in ("I", "F"):  # the value of white is not defined; PIL would clip at 255
        raise ImageError(domain, path, f"holds 32-bit pixels (mode {mode})", "save it with 8 or 16 bits a channel")
    try:
        return image.convert("RGB")
    except (ValueError, OSError) as error:
        raise ImageError(domain, path, f"is of mode {mode} ({error})", "save it as RGB") from None


def resized(image: Image.Image, shorter: int) -> Image.Image:
    """The image with its shorter side resized to `shorter` pixels by PIL's bicubic filter.

    A shorter side of `shorter` or `shorter` + 1 is kept: a few images of the release have 73 pixels instead of 72.
    """
    side = min(image.size)
    if shorter <= side <= shorter + 1:
        return image
    return image.resize([max(shorter, round(edge * shorter / side)) for edge in image.size], Image.Resampling.BICUBIC)
