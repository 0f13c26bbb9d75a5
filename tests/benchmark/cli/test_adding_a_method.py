"""The page "Adding a method", word for word: its file makes rows in the table and passes the registry's checks."""

import re
import shutil
import sys
from pathlib import Path

import pytest

import visual_decathlon.methods
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.methods import registry
from visual_decathlon.methods.registry import entries

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "methods" / "README.md").read_text()
FILES = dict(re.findall(r"^`(methods/\S+\.py)`:\n\n```python\n(.*?)^```$", PAGE, re.S | re.M))
(METHOD,) = re.findall(r'^make bench METHOD="(.*?)"', PAGE, re.M)


def write_files(root: Path) -> None:
    for name, code in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(code)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The page's file, as if it were in the package `methods`."""
    entries()  # the suite's own are registered before the list is copied
    write_files(tmp_path)
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    package = visual_decathlon.methods
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "methods")])
    registry._import.cache_clear()
    registry._load.cache_clear()
    yield
    registry._import.cache_clear()
    registry._load.cache_clear()
    for name in FILES:
        module = "visual_decathlon." + name.removesuffix(".py").replace("/", ".")
        package, _, short = module.rpartition(".")
        sys.modules.pop(module, None)
        vars(sys.modules[package]).pop(short, None)


def test_the_example_is_short():
    lines = [line for code in FILES.values() for line in code.splitlines() if line.strip()]
    assert len(FILES) == 1 and len(lines) < 30
    assert f"in {len(lines)} lines of code" in " ".join(PAGE.split())


def test_its_options_are_rows_in_the_table(added, here, tmp_path: Path, capsys):
    assert main(["methods"]) == 0
    assert re.search(r"gain .* Input gain .* ours .* identity .* yes .* 1\.02 ", capsys.readouterr().out)
    done = here("--domains", "dtd", method=METHOD, results=tmp_path / "results")
    assert done.code == 0, done.err
    rows = (tmp_path / "results" / "table1.md").read_text().splitlines()
    for label in ("Input gain", "Input gain(taps=True)"):
        row = next(row for row in rows if row.startswith(f"| {label} | "))  # a row of the timing table begins like it
        assert len(re.findall(r" \d+\.\d\d ", row)) == 2, "#par. and its accuracy on one domain"
    shapes = resnet26_shapes(0.125)
    records = {r["method"]: r for r in read_records([tmp_path / "results" / "records"])}
    for method, taps in {"gain": 1, "gain(taps=True)": 9}.items():
        assert records[method]["floats"] == shapes.affine + sum(taps * conv.cin for conv in shapes.convs)
        assert records[method]["merged"]


def test_the_checks_of_the_registry_run_over_it(tmp_path: Path, command):
    """In a copy of the checkout, with the tests that `make test` runs."""
    for name in ("benchmark", "datasets", "methods", "tests/methods"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shared = [f"tests/{file.name}" for file in (ROOT / "tests").glob("*.py") if not file.name.startswith("test_")]
    for name in ("pyproject.toml", "visual_decathlon.py", *shared):
        shutil.copy(ROOT / name, tmp_path / name)
    write_files(tmp_path)
    files = [f"tests/methods/test_{name}.py" for name in ("every_method", "registry")]
    done = command([sys.executable, "-m", "pytest", *files, "-k", "gain or heavy"], cwd=tmp_path)
    assert done.code == 0, done.out
    assert int(re.search(r"(\d+) passed", done.out)[1]) > 10
