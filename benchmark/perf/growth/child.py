"""Runs Python in its own process, for measurements that this one would disturb."""

import subprocess
import sys
from collections.abc import Sequence

from visual_decathlon.benchmark.config.folders import HOME
from visual_decathlon.datasets.errors import InputError


def output_of(words: Sequence[str]) -> str:
    """The output of `python -m` with these words. Raises InputError with the message of a command that ends with 2."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=HOME, capture_output=True, text=True)
    if done.returncode == 2:
        raise InputError(done.stderr.strip())
    if done.returncode:
        raise RuntimeError(f"python -m {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
