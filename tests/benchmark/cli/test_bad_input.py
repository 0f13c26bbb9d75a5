"""Every bad input ends in one sentence that names the file, the domain and the mend, with nothing half-written."""

import errno
import json
import os
import re
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from visual_decathlon.benchmark.backbones.safetensors_file import write_safetensors
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.training import timing
from visual_decathlon.benchmark.training.evaluate import evaluate
from visual_decathlon.datasets import io
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_bytes

ROOT = Path(__file__).parents[3]
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def broken(tiny: Path, tmp_path: Path) -> Path:
    """A copy of two domains of the release, to be broken."""
    root = tmp_path / "broken"
    for name in ("imagenet12", "dtd"):
        shutil.copytree(tiny / "data" / name, root / "data" / name)
        for file in (tiny / "annotations").glob(f"{name}_*"):
            (root / "annotations").mkdir(exist_ok=True)
            shutil.copy(file, root / "annotations")
    return root


@pytest.fixture
def refused(here, broken: Path, tmp_path: Path, monkeypatch) -> Callable[..., str]:
    """Runs on the broken release; its sentence, once it is sure that nothing was left or trained."""
    monkeypatch.setattr("visual_decathlon.benchmark.runs.scheduler._Schedule", None)  # to call it would raise

    def run(*words: str, **more) -> str:
        usual = ["--data", str(broken), "--cache", str(tmp_path / "cache")]
        more = {"method": "feature", "results": tmp_path / "results"} | more
        sentence = here(*(usual if "--data" not in words else usual[2:]), *words, **more).sentence
        nothing_half_written(tmp_path)
        return sentence

    return run


def nothing_half_written(folder: Path) -> None:
    assert list(folder.rglob(".*")) == []
    assert [p for p in (folder / "results").rglob("*") if p.is_file()] == []
    for pack in (folder / "cache" / "packs").glob("*"):
        assert (pack / "manifest.json").is_file(), "a pack is whole or not there"


def annotations(root: Path, split: str = "train") -> Path:
    return root / "annotations" / f"dtd_{split}.json"


