"""Images of every mode become 8-bit RGB; every damaged file raises an error of one sentence."""

import io
import os

import numpy as np
import pytest
from PIL import Image, ImageFile

from visual_decathlon.datasets.decode import MAX_ASPECT, MAX_PIXELS, decode, decode_bytes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.text import printable

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def array(data):
    image = decode_bytes(data, "x", "mine")
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_rgb_is_untouched(kind):
    assert np.array_equal(array(encoded(RGB, kind)), PIXELS)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "P"])
def test_other_modes(mode):
    image = RGB.convert(mode)
    assert np.array_equal(array(encoded(image)), np.asarray(image.convert("RGB")))


def test_palette_with_transparency(recwarn):
    image = RGB.quantize(8)
    expected = np.asarray(image.convert("RGB"))
    for transparency in (3, bytes([0, 255, 7, 9])):
        data = encoded(image, transparency=transparency)
        assert np.array_equal(array(data), expected)
    assert not recwarn.list


def test_cmyk_jpeg():
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))  # pure cyan
    pixels = array(encoded(image, "JPEG", quality=95)).reshape(-1, 3).mean(0)
    assert np.allclose(pixels, (0, 255, 255), atol=6)


@pytest.mark.parametrize("kind", ["PNG", "PPM", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    values = np.array([[0, 128, 129, 255, 256, 32768, 65406, 65535]], dtype=np.uint16)
    image = Image.fromarray(values)
    expected = np.round(values / 65535 * 255).astype(np.uint8)
    assert expected.tolist() == [[0, 0, 1, 1, 1, 128, 254, 255]]
    assert np.array_equal(array(encoded(image, kind)), np.repeat(expected[..., None], 3, axis=2))


def test_32_bit_pixels_are_refused():
    for values in (np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32)):
        with pytest.raises(InputError, match="mine: x holds 32-bit pixels"):
            decode_bytes(encoded(Image.fromarray(values), "TIFF"), "x", "mine")


def test_every_truncation_of_a_jpeg_is_noticed():
    data = encoded(RGB, "JPEG")
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    for length in range(1, len(data)):
        with pytest.raises(InputError, match=r"^mine: x is (truncated|not an image)"):
            decode_bytes(data[:length], "x", "mine")


def test_bombs_are_refused():
    wide = Image.new("1", (MAX_PIXELS // 1000, 1001))
    with pytest.raises(InputError, match="pixels"):
        decode_bytes(encoded(wide), "x", "mine")
    header = bytearray(encoded(RGB, "BMP"))
    header[18:26] = (60_000).to_bytes(4, "little") * 2  # PIL's own limit raises here
    with pytest.raises(InputError, match="pixels"):
        decode_bytes(bytes(header), "x", "mine")


@pytest.mark.parametrize("turned", [False, True])
def test_long_thin_images_are_refused(turned):
    """An image at the limit is accepted; one pixel more is refused: packing could make it 36 × 144,000 pixels."""
    for length in (3 * MAX_ASPECT, 3 * MAX_ASPECT + 1):
        size = (3, length) if turned else (length, 3)
        data = encoded(Image.new("RGB", size))
        if length == 3 * MAX_ASPECT:
            assert decode_bytes(data, "x", "mine").size == size
        else:
            with pytest.raises(InputError, match=rf"^mine: x has {size[0]} × {size[1]} pixels, over 50 times .*; crop"):
                decode_bytes(data, "x", "mine")


def test_files(tmp_path):
    good = tmp_path / "good.png"
    RGB.save(good)
    assert np.array_equal(np.asarray(decode(good, "mine")), PIXELS)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:200])
    RGB.save(tmp_path / "drawing.eps")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, words in {
        "absent.jpg": "is missing",
        "empty.jpg": "0 bytes",
        "text.jpg": "is not an image",
        "cut.png": "truncated",
        "drawing.eps": "is not an image",
        "pipe.jpg": "not a plain file",
        "nul\0.jpg": "is missing",
    }.items():
        with pytest.raises(InputError) as error:
            decode(tmp_path / name, "mine")
        sentence = str(error.value)
        assert words in sentence
        assert sentence.startswith(f"mine: {printable(str(tmp_path / name))} ")
        assert ";" in sentence
    with pytest.raises(InputError, match="0 bytes"):
        decode_bytes(b"", "x", "mine")
