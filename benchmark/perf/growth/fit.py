"""A line through measured points, and how far they are from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LINEAR = 0.1  # of a point's value: where none is further off, the growth is called linear


@dataclass(frozen=True)
class Fit:
    """value = `start` + `slope` x; `off` is the largest distance of a point from that, relative to the point."""

    start: float
    slope: float
    off: float

    @property
    def linear(self) -> bool:
        return self.off <= LINEAR


def fitted(xs: Sequence[float], values: Sequence[float]) -> Fit | None:
    """The line of least squares of the relative distances, so that small points count as much as large ones.

    None of less than three points, which are on a line or say nothing, and where a value is not above 0.
    """
    x, y = np.array(xs, float), np.array(values, float)
    if len(x) < 3 or (y <= 0).any():
        return None
    columns = np.stack([1 / y, x / y], axis=1)
    (start, slope), *_ = np.linalg.lstsq(columns, np.ones(len(x)))
    return Fit(float(start), float(slope), float(np.abs(columns @ (start, slope) - 1).max()))
