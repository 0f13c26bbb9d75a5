"""A user's images have the same pixels as a pack of the same file, in whatever form they are given."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visual_decathlon.datasets import user_images
from visual_decathlon.datasets.annotations import Split
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.pack import pack
from visual_decathlon.datasets.user_images import ImagesInMemory, list_images, rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
CLOSED = io.BytesIO(b"x")
CLOSED.close()


def test_files_of_every_kind_as_a_pack_has_them(tmp_path: Path):
    """By path and opened by PIL: greys, alpha, palettes, 16 bits, CMYK, a photograph with an orientation."""
    image, exif = Image.fromarray(PIXELS), Image.Exif()
    exif[0x0112] = 6  # viewers rotate it, the suite does not
    image.save(tmp_path / "rgb.png")
    image.convert("L").save(tmp_path / "grey.png")
    image.convert("1").save(tmp_path / "bits.png")
    image.convert("P").save(tmp_path / "palette.gif", transparency=3)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.save(tmp_path / "turned.jpg", exif=exif)
    Image.merge("RGBA", (*image.split(), image.convert("L"))).save(tmp_path / "alpha.png")
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 256).save(tmp_path / "deep.png")
    image.resize((73, 90)).save(tmp_path / "kept.webp")
    files = sorted(path.name for path in tmp_path.iterdir())
    split = Split(DOMAINS["dtd"], "val", tmp_path, files, np.arange(len(files)), None, ("a",), "", tmp_path)
    wanted = pack(split, tmp_path / "cache", 12)
    index = np.arange(len(files))
    for images in ([tmp_path / f for f in files], [str(tmp_path / f) for f in files]):
        for image, pixels in zip(ImagesInMemory(images, 12, "dtd").images(index), wanted.images(index), strict=True):
            assert np.array_equal(image, pixels)
    opened = [Image.open(tmp_path / f) for f in files]
    loaded = ImagesInMemory(opened, 12, "dtd")
    assert np.array_equal(loaded.sizes, wanted.sizes) and len(loaded) == 9
    for file, image, pixels in zip(files, loaded.images(index), wanted.images(index), strict=True):
        assert np.array_equal(image, pixels), file
    assert [image.mode for image in opened if image.filename.endswith("grey.png")] == ["L"], "it is unchanged"


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        PIXELS.transpose(2, 0, 1),
        np.asfortranarray(PIXELS)[:, ::-1][:, ::-1],
        np.dstack([PIXELS, PIXELS[..., :1]]),
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        (PIXELS / 255).astype(np.float16),
        PIXELS.astype(np.int64),
        PIXELS.astype(np.uint16) * 257,
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
        (torch.from_numpy(PIXELS) / 255).requires_grad_(),
    ],
    ids=lambda image: f"{type(image).__name__} {getattr(image, 'dtype', '')} {getattr(image, 'shape', '')}",
)
def test_arrays_and_tensors_are_the_image(image):
    assert np.array_equal(np.asarray(rgb(image, "it", "dtd")), PIXELS)


def test_the_content_of_a_file(tmp_path: Path, monkeypatch):
    """An open file is read from its beginning, whatever its position is and however often it is given."""
    path = tmp_path / "x.png"
    Image.fromarray(PIXELS).save(path)
    data, written = path.read_bytes(), io.BytesIO()
    Image.fromarray(PIXELS).save(written, "PNG")  # its position is at the end
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    with path.open("rb") as file, open(reader, "rb") as pipe:
        for image in (data, bytearray(data), memoryview(data), file, file, written, pipe):
            assert np.array_equal(np.asarray(rgb(image, "it", "dtd")), PIXELS)
    with path.open() as text, pytest.raises(InputError, match='dtd: it is a file opened as text; open it with "rb"'):
        rgb(text, "it", "dtd")
    monkeypatch.setattr(user_images, "MAX_BYTES", len(data) - 1)
    with pytest.raises(InputError, match="dtd: it has more than"):
        rgb(written, "it", "dtd")


def test_one_channel_is_grey():
    for values in (PIXELS[..., 0], PIXELS[..., :1], torch.from_numpy(PIXELS[..., 0] / 255)[None]):
        assert np.array_equal(np.asarray(rgb(values, "it", "dtd")), PIXELS[..., [0, 0, 0]])


def test_ambiguous_shapes_are_read_as_the_library_orders_them():
    cube = np.random.default_rng(1).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(rgb(cube, "it", "dtd")), cube)
    assert np.array_equal(np.asarray(rgb(torch.from_numpy(cube), "it", "dtd")), cube.transpose(1, 2, 0))


def test_one_and_several():
    for one in ("a.jpg", Path("a.jpg"), Image.fromarray(PIXELS), PIXELS, torch.from_numpy(PIXELS), b"x", 5):
        assert list_images(one) is None
    for one in (bytearray(b"x"), memoryview(b"x"), io.BytesIO(b"a\nb"), {"a.jpg": 1}):
        assert list_images(one) is None
    assert list_images(np.array(["a", "b"])) == list_images(np.array(["a", "b"], object)) == ["a", "b"]
    assert list_images(("a", "b")) == ["a", "b"] and list_images(Path(p) for p in "ab") == [Path("a"), Path("b")]
    assert len(list_images(np.stack([PIXELS] * 4))) == 4 and list_images([]) == []
    assert list_images(torch.from_numpy(PIXELS)[None])[0].shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((4, 4, 3), 1.5), "floats outside of 0 to 1"),
        (torch.full((3, 4, 4), -2.0), "floats outside of 0 to 1; give the image itself, not normalised"),
        (torch.full((3, 4, 4), torch.nan), "floats outside"),
        (np.full((4, 4, 3), 256), "numbers outside of 0 to 255"),
        (np.full((4, 4, 3), -1, np.int8), "numbers outside"),
        (np.zeros((4, 4, 3), bool), "holds bool"),
        (np.zeros((4, 4, 3), complex), "holds complex128"),
        (np.array([["a"]]), "holds <U1"),
        (np.zeros((5, 6, 2)), "is an array of shape (5, 6, 2); give (H, W, 3)"),
        (np.zeros((0, 4, 3)), "is an array of shape (0, 4, 3)"),
        (np.zeros((2, 3, 4, 4)), "is an array of shape (2, 3, 4, 4)"),
        (np.zeros(7), "is an array of shape (7,)"),
        (torch.zeros(7), "is a tensor of shape (7,)"),
        (torch.zeros(3, 2, 200), "over 50 times as many one way"),
        (Image.new("F", (4, 4)), "mode F"),
        (Image.new("RGB", (0, 0)), "has no pixels (0 × 0)"),
        (Image.new("L", (0, 5)), "has no pixels (0 × 5)"),
        (b"bytes", "is not an image (JPEG"),
        (b"", "is empty (0 bytes)"),
        (io.BytesIO(b"bytes"), "is not an image (JPEG"),
        (io.StringIO("text"), "is a StringIO that reads str, not bytes"),
        (CLOSED, "cannot be read (I/O operation on closed file.); open it again"),
        ({"a.jpg": 1}, "is a dict; give a path"),
        ([PIXELS], "is a list; give a path"),
        (np.array(["a.jpg", "b.jpg"]), "is an array of shape (2,)"),
        (5, "is a int; give a path"),
        (None, "is a NoneType"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else type(value).__name__,
)
def test_anything_else_is_refused(image, message: str):
    with pytest.raises(InputError) as caught:
        ImagesInMemory([PIXELS, image], 8, "birds")
    assert str(caught.value).startswith("birds: image 2 ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_without_an_image(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(b"no image")
    cases = ((tmp_path / "x.png", "is not an image"), (tmp_path, "is not a plain file"), ("nowhere", "miss"))
    for path, message in cases:
        with pytest.raises(InputError, match=f"birds: .*{message}"):
            rgb(path, "it", "birds")
    cut = Image.fromarray(PIXELS)
    cut.save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:600])
    with pytest.raises(InputError, match=r"birds: .*truncated or damaged"):
        rgb(Image.open(tmp_path / "cut.png"), "it", "birds")
