"""One measured point of a growth."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """`what` was measured of `series` where that which `grows` was `at`: median, least and largest of the rounds."""

    grows: str
    setting: str  # all else, in words
    at: float
    series: str  # a method; "" where there is but one
    what: str
    unit: str
    value: float
    least: float
    largest: float
    rounds: int
    dropped: int  # rounds in which others had the machine

    @classmethod
    def of(cls, what: str, unit: str, values: Sequence[float], dropped: int = 0, **of) -> "Point":
        """That of the rounds' `values`; `of` says of what."""
        middle = statistics.median(values)
        return cls(
            what=what,
            unit=unit,
            value=middle,
            least=min(values),
            largest=max(values),
            rounds=len(values),
            dropped=dropped,
            **of,
        )
