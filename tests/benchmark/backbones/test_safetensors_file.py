"""Safetensors files: the same content is the same bytes, and the library reads them."""

import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from visual_decathlon.benchmark.backbones.safetensors_file import read_safetensors, write_safetensors
from visual_decathlon.benchmark.config.identity import tensors_digest
from visual_decathlon.benchmark.training import checkpoint as checkpoints
from visual_decathlon.benchmark.training.checkpoint import Checkpoint
from visual_decathlon.datasets.errors import InputError

ABOUT = {f"key {i}": value for i, value in enumerate(("", '"quoted" \\', "ü\n\x1b", "[1.5, 2]", "日本", "x" * 99))}
TENSORS = {
    "b.weight": torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last),
    "a.bits": torch.tensor([1, 2, 255], dtype=torch.uint8),
    "a.half": torch.tensor([0.5], dtype=torch.bfloat16),
    "c.count": torch.tensor(7),
    "c.none": torch.empty(0, 3),
    "c.mask": torch.tensor([True, False]),
}


@pytest.mark.parametrize("tensors", [TENSORS, {}], ids=["tensors", "none"])
@pytest.mark.parametrize("about", [ABOUT, {}], ids=["metadata", "none"])
def test_the_same_content_is_the_same_bytes(tensors: dict, about: dict, tmp_path: Path):
    """In any order of the input. The library alone writes the metadata's keys in another order each time."""
    backwards = [dict(reversed(part.items())) for part in (tensors, about)]
    size = write_safetensors(tmp_path / "a", tensors, about)
    assert write_safetensors(tmp_path / "b", *backwards) == size == (tmp_path / "a").stat().st_size
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes()
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    assert len(content) == len(save(plain, about)), "as large as the library's"
    assert int.from_bytes(content[:8], "little") % 8 == 0, "numbers begin at a multiple of 8"


def test_the_library_reads_our_files(tmp_path: Path):
    write_safetensors(tmp_path / "a", TENSORS, ABOUT)
    with safe_open(tmp_path / "a", "pt") as file:
        assert file.metadata() == ABOUT
    read, about = read_safetensors(tmp_path / "a")
    assert about == ABOUT
    for tensors in (read, load_file(tmp_path / "a")):
        assert tensors.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor), name


CHANGES = {
    "a name": lambda t: {"other": t.pop("c.count")},
    "a type": lambda t: {"c.count": t["c.count"].int()},
    "a shape": lambda t: {"b.weight": t["b.weight"].reshape(2, 12)},
    "a shape without numbers": lambda t: {"c.none": torch.empty(3, 0)},
    "a number": lambda t: {"b.weight": t["b.weight"] + torch.eye(2)},
    "a tensor more": lambda t: {"d": torch.tensor(0)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_hash_of_tensors_depends_on_their_content(change: str):
    digest = tensors_digest(TENSORS)
    assert digest == tensors_digest({name: t.clone().contiguous() for name, t in reversed(TENSORS.items())})
    other = dict(TENSORS)
    other |= CHANGES[change](other)
    assert tensors_digest(other) != digest


# --- written while training goes on, as from a GPU ----------------------------------------------------------------


def checkpoint_of_one_weight(path: Path) -> Checkpoint:
    """A weight of 1 with a momentum of 2."""
    p = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.SGD([p], 0.1, 0.9)
    optimiser.state[p]["momentum_buffer"] = torch.full((3,), 2.0)
    return Checkpoint(path, {"p": p.data}, {"p": p}, optimiser, aside=True)


def test_a_checkpoint_has_the_values_of_its_save(tmp_path: Path, monkeypatch):
    """Training has changed the tensors long before they are on disk; the next save waits for that."""
    go, write = threading.Event(), checkpoints.write_safetensors
    monkeypatch.setattr(checkpoints, "write_safetensors", lambda *a: go.wait() and write(*a))
    with checkpoint_of_one_weight(tmp_path / "c") as saved:
        saved.save([{"epoch": 1}])
        saved.state["p"].fill_(7)
        for state in saved.optimiser.state.values():
            state["momentum_buffer"].fill_(7)
        assert not (tmp_path / "c").exists()
        go.set()
    tensors, about = read_safetensors(tmp_path / "c")
    assert about["history"] == '[{"epoch": 1}]'
    assert tensors["state/p"].tolist() == [1] * 3 and tensors["optimiser/momentum_buffer/p"].tolist() == [2] * 3


@pytest.mark.parametrize("saves", [1, 2])
def test_a_file_that_cannot_be_written_raises_at_the_next_save_or_the_end(saves: int, tmp_path: Path):
    (tmp_path / "file").write_text("")

    def save() -> None:
        with checkpoint_of_one_weight(tmp_path / "file" / "c") as saved:
            for _ in range(saves):
                saved.save([])

    with pytest.raises(InputError, match="cannot be written"):
        save()
