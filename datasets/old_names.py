"""Imports from before 2026-12: `datasets`, `methods` and `benchmark` at the top level, now in `visual_decathlon`."""

import importlib.machinery
import importlib.util
import re
import sys
import traceback
from pathlib import Path

OLD_ROOTS = ("datasets", "methods", "benchmark")


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
        if line := re.match(rf"(from|import) {root}\b.*", frame.line or ""):
            new = re.sub(rf"\b{root}\b", f"visual_decathlon.{root}", line[0], count=1)
            return f"{frame.filename}, line {frame.lineno}: this import is now `{new}`"
    return ""
