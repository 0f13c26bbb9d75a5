"""The best and the second-best value of each column, compared as printed."""

from collections.abc import Sequence


def ranks(values: Sequence[float | None], digits: int, largest: bool = True) -> list[str]:
    """ "best", "second" or "" for each value, rounded to `digits` as it is printed; equal values share a rank.

    Nothing is marked where all values are equal: then there is no best. `largest` is False where less is better.
    """
    rounded = [None if v is None else round(v, digits) for v in values]
    order = sorted({v for v in rounded if v is not None}, reverse=largest)
    if len(order) < 2:
        return [""] * len(values)
    marks = {order[0]: "best", order[1]: "second"}
    return [marks.get(v, "") for v in rounded]
