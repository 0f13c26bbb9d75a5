"""One import root next to Hugging Face's `datasets`, and the errors for imports from before 2026-12."""

import os
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.datasets import old_names

ROOT = Path(__file__).parents[1]
BUILD = "import setuptools.build_meta as backend, sys; backend.build_wheel(sys.argv[1])"
COMMIT = (
    "-c",
    "user.name=a",
    "-c",
    "user.email=a@example.org",
    "commit",
    "-q",
    "--allow-empty",
    "-m",
    "another project",
)
FOREIGN = "class Dataset:\n    from_whom = 'elsewhere'\n"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder with another package `datasets`, as Hugging Face's in site-packages."""
    (tmp_path / "site" / "datasets").mkdir(parents=True)
    (tmp_path / "site" / "datasets" / "__init__.py").write_text(FOREIGN)
    return tmp_path / "site"


@pytest.fixture
def python(processes):
    """`python(words, cwd, *folders)`: runs Python with these folders first on its path."""

    def run(words: list[str], cwd: Path, *folders: Path):
        path = os.pathsep.join(map(str, folders))
        return processes.run([sys.executable, *words], cwd=cwd, env={**os.environ, "PYTHONPATH": path})

    return run


def test_every_folder_with_code_is_in_the_wheel():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    files = (f for top in ("benchmark", "datasets", "methods") for f in (ROOT / top).rglob("*.py"))
    there = {".".join(("visual_decathlon", *f.parent.relative_to(ROOT).parts)) for f in files}
    assert listed == there | {"visual_decathlon.results"}
    assert all((ROOT.joinpath(*name.split(".")[1:]) / "__init__.py").is_file() for name in there)


@pytest.mark.parametrize("order", ["checkout first", "checkout last"])
def test_a_foreign_datasets_in_the_same_process(order: str, python, foreign: Path, tmp_path: Path):
    """Also for a script in the checkout, whose folder is first on the path."""
    code = "import datasets; from visual_decathlon.datasets.catalogue import DOMAINS; "
    code += "print(datasets.Dataset.from_whom, len(DOMAINS))"
    folders = (ROOT, foreign) if order == "checkout first" else (foreign, ROOT)
    done = python(["-c", code], tmp_path, *folders)
    assert done.stdout == "elsewhere 10\n", done.stderr


def test_the_command_line_next_to_a_foreign_datasets(python, foreign: Path):
    """In the checkout, where `-m` puts the suite's `datasets` first, a method's package imports the other one."""
    code = "import runpy\n"
    code += "runpy.run_module('benchmark', run_name='imported')\n"
    code += "import datasets; print(datasets.Dataset.from_whom)"
    done = python(["-c", code], ROOT, ROOT, foreign)
    assert done.stdout.endswith("elsewhere\n"), done.stderr


@pytest.mark.parametrize("name", ["datasets", "methods", "benchmark.records"])
def test_an_old_import_names_the_new_one(name: str, python, tmp_path: Path):
    done = python(["-c", f"import {name}"], tmp_path, ROOT)
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"ModuleNotFoundError: {name} is now visual_decathlon.{name}: import it by that name"


@pytest.mark.parametrize("foreign_too", [False, True])
def test_a_package_with_old_imports_gets_one_sentence(foreign_too: bool, python, foreign: Path, tmp_path: Path):
    """Its module imports `methods.per_conv`, or the suite's old `datasets.errors` and gets the other package."""
    line = "from datasets.errors import BadInput" if foreign_too else "from methods.per_conv import PerConv"
    (tmp_path / "their_method.py").write_text(f'"""Another package."""\n\n{line}\n')
    about = tmp_path / "theirs-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: theirs\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[visual_decathlon.methods]\ntheirs = their_method\n")
    done = python(["-m", "benchmark", "methods"], ROOT, tmp_path, *([foreign] if foreign_too else []))
    new = line.replace("datasets", "visual_decathlon.datasets").replace("methods", "visual_decathlon.methods")
    assert (done.returncode, done.stdout) == (2, "")
    hint = "; what has another name now is in the tables of CHANGES.md" if foreign_too else ""  # BadInput is one
    assert done.stderr == f"{tmp_path / 'their_method.py'}, line 3: this import is now `{new}`{hint}\n"


def test_a_file_among_the_methods_with_an_old_import_gets_one_sentence(python, tmp_path: Path):
    """In a copy of the checkout, as somebody adds a file of before to it."""
    for name in ("benchmark", "datasets", "methods"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "visual_decathlon.py", tmp_path)
    theirs = tmp_path / "methods" / "theirs.py"
    theirs.write_text("from methods.per_conv import PerConv\n")
    done = python(["-m", "benchmark", "methods"], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    new = "from visual_decathlon.methods.per_conv import PerConv"
    assert done.stderr == f"{theirs}, line 1: this import is now `{new}`\n"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from visual_decathlon.datasets.errors import InputError, reason", True),
        ("from visual_decathlon.datasets.errors import (InputError as Wrong,  # ours", True),
        ("from visual_decathlon.datasets import errors", True),
        ("import visual_decathlon.datasets.errors as e", True),
        ("from visual_decathlon.datasets.errors import BadInput", False),
        ("from visual_decathlon.benchmark.cells import Cell", False),
        ("import visual_decathlon.datasets.folder", False),
    ],
)
def test_whether_the_new_import_would_work(line: str, found: bool):
    assert old_names._is_there(line) == found


def test_a_folder_called_datasets_without_code_does_no_harm(python, tmp_path: Path):
    (tmp_path / "datasets").mkdir()
    done = python(["-m", "benchmark", "--help"], tmp_path, ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_wheel_works_elsewhere(processes, tmp_path: Path):
    """Built, installed into an environment of its own, run in an empty folder inside another git repository.

    Its dependencies are those of this environment; the checkout is not on its path.
    """
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    kept = ("benchmark", "datasets", "methods", "results/published", "results/standin")
    for name in kept:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-c", BUILD, str(tmp_path / "wheels")]
    assert (done := processes.run(build, cwd=source)).returncode == 0, done.stderr
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"visual_decathlon"}

    elsewhere.mkdir()
    processes.run(["git", "init", "-q", str(tmp_path)])
    processes.run(["git", "-C", str(tmp_path), *COMMIT])

    def decathlon(*words: str):
        code = "import sys; from visual_decathlon.benchmark.cli import main; sys.argv[0] = 'decathlon'; main.console()"
        environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
        return processes.run([sys.executable, "-P", "-c", code, *words], cwd=elsewhere, env=environment)

    assert "res_adapter" in (done := decathlon("methods")).stdout, done.stderr
    words = "run --method feature --domains dtd --limit 20 --set epochs=1 --device cpu"
    done = decathlon(*words.split())
    assert done.returncode == 0, done.stderr
    (record,) = read_records([elsewhere / "results" / "runs"])
    assert record["command"].startswith("decathlon run --method feature") and record["commit"] == ""
    assert record["limit"] == 20 and (elsewhere / ".cache").is_dir()
    assert sorted(path.name for path in elsewhere.iterdir()) == [".cache", "results"]
