"""Paths below a results folder are what users and files of older versions have, spelled here a second time."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from visual_decathlon.benchmark.records.folder import ResultsFolder, is_record_path
from visual_decathlon.benchmark.records.store import remove_half_written
from visual_decathlon.datasets.io import temporary_name

ROOT = Path(__file__).parents[3]
HASH = "0123456789abcdef"
FOLDER = ResultsFolder(Path("results/runs"))
PATHS = {
    FOLDER.records: "records",
    FOLDER.record(HASH): f"records/{HASH}.parquet",
    FOLDER.adapters(HASH): f"adapters/{HASH}.safetensors",
    FOLDER.unfinished: "unfinished",
    FOLDER.checkpoint(HASH): f"unfinished/{HASH}.safetensors",
    FOLDER.predictions_folder: "predictions",
    FOLDER.predictions(HASH): f"predictions/{HASH}.parquet",
    FOLDER.reruns: "reruns",
    FOLDER.backbones: "backbones",
    FOLDER.table("table1", "csv"): "table1.csv",
    FOLDER.table("perf"): "perf.parquet",
    FOLDER.figures: "figures",
    FOLDER.leaderboard: "leaderboard.html",
    FOLDER.submission: "results.zip",
}


@pytest.mark.parametrize(("path", "below"), PATHS.items(), ids=PATHS.values())
def test_paths(path: Path, below: str):
    assert path == Path("results/runs") / below


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        (FOLDER.record(HASH), True),
        (FOLDER.record(HASH.upper()), False),
        (FOLDER.predictions(HASH), False),
        (FOLDER.records / f"{HASH}.csv", False),
        (FOLDER.records / f"{HASH}0.parquet", False),
    ],
)
def test_a_record_is_known_by_its_path(path: Path, is_one: bool):
    assert is_record_path(path) == is_one


def test_half_written_files_are_removed_from_every_folder_that_is_written(tmp_path: Path, monkeypatch):
    folder = ResultsFolder(tmp_path / "results")
    written = [path.parent for path in (folder.record(HASH), folder.adapters(HASH), folder.checkpoint(HASH))]
    written += [
        folder.predictions(HASH).parent,
        folder.environments,
        folder.figures,
        folder.figures / "curves",
        folder.path,
    ]
    assert {*written} == {*folder.written_folders}
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr(os, "getpid", lambda: ended.pid)
    for path in written:
        path.mkdir(parents=True, exist_ok=True)
        (path / "kept.parquet").touch()
        temporary_name(path / "half").touch()
    remove_half_written(folder.path, tmp_path / "cache")
    assert sorted(path for path in folder.path.rglob("*") if path.is_file()) == sorted(
        p / "kept.parquet" for p in written
    )


def test_no_other_file_spells_a_folder_of_results():
    """Comparisons and words of commands may be the same; a path made by `/` may not."""
    names = {"records", "adapters", "unfinished", "predictions", "reruns", "damaged", "leaderboard.html", "results.zip"}
    spelled = []
    for file in sorted((ROOT / "benchmark").rglob("*.py")):
        if file.name == "folder.py" and file.parent.name == "records":
            continue
        spelled += [
            f"{file.relative_to(ROOT)}:{node.lineno}"
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant)
            if node.right.value in names
        ]
    assert spelled == []
