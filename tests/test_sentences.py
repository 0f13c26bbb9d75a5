"""How sentences to users name options: as the user writes them, in Python and on the command line."""

import ast
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from visual_decathlon.datasets.errors import InputError, make_variables, option
from visual_decathlon.methods.registry import select

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text().replace("\\\n", " ")
VARIABLE = re.compile(rf"\b({'|'.join(re.search(r'^variables = (.*)$', MAKEFILE, re.M)[1].split())}|FILE|LABELS)=")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string of a module that is no docstring; … stands for what an f-string fills in."""
    tree = ast.parse(path.read_text())
    within = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in within | docstrings:
            yield node.lineno, node.value


def test_the_library_names_no_variable_of_make():
    """Only commands to type (`make bench METHOD=…`) do; `benchmark/cli` and the measuring of benches speak of make."""
    modules = [path for room in ("benchmark", "datasets", "methods") for path in (ROOT / room).rglob("*.py")]
    library = [p for p in modules if not p.is_relative_to(ROOT / "benchmark/cli") and "perf/gpu" not in p.as_posix()]
    assert len(library) > 200
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in library
        for line, text in texts(path)
        if VARIABLE.search(re.sub(r"make \w+ [^`]*", "", text))
    ]
    assert found == []


def test_an_option_is_spelled_as_the_user_writes_it():
    error = InputError(f"/x does not exist; name it, or another {option('source')}", field="data")
    assert (str(error), error.field) == ("data=/x does not exist; name it, or another source=", "data")
    with make_variables():
        assert str(error) == "DATA=/x does not exist; name it, or another source="
        assert [option(name) for name in ("settings", "source", "workers")] == ["SET=", "FROM=", "WORKERS="]
        printed = "from visual_decathlon.datasets.errors import option; print(option('settings'))"
        child = subprocess.run([sys.executable, "-c", printed], cwd=ROOT, capture_output=True, text=True, check=True)
        assert child.stdout == "SET=\n", "a worker process spells like the command that started it"
    assert option("settings") == "settings="
    assert str(InputError("no option is wrong")) == "no option is wrong"


def test_the_field_survives_the_way_from_a_worker():
    error = pickle.loads(pickle.dumps(InputError("is wrong", field="own")))
    assert (str(error), error.field) == ("own=is wrong", "own")


@pytest.mark.parametrize(("spec", "sentence"), [("", "method= is empty; "), ("nothing*", "method=nothing* fits no ")])
def test_the_registry_speaks_python(spec: str, sentence: str):
    with pytest.raises(InputError) as caught:
        select(spec)
    assert str(caught.value).startswith(sentence) and caught.value.field == "method"