def change(path: Path, edit: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def mends(sentence: str) -> bool:
    """Whether it says what to do, behind a semicolon or as a question."""
    return bool(re.search(r"; \w|did you mean|there are|choose|must be", sentence))


def test_no_such_data(refused, tmp_path: Path):
    sentence = refused("--data", str(tmp_path / "nowhere"))
    assert f"DATA={tmp_path / 'nowhere'} does not exist" in sentence and mends(sentence)


def test_data_that_is_no_release(refused, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    sentence = refused("--data", str(tmp_path / "empty"))
    assert str(tmp_path / "empty") in sentence and mends(sentence)


def test_data_that_is_a_file(refused, tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused("--data", str(tmp_path / "file"))


def test_data_without_imagenet(refused, broken: Path):
    (broken / "annotations" / "imagenet12_train.json").unlink()
    sentence = refused()
    assert "imagenet12" in sentence and "BACKBONE=" in sentence


@pytest.mark.parametrize("content", ["this is no JSON", "", "[]", "{", '{"images": 3}', '{"a": ' + "[" * 100_000])
def test_annotation_that_is_no_json(content: str, refused, broken: Path):
    annotations(broken).write_text(content)
    sentence = refused()
    assert sentence.startswith("dtd: ") and str(annotations(broken)) in sentence and mends(sentence)


@pytest.mark.parametrize("key", ["images", "categories", "annotations"])
def test_annotation_that_lacks_a_key(key: str, refused, broken: Path):
    change(annotations(broken), lambda content: content.pop(key))
    sentence = refused()
    assert key in sentence and "dtd" in sentence and str(annotations(broken)) in sentence and mends(sentence)


@pytest.mark.parametrize("listed", ["images", "categories"])
def test_annotation_that_repeats_an_id(listed: str, refused, broken: Path):
    change(annotations(broken, "val"), lambda content: content[listed].append(content[listed][0]))
    sentence = refused()
    assert str(annotations(broken, "val")) in sentence and re.search(r"repeats|twice", sentence) and mends(sentence)


@pytest.mark.parametrize("wrong", [40000099, 10000001])
def test_annotation_that_names_an_unknown_class(wrong: int, refused, broken: Path):
    change(annotations(broken), lambda content: content["annotations"][3].update(category_id=wrong))
    sentence = refused()
    assert "dtd" in sentence and "unknown class" in sentence and str(wrong) in sentence


def test_val_that_is_train(refused, broken: Path):
    shutil.copy(annotations(broken), annotations(broken, "val"))
    sentence = refused()
    assert sentence.startswith("dtd: ") and "which train has too (24 in both)" in sentence and mends(sentence)


def test_logits_that_are_not_finite():
    """A last step may leave weights that are finite and overflow: such a network gets no record."""
    network = nn.Linear(2, 2)
    nn.init.constant_(network.weight, 1e38)
    with pytest.raises(InputError, match="logits are not finite; lower the rate with SET=lr="):
        evaluate(network, _Once())


class _Once:
    device = torch.device("cpu")

    def evaluate(self):
        yield torch.full((3, 2), 1e3), torch.zeros(3, dtype=torch.int64)


def test_empty_split(refused, broken: Path):
    change(annotations(broken, "val"), lambda content: content.update(images=[], annotations=[]))
    sentence = refused()
    assert "dtd" in sentence and "empty split" in sentence and mends(sentence)


def test_annotation_that_is_missing(refused, broken: Path):
    annotations(broken, "val").unlink()
    sentence = refused()
    assert "dtd" in sentence and str(annotations(broken, "val")) in sentence and "DOMAINS=" in sentence


def test_class_in_val_that_train_lacks(refused, broken: Path):
    def without_c(content: dict) -> None:
        gone = [a["image_id"] for a in content["annotations"] if a["category_id"] == 40000003]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] not in gone]
        content["images"] = [i for i in content["images"] if i["id"] not in gone]

    change(annotations(broken), without_c)
    sentence = refused()
    assert "dtd" in sentence and "'c'" in sentence and str(annotations(broken, "val")) in sentence and mends(sentence)


def image(root: Path) -> Path:
    return root / "data" / "dtd" / "val" / "000027.png"


@pytest.mark.parametrize("fault", ["missing", "empty", "truncated", "no image", "a folder"])
def test_image_that_does_not_open(fault: str, refused, broken: Path):
    path = image(broken)
    content = path.read_bytes()
    path.unlink()
    if fault == "a folder":
        path.mkdir()
    elif fault != "missing":
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "no image": b"text" * 99}[fault])
    sentence = refused()
    assert sentence.startswith("dtd: ") and str(path) in sentence and mends(sentence)


