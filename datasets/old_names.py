"""Imports from before 2026-12: `datasets`, `methods` and `benchmark` at the top level, now in `visual_decathlon`."""

import importlib.machinery
import importlib.util
import re
import sys
import traceback
from pathlib import Path

OLD_ROOTS = ("datasets", "methods", "benchmark")
_RENAMED = {"children", "folder", "in_hand", "repeated", "stamps"}  # modules of datasets with another name now


def moved(name: str) -> ModuleNotFoundError:
    """The error for `import name`; it gives the new name."""
    return ModuleNotFoundError(f"{name} is now visual_decathlon.{name}: import it by that name", name=name)


def import_next(name: str, here: str) -> None:
    """Import another top-level package `name`, not the one of the checkout with the file `here`, in its place.

    A script in the checkout gets Hugging Face's `datasets` in this way. Raises ModuleNotFoundError if there is none.
    """
    checkout = Path(here).resolve().parents[1]
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != checkout]
    spec = importlib.machinery.PathFinder.find_spec(name, others)
    if spec is None or spec.loader is None:
        raise moved(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def new_import(error: BaseException) -> str:
    """A sentence with file, line and new spelling of the old import that raised `error`; "" for other errors."""
    root = (getattr(error, "name", None) or "").partition(".")[0]
    if not isinstance(error, ImportError) or root not in OLD_ROOTS:
        return ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if (line := re.match(rf"(from|import) {root}\b.*", frame.line or "")) and _was_ours(root, line[0]):
            new = re.sub(rf"\b{root}\b", f"visual_decathlon.{root}", line[0], count=1)
            hint = "" if _is_there(new) else "; what has another name now is in the tables of CHANGES.md"
            return f"{frame.filename}, line {frame.lineno}: this import is now `{new}`{hint}"
    return ""


def _is_there(line: str) -> bool:
    """Whether the module of an import statement exists and has the names, as far as the line lists them."""
    module, _, names = re.sub(r"^(from|import) |[()#].*$", "", line.replace("(", "")).partition(" import ")
    try:
        found = importlib.import_module(module.partition(" as ")[0].strip())
        plain = [name.partition(" as ")[0].strip() for name in names.split(",")]
        return all(
            hasattr(found, name) or importlib.util.find_spec(f"{found.__name__}.{name}") for name in plain if name
        )
    except ImportError:
        return False


def _was_ours(root: str, line: str) -> bool:
    """Whether an import statement means the suite. Hugging Face's package is called `datasets`, too."""
    if root != "datasets":
        return True
    modules = re.match(r"import ([\w.]+)|from ([\w.]+) import \(?([\w, ]*)", line)
    names = [modules[1]] if modules[1] else [modules[2]]
    if names == ["datasets"]:
        names = [f"datasets.{name.strip()}" for name in (modules[3] or "").split(",")]
    files = {path.stem for path in Path(__file__).parent.glob("*")} | _RENAMED
    return any(name.split(".")[1] in files for name in names if name.count("."))
