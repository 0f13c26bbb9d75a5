"""The detail table: seeds, gaps, and the interval of the finite sample against its definition."""

import pytest

from tests.benchmark.drawn_records import ten
from tests.benchmark.drawn_tables import table_of
from visual_decathlon.benchmark.tables.detail import detail
from visual_decathlon.datasets.catalogue import DOMAINS


def test_detail_has_the_seeds_the_interval_and_the_gap():
    records = [r for s, v in {0: 90.0, 2: 80.0}.items() for r in ten("f", v, s)] + ten()
    rows = {(r["method"], r["domain"]): r for r in detail(table_of(records)).to_pylist()}
    row = rows["f", "dtd"]
    assert (row["top1"], row["gap"], row["seeds"]) == (85.0, 5.0, "0 2") and row["sd"] == pytest.approx(50**0.5)
    low, high = (100 * v for v in proportion_interval(85, 100))
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    assert row["records"].split(" f ")[-1].startswith("dtd 2") and row["seconds"] == 4.0
    source = rows["f", "imagenet12"]
    assert source["sd"] is None and source["seconds"] is None
    assert [d for m, d in rows if m == "f"] == list(DOMAINS)


def proportion_interval(hits: int, n: int) -> tuple[float, float]:
    """Wilson's interval by its definition: the shares p whose distance to hits / n is 1.96 of their own deviations."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = norm.ppf(0.975)
    distance = lambda p: abs(hits / n - p) - z * (p * (1 - p) / n) ** 0.5
    return brentq(distance, 1e-9, hits / n), brentq(distance, hits / n, 1 - 1e-9)
