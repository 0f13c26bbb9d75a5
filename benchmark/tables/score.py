"""The decathlon score S (Rebuffi, Bilen, Vedaldi 2017, section 4)."""

from collections.abc import Mapping

from visual_decathlon.datasets.catalogue import DOMAINS

BASELINE = "finetune"


def score(top1: Mapping[str, float], ceiling: Mapping[str, float]) -> float | None:
    """S = sum over the ten domains of 1000 E_max^-2 max(0, E_max - E)^2; None unless ten of ten are there.

    `top1` in % by domain name, `ceiling` E_max in % by domain name. Errors that are the baseline's get 2500.
    Also None where an E_max is 0: a baseline without errors leaves nothing to measure against.
    """
    if any(name not in top1 or not ceiling.get(name) for name in DOMAINS):
        return None
    return sum(1000 * (max(0.0, ceiling[d] - (100 - top1[d])) / ceiling[d]) ** 2 for d in DOMAINS)


def ceilings(baseline_top1: Mapping[str, float]) -> dict[str, float]:
    """E_max in %: twice the baseline's error, by domain."""
    return {name: 2 * (100 - value) for name, value in baseline_top1.items()}
