"""What is measured: backbones, recipes, the training loop, evaluation, score, cost, timing, records, tables."""

import importlib.util
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def _refuse_foreign() -> None:
    """A foreign top-level `datasets` or `methods` (Hugging Face's, say) must not be picked up silently."""
    for name in ("datasets", "methods"):
        if name in sys.modules:  # its spec may be None, which find_spec refuses
            found = getattr(sys.modules[name], "__file__", None)
        else:
            spec = importlib.util.find_spec(name)
            found = spec and spec.origin
        ours = _ROOT / name / "__init__.py"
        if found is None or Path(found).resolve() != ours:
            found = found or "nothing that has a file"
            sentence = (
                f"the package `{name}` that Python finds is {found}, which shadows {ours}; run `python -m benchmark` "
                f"from {_ROOT}, or put that folder first on PYTHONPATH"
            )
            if sys.argv[:1] == ["-m"]:  # so it is while Python looks for the module to run
                sys.stderr.write(sentence + "\n")
                raise SystemExit(2)
            raise ImportError(sentence)


_refuse_foreign()