@pytest.mark.parametrize("mode", ["CMYK", "P", "I;16", "L", "LA", "1", "RGBA"])
def test_image_of_another_mode_converts(mode: str, here, broken: Path, finished: Path, tmp_path: Path):
    path = image(broken)
    picture = Image.open(path).convert("L")
    if mode == "I;16":
        picture = picture.point(lambda v: v * 256.0, "F").convert("I").convert("I;16")
    else:
        picture = picture.convert("RGB").convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    path.unlink()
    picture.save(path, kind)
    words = ("--data", str(broken), "--domains", "dtd")
    done = here(*words, method="feature", results=tmp_path / "results")
    assert done.code == 0, done.err
    assert len(read_records([tmp_path / "results" / "records"])) == 1


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("res_adaptor", "did you mean res_adapter"),
        ("nothing_like_it_at_all", "no method is called"),
        ("res_adapter(intt='he')", "did you mean init"),
        ("res_adapter(init='hee')", "init must be 'source' or 'he' or 'zero'"),
        ("res_adapter(off_the_shelf='yes')", "off_the_shelf must be of type bool"),
        ("res_adapter(off_the_shelf=True)", "add init='zero' or init='he'"),
        ("feature(x=1)", "feature has no option 'x'"),
        ("feature(", "is not of the form"),
        ("zz*", "fits no method"),
        (" , ", "METHOD= is empty"),
        ("__import__('os').system('true')", "is not of the form"),
    ],
)
def test_wrong_method(method: str, told: str, refused):
    assert told in refused(method=method)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("epoch=3", "did you mean epochs"),
        ("epochs", "is not of the form setting=value"),
        ("epochs=0", "above 0"),
        ("epochs=-1", "a number from 0 up"),
        ("epochs=two", "epochs must be a whole number"),
        ("epochs=1.5", "epochs must be a whole number"),
        ("lr=nan", "a number from 0 up"),
        ("lr=x", "lr must be a number"),
        ("nesterov=maybe", "nesterov must be true or false"),
        ("schedule=cosine", "schedule must be one-cycle or steps"),
        ("precision=fp8", "precision must be fp32 or tf32 or bf16 or fp16"),
        ("milestones=a/b", "of the form 0.5/0.8"),
        ("width=0.1", "multiple of 1/32"),
        ("width=0.01", "multiple of 1/32"),
        ("crop=30", "multiple of 8"),
        ("crop=40", "no crop of 40"),
        ("uncropped_size=40", "no crop of 40"),
        ("resize=1000000", "up to 1024 pixels"),
        ("width=999", "multiple of 1/32, at most 32"),
        ("label_smoothing=2", "from 0 to 1"),
        ("momentum=1", "from 0 to below 1"),
        ("pretrain.momentum=1.5", "from 0 to below 1"),
        ("warmup_fraction=2", "from 0 to 1"),
        ("milestones=nan", "from 0 to 1"),
        ("milestones=0.5/-0.1", "from 0 to 1"),
        ("pretrain.milestones=0.5/inf", "from 0 to 1"),
        ("batch=1", "batch must be above 1"),
        ("pretrain.batch=1", "batch must be above 1"),
        ("backbone_seed=2147483648", "below 2147483648"),
        ("epochs=99999999999", "below 2147483648"),
        ("lr=0", "above 0; leave lr out to take"),
        ("pretrain.lr=0.0", "above 0; leave lr out to take"),
        ("follows=paper", "no setting is called 'follows'"),
        ("pretrain.follows=paper", "no setting is called 'pretrain.follows'"),
        ("network=quite_another", "there are resnet26, torchvision/resnet18, "),
        ("network=torchvision/resnet19", "of all ResNets there are resnet26, torchvision/resnet18"),
    ],
)
def test_wrong_setting(setting: str, told: str, refused, tmp_path: Path):
    sentence = refused(settings=setting)
    assert sentence.startswith(f"SET={setting.partition('=')[0]}") or "SET=resize" in sentence
    assert told in sentence
    assert not (tmp_path / "cache" / "packs").exists(), "found before anything is packed"


def test_settings_at_their_bounds():
    bounds = ["momentum=0.999", "warmup_fraction=1", "pretrain.warmup_fraction=0", "milestones=0/0.5/1"]
    assert profile("standin", bounds).adapt.milestones == (0.0, 0.5, 1.0)
    chosen = profile("standin", ["crop=8", "resize=9", "batch=2", "backbone_seed=2147483647", "network=timm/resnet50"])
    assert (chosen.crop, chosen.adapt.batch, chosen.backbone_seed) == (8, 2, 2**31 - 1)
    assert chosen.adapt.lr == 0.0  # the method's own


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--domains", "mnist"], "DOMAINS=mnist: no domain has this name"),
        (["--domains", "svhn"], "DOMAINS=svhn: "),
        (["--seeds", "x"], "SEEDS=x"),
        (["--seeds", "0"], "SEEDS=0"),
        (["--seeds", "0,99999999999"], "SEEDS=0,99999999999"),
        (["--profile", "huge"], "standin, decathlon, decathlon-2018"),
        (["--own", "dtd=/nowhere"], "official domain"),
        (["--own", "mine=/nowhere"], "mine: /nowhere"),
        (["--own", "data=/nowhere"], "a column data already"),
        (["--own", f"{'x' * 61}=/nowhere"], "up to 60 of a-z"),
        (["--own", "mine=/nowhere", "--domains", "mime"], "ucf101, mine"),
        (["--data", "/" + "x" * 300], "cannot be read (File name too long)"),
        (["--backbone", "/" + "x" * 300], "cannot be read (File name too long)"),
        (["--own", f"mine=/{'x' * 300}"], "cannot be read (File name too long)"),
        (["--data", "~nobody-of-this-name"], "does not exist"),
        (["--own", "a=/x", "--own", "a=/y"], "given twice"),
        (["--backbone", "/nowhere"], "BACKBONE=/nowhere does not exist"),
        (["--split", "test"], "SPLIT=val"),
    ],
)
def test_wrong_choice(words: list[str], told: str, refused):
    assert told in refused(*words)


