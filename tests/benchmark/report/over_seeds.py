"""What tests compute from records over seeds, in another way than the tables do."""

from collections.abc import Sequence

import numpy as np


def cell(values: Sequence[float], digits: int, divisor: float = 1) -> str:
    """`mean ±deviation / divisor` of one value a seed; the mean alone where there is one seed."""
    text = f"{np.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ±{np.std(values, ddof=1) / divisor:.{digits}f}"


def points(error: float, largest: float) -> float:
    """A domain's part of S, from its error and E_max in %."""
    return 1000 * max(0, 1 - error / largest) ** 2
