"""A package of one's own, as methods/README.md shows it: installed, listed, and trained by worker processes."""

import json
import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from visual_decathlon.benchmark.records.store import read_records

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "methods" / "README.md").read_text()
FILES = dict(re.findall(r"^`(methods/\S+\.py)`:\n\n```python\n(.*?)^```$", PAGE, re.S | re.M))
(PROJECT,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.S | re.M)
MAIN = [sys.executable, "-m", "benchmark"]


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory, command):
    """`install(name)` installs the page's package with its method under this name and returns the PYTHONPATH for it."""
    if find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    elif shutil.which("uv"):  # as where it made .venv
        pip = ["uv", "pip", "install", "--offline", "--python", sys.executable]
    else:
        pytest.skip("there is neither pip nor uv here")

    def build(name: str) -> str:
        project, target = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("target")
        (entry,) = FILES.values()
        (project / "pyproject.toml").write_text(PROJECT)
        (project / "our_methods").mkdir()
        (project / "our_methods" / "__init__.py").write_text(entry.replace('"gain"', f'"{name}"'))
        alone = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
        done = command([*pip, *alone, str(project)], cwd=project)
        assert done.code == 0, done.err
        return os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])

    return build


@pytest.fixture(scope="module")
def installed(install) -> str:
    return install("gain")


def test_it_is_listed(installed: str, command):
    done = command([*MAIN, "methods"], PYTHONPATH=installed)
    assert done.code == 0, done.err
    assert re.search(r"gain .* Input gain .* ours .* identity .* yes .* 1\.02 ", done.out)
    assert "Input gain" not in command([*MAIN, "methods"]).out, "nothing of it stays"


def test_it_is_trained(installed: str, bench, command, tmp_path: Path):
    words = bench.words("--domains", "dtd", method="gain(taps=True)", results=tmp_path)
    done = command(words, PYTHONPATH=installed)
    assert done.code == 0, done.err
    (record,) = read_records([tmp_path / "records"])
    assert record["method"] == "gain(taps=True)" and record["merged"]
    assert json.loads(record["versions"])["our-methods"] == "1.0"
    assert "| Input gain(taps=True) |" in (tmp_path / "table1.md").read_text()


def test_a_name_that_is_taken_names_both_places(install, command):
    path = install("finetune")
    sentence = command([*MAIN, "methods"], PYTHONPATH=path).sentence
    assert "'finetune' is taken twice" in sentence and "rename" in sentence
    for place in (ROOT / "methods" / "own_network.py", Path(path.split(os.pathsep)[0]) / "our_methods" / "__init__.py"):
        assert str(place) in sentence