def test_holdout_of_too_few_images(refused, tiny: Path, tmp_path: Path):
    for title in "ab":
        (tmp_path / "few" / title).mkdir(parents=True)
        for i, source in enumerate(sorted((tiny / "data" / "dtd" / "train").iterdir())[:4]):
            shutil.copy(source, tmp_path / "few" / title / f"{i}.png")
    sentence = refused("--own", f"few={tmp_path / 'few'}", "--split", "holdout")
    assert sentence.startswith("few: ") and str(tmp_path / "few") in sentence and "SPLIT=val" in sentence


@pytest.mark.parametrize("which", ["results", "cache"])
def test_folder_that_cannot_be_made(which: str, here, bench, tmp_path: Path):
    (tmp_path / "file").write_text("")
    words = ("--cache", str(tmp_path / "file" / "below")) if which == "cache" else ()
    results = tmp_path / "results" if which == "cache" else tmp_path / "file" / "below"
    sentence = here(*words, method="feature", results=results).sentence
    assert str(tmp_path / "file" / "below") in sentence and "cannot be written" in sentence and mends(sentence)


@pytest.mark.parametrize("option", ["--data", "--backbone", "--own", "--results", "--cache"])
@pytest.mark.parametrize("folder", [True, False])
def test_what_may_not_be_read_is_told(option: str, folder: bool, here, tmp_path: Path, monkeypatch):
    """As root may read all, the system's refusal is played."""
    place = tmp_path / "closed"
    place.mkdir() if folder else place.write_text("")
    plain = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != place and plain(path, mode))
    words = (option, f"mine={place}" if option == "--own" else str(place))
    sentence = here(*words, method="feature", results=tmp_path / "results").sentence
    assert f"{place} cannot be read (Permission denied), see its rights" in sentence


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_results_that_cannot_be_written(number: int, here, tmp_path: Path, monkeypatch):
    def refuse(self: Path, content: bytes) -> None:
        self.touch()
        raise OSError(number, "the disk says no")

    monkeypatch.setattr(Path, "write_bytes", refuse)  # the probe before anything is trained
    sentence = here(method="feature", results=tmp_path / "results").sentence
    assert str(tmp_path / "results") in sentence and "the disk says no" in sentence and mends(sentence)
    assert list(tmp_path.rglob(".*")) == []


def test_disk_full_while_a_record_is_written(here, finished: Path, tmp_path: Path, monkeypatch):
    plain = io._fill

    def fill(path: Path, content) -> None:
        if path.parent.name == "records":
            path.write_bytes(bytes(content)[:10])
            raise FULL
        plain(path, content)

    monkeypatch.setattr(io, "_fill", fill)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\); free some space"):
        write_bytes(b"0" * 99, tmp_path / "records" / "x.parquet")
    assert list((tmp_path / "records").iterdir()) == []
    done = here("--domains", "dtd", method="feature", results=tmp_path / "results")
    assert "dtd" in done.sentence and "No space left" in done.sentence
    assert list(tmp_path.rglob(".*")) == []


@pytest.mark.parametrize("below_a_file", [False, True])
def test_disk_full_while_tensors_are_written(below_a_file: bool, tmp_path: Path, monkeypatch):

    def fill(path: Path, content) -> None:
        path.write_bytes(b"half")
        raise FULL

    monkeypatch.setattr(io, "_fill", fill)
    (tmp_path / "file").write_text("")
    folder = tmp_path / ("file" if below_a_file else "folder")
    mend = "remove that" if below_a_file else "free some space"
    with pytest.raises(InputError, match=rf"cannot be written .*; {mend}") as caught:
        write_safetensors(folder / "a.safetensors", {}, {})
    assert str(folder / "a.safetensors") in str(caught.value)
    assert list(tmp_path.rglob(".*")) == []


