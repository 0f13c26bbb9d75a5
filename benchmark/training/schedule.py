"""The learning rate as a pure function of the step, so that a resumed run needs no state for it."""

from math import cos, pi

from visual_decathlon.benchmark.config.profiles import Recipe


def learning_rate(recipe: Recipe, peak: float, step: int, steps: int) -> float:
    """Rate of step `step` (from 0) of `steps`.

    one-cycle: a cosine up from peak / 25 over `warmup_fraction` of the steps, then a cosine to 0 (Smith 2018).
    steps: divided by 10 after each fraction in `milestones`.
    """
    at = step / steps
    if recipe.schedule == "steps":
        return peak / 10 ** sum(at >= drop for drop in recipe.milestones)
    if at < recipe.warmup_fraction:
        low = peak / 25
        return low + (peak - low) * (1 - cos(pi * at / recipe.warmup_fraction)) / 2
    return peak * (1 + cos(pi * (at - recipe.warmup_fraction) / (1 - recipe.warmup_fraction))) / 2
