"""Fixtures for commands that are given a broken release."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


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
    """The sentence of a command on the broken release, which trains nothing and leaves no partial file."""
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
        assert (pack / "manifest.json").is_file(), "a pack is complete or missing"
