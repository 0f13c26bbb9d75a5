"""A run that fails ends in one sentence and leaves no partial file: full disks, closed folders, diverging training."""

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.benchmark.cli.remedies import has_remedy
from visual_decathlon.benchmark.backbones.safetensors_file import write_safetensors
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.training.evaluate import evaluate
from visual_decathlon.datasets import io
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_bytes

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_logits_that_are_not_finite():
    """A last step may leave weights that are finite and overflow: such a network gets no record."""
    network = nn.Linear(2, 2)
    nn.init.constant_(network.weight, 1e38)
    with pytest.raises(InputError, match="logits are not finite; lower the rate with settings=lr="):
        evaluate(network, _Once())


class _Once:
    device = torch.device("cpu")

    def evaluate(self):
        yield torch.full((3, 2), 1e3), torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize("place", ["file", "file/below"])
@pytest.mark.parametrize("which", ["results", "cache"])
def test_folder_that_cannot_be_made(which: str, place: str, here, bench, tmp_path: Path):
    (tmp_path / "file").write_text("")
    words = ("--cache", str(tmp_path / place)) if which == "cache" else ()
    results = tmp_path / "results" if which == "cache" else tmp_path / place
    sentence = here(*words, method="feature", results=results).sentence
    assert f"{tmp_path / place} cannot be written (a file is where a folder is needed)" in sentence
    assert has_remedy(sentence)


@pytest.mark.parametrize("option", ["--data", "--backbone", "--own", "--results", "--cache"])
@pytest.mark.parametrize("folder", [True, False])
def test_a_path_without_permission_is_refused(option: str, folder: bool, here, tmp_path: Path, monkeypatch):
    """Root may read every file, so the refusal is simulated."""
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
        raise OSError(number, "the disk refuses")

    monkeypatch.setattr(Path, "write_bytes", refuse)  # the probe before anything is trained
    sentence = here(method="feature", results=tmp_path / "results").sentence
    assert str(tmp_path / "results") in sentence and "the disk refuses" in sentence and has_remedy(sentence)
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
    remedy = "remove that" if below_a_file else "free some space"
    with pytest.raises(InputError, match=rf"cannot be written .*; {remedy}") as caught:
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
