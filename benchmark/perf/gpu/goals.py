"""The goals, in one place: each belongs to one line of the table, which names it by its key."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Goal:
    """A bound on a line's own value or on its ratio to the baseline; `unit` is that of the value, "" for a ratio."""

    bound: float
    of: Literal["value", "ratio"]
    at: Literal["least", "most"]
    unit: str = ""

    def text(self) -> str:
        """The goal in the table: `≥ 5`, `≤ 45 s`."""
        sign = "≥" if self.at == "least" else "≤"
        return f"{sign} {self.bound:,g} {self.unit}".strip()

    def reached(self, value: float | None, ratio: float | None) -> bool | None:
        """Whether the goal is reached; None where its value or ratio was not measured."""
        measured = ratio if self.of == "ratio" else value
        if measured is None:
            return None
        return measured >= self.bound if self.at == "least" else measured <= self.bound


def _ratio(bound: float) -> Goal:
    return Goal(bound, "ratio", "least")


def _most(bound: float, unit: str) -> Goal:
    return Goal(bound, "value", "most", unit)


GOALS = {
    "par_adapter bf16 / eager bf16": _ratio(5),
    "par_adapter bf16 / reference": _ratio(8),
    "finetune bf16 / eager bf16": _ratio(3.5),
    "bn_adapt bf16 / eager bf16": _ratio(3.5),
    "res_adapter bf16 / eager bf16": _ratio(3.5),
    "par_adapter fp32 / reference": _ratio(1.3),
    "finetune fp32 / reference": _ratio(1.3),
    "bn_adapt fp32 / reference": _ratio(1.3),
    "res_adapter fp32 / reference": _ratio(1.3),
    "small step": _most(1.5, "ms"),
    "peak": Goal(1.1, "ratio", "most"),
    "nine domains": _most(11, "min"),
    "bench": _most(45, "s"),
    "imports": _most(20, "s"),
    "all methods": _most(6, "min"),
    "pretraining, streamed": Goal(20_000, "value", "least", "img/s"),
}
