"""The two 95 % intervals of the tables: of a mean over few values, and of a share of many trials."""

import math
from collections.abc import Sequence
from statistics import stdev

import numpy as np


def student_half_width(values: Sequence[float]) -> float | None:
    """Half the 95 % interval of the mean (Student's t); None for a single value."""
    from scipy.stats import t  # only comparisons need it, and it takes longer to import than to use

    n = len(values)
    return float(t.ppf(0.975, n - 1)) * stdev(values) / math.sqrt(n) if n > 1 else None


def wilson(share: np.ndarray, n: np.ndarray, z: float = 1.959964) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the 95 % interval of a share of `n` trials (Wilson 1927), arrays of one shape.

    SciPy has this for one share at a time only; a leaderboard has thousands.
    """
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half
