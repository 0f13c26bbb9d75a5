"""The best and the second of each column, as they are printed."""

from collections.abc import Sequence


def ranks(values: Sequence[float | None], digits: int, largest: bool = True) -> list[str]:
    """ "best", "second" or "" for each value, by what is printed with so many digits; equal ones share a place.

    Nothing is marked where all values are alike: there is no best.
    """
    shown = [None if v is None else round(v, digits) for v in values]
    order = sorted({v for v in shown if v is not None}, reverse=largest)
    if len(order) < 2:
        return [""] * len(values)
    names = {order[0]: "best", order[1]: "second"}
    return [names.get(v, "") for v in shown]
