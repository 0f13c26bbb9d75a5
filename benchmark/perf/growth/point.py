"""One measured point of a scaling study."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """`what` of `series`, measured where the quantity `grows` is `at`: median, least and largest of the rounds."""

    grows: str
    setting: str  # everything else, in words
    at: float
    series: str  # a method; "" where there is only one series
    what: str
    unit: str
    value: float
    least: float
    largest: float
    rounds: int
    dropped: int  # rounds in which other programs used the machine

    @classmethod
    def of(cls, what: str, unit: str, values: Sequence[float], dropped: int = 0, **about) -> "Point":
        """The point of the rounds' `values`; `about` has the remaining fields."""
        middle = statistics.median(values)
        return cls(
            what=what,
            unit=unit,
            value=middle,
            least=min(values),
            largest=max(values),
            rounds=len(values),
            dropped=dropped,
            **about,
        )
