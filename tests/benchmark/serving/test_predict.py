"""Predictions of a loaded domain are those of its run's evaluation, with class names."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from visual_decathlon.benchmark.backbones.build import build
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.perf.growth.domains import write
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.serving.metadata import AdapterMetadata
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.benchmark.serving.predict import preprocess
from visual_decathlon.datasets.batches import Batches, whole_pack
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.pack import Pack
from visual_decathlon.methods.registry import select

CLASSES = ("b c", "Ärger\t=1", "ç")
SMALL = "width=0.125 epochs=1 batch=8 resize=40 crop=24 uncropped_size=40"


@pytest.fixture(scope="module")
def birds(picture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An own domain with many sizes and kinds of files, a mean and std of its own, and no crop."""
    root = tmp_path_factory.mktemp("own") / "birds"
    for split, each in (("train", 4), ("val", 3)):
        for kind, name in enumerate(CLASSES):
            folder = root / split / name / "deeper"
            folder.mkdir(parents=True)
            for i in range(each):
                image = picture(kind, 100 * i + kind).resize((50 + 7 * i, 44 + 9 * kind))
                image = image.convert(("RGB", "L", "RGBA", "P")[i])
                image.save(folder / f"é {i}.{'png' if i else 'jpg'}")
    about = {"mean": [0.3, 0.4, 0.5], "std": [0.2, 0.3, 0.2], "flip": False, "crop": False}
    (root / "domain.json").write_text(json.dumps(about))
    return root


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain network whose metadata state the mean and std of its images."""
    torch.manual_seed(0)
    network = build(profile("standin", ["width=0.125"]), "plain", 3)
    path = tmp_path_factory.mktemp("given") / "given.safetensors"
    save_file(dict(network.state_dict()), path, {"mean": "[0.5, 0.4, 0.3]", "std": "[0.2, 0.2, 0.1]"})
    return path


def test_a_runs_own_images_to_the_bit(here, birds: Path, given: Path, tmp_path: Path, bench):
    """A cropped official domain, one without crop, and an own domain; with the given network's mean and std, or not.

    By path, and as PIL images.
    """
    words = ("--own", f"birds={birds}", "--domains", "dtd", "gtsrb", "birds", "--predictions", "--backbone", str(given))
    done = here(*words, method="bn_adapt", results=tmp_path, settings=SMALL)
    assert done.code == 0, done.err
    heads, files = {}, {}
    for record in read_records([tmp_path / "records"]):
        net = MultiDomain(bench.cache / "backbones" / f"{record['backbone']}.safetensors")
        name = net.load(tmp_path / "adapters" / f"{record['hash']}.safetensors", merge=True)
        head, root = net.held[name].metadata, birds if name == "birds" else bench.data
        heads[name] = head.crop, head.mean, net.classes(name)
        rows = pq.read_table(ResultsFolder(tmp_path).predictions(record["hash"])).to_pylist()
        files[name] = [row["file"] for row in rows]
        paths = [root / file for file in files[name]]
        (folder,) = (bench.cache / "packs").glob(f"{name}-val-40-*")
        domain = dataclasses.replace(DOMAINS["dtd"], mean=head.mean, std=head.std)
        wanted = torch.cat([x for x, _ in Batches([whole_pack(Pack(folder))], domain, head.crop, 8).evaluate()])
        for images in (paths, [Image.open(path) for path in paths]):
            assert torch.equal(torch.cat([*preprocess(images, head, net.device, net.layout)]), wanted), name
            for row, prediction in zip(rows, net.predict(images, name), strict=True):
                assert list(prediction.names) == row["top5_names"] and prediction.name == row["class_name"]
                assert row["category_id"] % 10**7 == prediction.label + 1
        right = [Path(row["file"]).parts[1] == row["class_name"] for row in rows]
        assert name != "birds" or record["correct"] == sum(right)
    assert heads == {
        "dtd": (24, (0.5, 0.4, 0.3), ("a", "b", "c")),
        "gtsrb": (40, (0.5, 0.4, 0.3), ("a", "b", "c")),
        "birds": (40, (0.3, 0.4, 0.5), CLASSES),
    }
    assert files["birds"] == [f"val/{name}/deeper/é {i}.{'png' if i else 'jpg'}" for name in CLASSES for i in range(3)]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A backbone and the file of a domain on it, as earlier versions wrote it: without class names."""
    return write(select("ssf")[0], tmp_path_factory.mktemp("untrained"), 0.125)[:2]


@pytest.fixture
def net(untrained: tuple[Path, Path], tmp_path: Path) -> MultiDomain:
    """The domain is loaded as `old`, and as `new` with class names."""
    backbone, file = untrained
    out = MultiDomain(backbone)
    out.load(file, "old")
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    assert "names" not in about
    names = json.dumps([f"class {i}" for i in range(int(about["classes"]))])
    save_file(load_file(file), tmp_path / "new.safetensors", about | {"names": names})
    out.load(tmp_path / "new.safetensors", "new")
    return out


