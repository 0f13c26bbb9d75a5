"""The decathlon score S (Rebuffi, Bilen, Vedaldi 2017, section 4)."""

from collections.abc import Mapping

from visual_decathlon.datasets.catalogue import DOMAINS

BASELINE = "finetune"
"""The method whose errors set E_max."""


def domain_points(top1, e_max):
    """Points of one domain: 1000 E_max^-2 max(0, E_max - E)^2, from 0 to 1000.

    `top1` and `e_max` in %, both floats or both arrays of one shape. An `e_max` of 0 gives NaN in arrays and raises
    ZeroDivisionError for floats.
    """
    margin = e_max - (100 - top1)
    return 1000 * (margin * (margin > 0) / e_max) ** 2


def score(top1: Mapping[str, float], ceiling: Mapping[str, float]) -> float | None:
    """S: the sum of the points of the ten domains; None unless all ten are there.

    `top1` in % by domain name, `ceiling` E_max in % by domain name. The baseline's own errors give 2500. Also None
    where an E_max is 0: a baseline without errors leaves nothing to measure against.
    """
    if any(name not in top1 or not ceiling.get(name) for name in DOMAINS):
        return None
    return sum(domain_points(top1[name], ceiling[name]) for name in DOMAINS)


def ceilings(baseline_top1: Mapping[str, float]) -> dict[str, float]:
    """E_max in %: twice the baseline's error, by domain."""
    return {name: 2 * (100 - value) for name, value in baseline_top1.items()}
