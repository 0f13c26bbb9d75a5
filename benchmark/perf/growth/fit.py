"""A line through measured points, and their distance from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LINEAR = 0.1  # largest relative distance of a point from the line at which the growth is called linear


@dataclass(frozen=True)
class Fit:
    """value = `start` + `slope` x; `off` is the largest distance of a point from the line, relative to its value."""

    start: float
    slope: float
    off: float

    @property
    def linear(self) -> bool:
        """Whether no point is farther from the line than LINEAR."""
        return self.off <= LINEAR


def fitted(xs: Sequence[float], values: Sequence[float]) -> Fit | None:
    """The line of least squares of the relative distances, so that small values count as much as large ones.

    None for fewer than three points, which are always on a line, and where a value is not above 0.
    """
    x, y = np.array(xs, float), np.array(values, float)
    if len(x) < 3 or (y <= 0).any():
        return None
    columns = np.stack([1 / y, x / y], axis=1)
    (start, slope), *_ = np.linalg.lstsq(columns, np.ones(len(x)))
    return Fit(float(start), float(slope), float(np.abs(columns @ (start, slope) - 1).max()))