def test_inputs_and_outputs_of_predict(net: MultiDomain, picture, tmp_path: Path):
    image, file = picture(1, 5).resize((80, 70)), tmp_path / "x.png"
    image.save(file)
    pixels = np.array(image)
    wanted = net.predict(file, "new")
    with pytest.raises(InputError, match="no domain is in use"):
        net.predict(file)
    net.use("new")
    content = file.read_bytes()
    for one in (
        str(file),
        content,
        io.BytesIO(content),
        image,
        Image.open(file),
        pixels,
        torch.from_numpy(pixels).permute(2, 0, 1) / 255,
    ):
        assert net.predict(one) == wanted
    assert net.predict([file]) == [wanted] == net.predict(pixels[None]) == net.predict(iter([pixels]))
    with file.open("rb") as opened:
        assert net.predict(opened) == wanted and net.predict([opened]) == [wanted] == net.predict([content])
    assert net.predict(np.array([str(file)])) == net.predict(np.array([file])) == [wanted]
    assert net.predict([]) == []
    (x,) = preprocess([image], net.held["new"].metadata, net.device, net.layout)
    probabilities = net(x)[0].softmax(0)
    assert wanted.labels == tuple(probabilities.argsort(descending=True)[:5].tolist())
    assert wanted.probabilities == tuple(probabilities[[*wanted.labels]].tolist())
    assert wanted.names == tuple(f"class {i}" for i in wanted.labels) and len(wanted.labels) == 5
    assert (wanted.label, wanted.name, wanted.probability) == (
        wanted.labels[0],
        wanted.names[0],
        wanted.probabilities[0],
    )
    with pytest.raises(InputError, match=r"cifar100: image 2 is an array of shape \(3,\)"):
        net.predict([file, np.zeros(3)])
    with pytest.raises(InputError, match=r"no domain is loaded as 'newt' \(loaded: old, new\)"):
        net.predict(file, "newt")


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (torch.zeros(3, 64, 64), "a tensor of shape (3, 64, 64) and float32"),
        (torch.zeros(2, 1, 64, 64), "a tensor of shape (2, 1, 64, 64) and float32"),
        (torch.zeros(2, 64, 64, 3), "a tensor of shape (2, 64, 64, 3) and float32"),
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), "a tensor of shape (2, 3, 64, 64) and uint8"),
        (torch.zeros(2, 3, 64, 64, dtype=torch.float64), "a tensor of shape (2, 3, 64, 64) and float64"),
        (torch.zeros(2, 3, 64, 64, dtype=torch.bfloat16), "a tensor of shape (2, 3, 64, 64) and bfloat16"),
        (np.zeros((2, 3, 64, 64), np.float32), "a ndarray"),
        ("x.png", "a str"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_batches_of_wrong_shape_or_type(net: MultiDomain, batch, expected: str):
    crop = net.held["new"].metadata.crop
    with pytest.raises(InputError) as caught:
        net(batch, "new")
    assert str(caught.value) == (
        f"the batch is {expected}; give a tensor of shape (N, 3, {crop}, {crop}) and float32, normalised, or give the "
        "images themselves to predict()"
    )


@pytest.mark.parametrize("size", [(30, 64), (1, 1), (0, 64)])
def test_a_size_that_the_network_does_not_take(net: MultiDomain, size: tuple[int, int]):
    with pytest.raises(InputError) as caught:
        net(torch.zeros(2, 3, *size), "new")
    message = str(caught.value)
    assert message.startswith(f"the batch is a tensor of shape (2, 3, {size[0]}, {size[1]}) and float32, a size that ")
    assert f"(N, 3, {net.held['new'].metadata.crop}, " in message and "\n" not in message


def test_an_error_of_the_network_itself_is_no_bad_batch(net: MultiDomain):
    def fail(*_):
        raise RuntimeError("a defect")

    net.held["new"].network.register_forward_pre_hook(fail)
    crop = net.held["new"].metadata.crop
    with pytest.raises(RuntimeError, match="a defect"):
        net(torch.zeros(2, 3, crop, crop), "new")


def test_batches_of_other_sizes_and_under_autocast(net: MultiDomain):
    for size in ((8, 8), (40, 72)):
        assert net(torch.zeros(2, 3, *size), "new").isfinite().all()
    assert len(net(torch.zeros(0, 3, 64, 64), "new")) == 0
    with torch.autocast("cpu", torch.bfloat16):
        assert net(torch.zeros(2, 3, 64, 64, dtype=torch.bfloat16), "new").isfinite().all()


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("gpu", "device='gpu' is no device that torch knows; give 'cpu', 'cuda', 'mps' or 'xpu'"),
        ("", "device='' is no device that torch knows"),
        (None, "device=None is no device that torch knows"),
        ("cuda", "device='cuda': torch sees no CUDA device here; leave device out to compute on the CPU"),
        ("cuda:1", "device='cuda:1': torch sees no CUDA device here"),
        (torch.device("cuda"), "device='cuda': torch sees no CUDA device here"),
        ("xpu", "device='xpu': torch sees no Intel GPU here"),
        ("meta", "device='meta': torch sees no such device here"),
    ],
    ids=str,
)
def test_a_device_that_torch_does_not_see(untrained: tuple[Path, Path], device, expected: str):
    if "cuda" in str(device) and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(InputError) as caught:
        MultiDomain(untrained[0], device)
    assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)


