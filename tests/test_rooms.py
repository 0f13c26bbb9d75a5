"""The rooms of the suite: imports lead downwards only, there is no import cycle, and commands import no command."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PREFIX = "visual_decathlon."

FLOORS = (
    ("cli",),
    ("perf",),
    ("runs",),
    ("serving", "submission"),
    ("report", "training"),
    ("tables", "backbones"),
    ("records",),
    ("runtime",),
    ("config",),
    ("methods",),
    ("datasets",),
)
"""From the top down. A room imports from floors below its own only."""


@functools.cache
def imports() -> dict[str, set[str]]:
    """Module -> the modules of the suite that it imports, anywhere in it."""
    files = [f for top in ("benchmark", "datasets", "methods") for f in sorted((ROOT / top).rglob("*.py"))]
    modules = {_name(f): f for f in files}
    return {name: _imported(file, modules) - {name} for name, file in modules.items()}


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return PREFIX + ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(file: Path, modules: dict[str, Path]) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inside & modules.keys() or {node.module}
    return names & modules.keys()


def _room(module: str) -> str:
    top, _, rest = module.removeprefix(PREFIX).partition(".")
    return rest.partition(".")[0] if top == "benchmark" and rest else top


def test_every_room_has_its_floor():
    rooms = {_room(module) for module in imports()}
    assert rooms - {"benchmark", "__main__"} == {room for floor in FLOORS for room in floor}


def test_every_imported_name_exists():
    """Also in functions, where an import runs only with its command."""
    files = [f for top in ("benchmark", "datasets", "methods") for f in sorted((ROOT / top).rglob("*.py"))]
    trees = {_name(file): ast.parse(file.read_text()) for file in files}
    missing = []
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith(PREFIX):
                names = {alias.name for alias in node.names if f"{node.module}.{alias.name}" not in trees}
                defined = _defined(trees[node.module]) if node.module in trees else set()
                missing += [f"{module}: {node.module}.{name}" for name in sorted(names - defined)]
    assert missing == []


def _defined(tree: ast.Module) -> set[str]:
    """The names that a module defines or imports outside of functions and classes."""
    names, nodes = set(), list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        else:
            nodes += ast.iter_child_nodes(node)
    return names


def test_imports_lead_downwards():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    entrance = {"benchmark", "__main__"}
    wrong = [
        f"{module} -> {other}"
        for module, others in imports().items()
        for other in others
        if (here := _room(module)) != (there := _room(other))
        and here not in entrance
        and (there in entrance or floor[there] <= floor[here])
    ]
    assert wrong == []


def test_no_import_cycle():
    left = {module: set(others) for module, others in imports().items()}
    while ready := [module for module, others in left.items() if not others & left.keys()]:
        for module in ready:
            del left[module]
    assert left == {}, "these import each other"


def test_commands_import_no_command():
    from visual_decathlon.benchmark.cli.main import COMMANDS

    commands = {f"{PREFIX}benchmark.cli.{name}" for name in COMMANDS}
    assert commands <= imports().keys()
    assert [pair for name in commands for pair in [(name, imports()[name] & commands)] if pair[1]] == []


@pytest.mark.parametrize("module", sorted(imports()))
def test_no_other_name_of_the_suite(module: str):
    """Not `import datasets`: what is imported is the suite's own copy, once."""
    file = ROOT.joinpath(*module.removeprefix(PREFIX).split("."))
    file = file.with_suffix(".py") if file.with_suffix(".py").is_file() else file / "__init__.py"
    for node in ast.walk(ast.parse(file.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert not {name.partition(".")[0] for name in names} & {"datasets", "methods", "benchmark"}, file


LONGEST_FILE, LONGEST_FUNCTION = 400, 60  # lines


def sources() -> list[Path]:
    """All code of the repository, tests too."""
    folders = ("benchmark", "datasets", "methods", "tests")
    return [f for folder in folders for f in sorted((ROOT / folder).rglob("*")) if f.suffix in (".py", ".js", ".css")]


def test_no_file_and_no_function_is_too_long():
    assert [f"{f}: {n} lines" for f in sources() if (n := len(f.read_text().splitlines())) > LONGEST_FILE] == []
    too_long = []
    for file in (f for f in sources() if f.suffix == ".py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and (n := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION:
                too_long.append(f"{file}: {node.name} has {n} lines")
    assert too_long == []


def _undocumented(node: ast.AST) -> list[str]:
    """Public functions, methods and classes without a docstring; those inside of functions do not count."""
    found = []
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.ClassDef)) or child.name.startswith("_"):
            continue
        if ast.get_docstring(child) is None:
            found.append(child.name)
        if isinstance(child, ast.ClassDef):
            found += [f"{child.name}.{name}" for name in _undocumented(child)]
    return found


def test_everything_public_has_a_docstring():
    files = [f for f in sources() if f.suffix == ".py" and "tests" not in f.relative_to(ROOT).parts]
    assert {str(f): names for f in files if (names := _undocumented(ast.parse(f.read_text())))} == {}