def test_disk_full_while_pixels_are_written(refused, monkeypatch):
    def fill(split, path: Path, *_):
        path.write_bytes(b"half")
        raise FULL

    monkeypatch.setattr("visual_decathlon.datasets.pack._write", fill)
    sentence = refused()
    assert sentence.startswith("imagenet12: ") and "No space left on device" in sentence and "CACHE=" in sentence


def test_loss_that_is_not_finite(here, finished: Path, tmp_path: Path):
    settings = "width=0.125 epochs=4 pretrain.epochs=6 batch=8 pretrain.batch=8 lr=1e30"
    done = here("--domains", "dtd", method="finetune", results=tmp_path, settings=settings)
    assert done.sentence.startswith("dtd: ") and "SET=lr=" in done.sentence
    assert not (tmp_path / "records").exists() and not (tmp_path / "adapters").exists()
    assert list(tmp_path.rglob(".*")) == []


def test_one_domain_that_fails_leaves_the_others_their_records(here, finished: Path, tmp_path: Path, monkeypatch):
    from visual_decathlon.benchmark.runs import execute

    plain = execute.train

    def train(network, loss, batches, *rest, **more):
        if batches.domain.name == "dtd":
            raise InputError("the loss became nan in epoch 1; lower the rate")
        return plain(network, loss, batches, *rest, **more)

    monkeypatch.setattr(execute, "train", train)
    done = here("--domains", "dtd,svhn", method="finetune", results=tmp_path)
    assert done.sentence == "dtd: the loss became nan in epoch 1; lower the rate"
    assert [r["domain"] for r in read_records([tmp_path / "records"])] == ["svhn"]


def test_pretraining_that_fails_names_the_domain_and_its_own_rate(here, tmp_path: Path, bench):
    settings = "width=0.125 epochs=1 pretrain.epochs=3 batch=8 pretrain.batch=8 pretrain.lr=1e30"
    done = here("--domains", "dtd", method="feature", results=tmp_path, settings=settings)
    assert done.sentence.startswith("imagenet12: pretraining the plain backbone: ")
    assert "SET=pretrain.lr=" in done.sentence and "SET=lr=" not in done.sentence
    assert not (tmp_path / "records").exists()


class Nvml(types.ModuleType):
    """In place of pynvml: two GPUs that have used 1 and 2 J before, and use a tenth more each time one looks."""

    class NVMLError(Exception):
        pass

    def __init__(self):
        super().__init__("pynvml")
        self.used = {"GPU-aaaa": 1000, "GPU-bbbb": 2000}

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return list(self.used)[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in self.used:
            raise self.NVMLError
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        used, self.used[handle] = self.used[handle], round(self.used[handle] * 1.1)
        return used


@pytest.mark.parametrize(
    ("uuid", "joules"),
    [("bbbb", 0.2), ("aaaa", 0.1), ("cccc", None), (None, None)],
    ids=["second", "first", "unknown", "an old torch"],
)
def test_energy_is_of_the_gpu_in_use_or_of_none(uuid: str | None, joules: float | None, monkeypatch):
    """CUDA_VISIBLE_DEVICES=1 makes the second GPU torch's first."""
    given = types.SimpleNamespace(**({} if uuid is None else {"uuid": uuid}))
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    monkeypatch.setattr(timing.torch.cuda, "get_device_properties", lambda device: given)
    assert timing.Energy(timing.torch.device("cuda", 0)).joules() == joules


def test_energy_without_nvml_is_null(monkeypatch):
    cuda = timing.torch.device("cuda")
    monkeypatch.setitem(sys.modules, "pynvml", None)  # its import fails
    assert timing.Energy(cuda).joules() is None
    nvml = Nvml()
    monkeypatch.setattr(nvml, "nvmlInit", lambda: nvml.nvmlDeviceGetHandleByUUID("no driver"))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert timing.Energy(cuda).joules() is None
    assert timing.Energy(timing.torch.device("cpu")).joules() is None