def test_the_readmes_example(untrained: tuple[Path, Path], net: MultiDomain, picture, tmp_path: Path, capsys):
    section = (Path(__file__).parents[3] / "README.md").read_text().split("## Use a trained domain")[1]
    code = section.split("```python\n")[1].split("```")[0]
    picture(1, 5).save(tmp_path / "picture.jpg")
    there = {
        ".cache/backbones/0123456789abcdef.safetensors": untrained[0],
        "results/runs/adapters/fedcba9876543210.safetensors": tmp_path / "new.safetensors",
        "picture.jpg": tmp_path / "picture.jpg",
    }
    for name, path in there.items():
        assert f'"{name}"' in code
        code = code.replace(f'"{name}"', repr(str(path)))
    values = {"x": torch.zeros(2, 3, 64, 64)}
    exec(code, values)
    prediction = net.predict(tmp_path / "picture.jpg", "new")
    assert capsys.readouterr().out == f"{prediction.name} {prediction.probability} {prediction.names}\n"
    assert torch.equal(values["logits"], net(values["x"], "new")) and values["net"].held == {}


def test_files_without_names_are_read_as_before(net: MultiDomain, picture):
    assert net.classes("old") is None and net.classes("new")[7] == "class 7"
    before, now = (net.predict(picture(0, 1), name) for name in ("old", "new"))
    assert before.name is before.names is None
    assert (before.labels, before.probabilities) == (now.labels, now.probabilities)


def test_torchs_defaults_have_no_effect(net: MultiDomain, untrained: tuple[Path, Path], picture):
    """The default dtype and device belong to the whole process, and are left unchanged."""
    wanted = net.predict(picture(0, 1), "old")
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        again = MultiDomain(untrained[0])
        again.load(untrained[1], "old")
        again.load(untrained[1], "merged", merge=True)
        assert torch.get_default_dtype() is torch.float64 and torch.empty(1).is_meta
        torch.set_default_device(None)
        assert again.predict(picture(0, 1), "old") == wanted
        assert again.predict(picture(0, 1), "merged").labels == wanted.labels
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    with torch.autocast("cpu", torch.bfloat16):
        again.load(untrained[1], "again")
    assert again.predict(picture(0, 1), "again") == wanted


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ('["a", "b"]', "2 names of 3 classes"),
        ('["a", "b", 5]', "Expected `str`, got `int` - at `$.names[2]`"),
        ('{"a": 1}', "at `$.names`"),
        ("[", "truncated"),
        ("[" * 100_000, "is no file of a domain's adapters"),
        ("[" + '"",' * 4_000_000, "class names of over 10,000,000 characters"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_invalid_class_names(names: str, expected: str, tmp_path: Path):
    about = head(("a", "b", "c")).metadata() | {"names": names}
    with pytest.raises(InputError, match="is no file of a domain's adapters") as caught:
        AdapterMetadata.parse(about, tmp_path / "x.safetensors")
    assert expected in str(caught.value) and len(str(caught.value)) < 500


def head(names: tuple[str, ...] | None, classes: int = 3) -> AdapterMetadata:
    hash = "0" * 16
    colours = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
    return AdapterMetadata(
        method="m", backbone=hash, domain="d", classes=classes, crop=8, shorter=8, training=1, names=names, **colours
    )


def test_as_many_names_as_omniglot_has_and_of_any_characters(tmp_path: Path):
    names = tuple(f'Alphabet_of_the_Magi/character{i:02} \x1b[31m\n\t"\\ 文字 🐦' for i in range(1623))
    path = tmp_path / "x.safetensors"
    save_file({"x": torch.ones(1)}, path, head(names, 1623).metadata())
    with safe_open(path, "pt") as file:
        assert AdapterMetadata.parse(file.metadata(), path).names == names
    assert "names" not in head(None).metadata()
    long = head(("x" * 9_999_990, "y", "z")).metadata()  # never so long that it could not be read
    assert "names" not in long and AdapterMetadata.parse(long, path).names is None
    with pytest.raises(InputError, match="a crop of 8 pixels of a shorter side of 7"):
        AdapterMetadata.parse(head(None).metadata() | {"shorter": "7"}, path)
