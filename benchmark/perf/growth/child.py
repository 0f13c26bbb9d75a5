"""A Python of its own for what must not be measured in this one."""

import subprocess
import sys
from collections.abc import Sequence

from visual_decathlon.benchmark.config.folders import HOME
from visual_decathlon.datasets.errors import InputError


def printed(words: Sequence[str]) -> str:
    """What `python -m` with these words prints. Raises InputError with the sentence of a command that ends with 2."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=HOME, capture_output=True, text=True)
    if done.returncode == 2:
        raise InputError(done.stderr.strip())
    if done.returncode:
        raise RuntimeError(f"python -m {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
