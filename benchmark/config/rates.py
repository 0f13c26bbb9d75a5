"""The peak learning rate of a run: the user's, the profile's, or the method's own.

A method's own rate was chosen in a sweep on the stand-ins. Its ratio to the 0.1 of `res_adapter` there says how much
more or less it bears than residual adapters do, whose rate in the paper is 0.1 too. On a transformer, and on a network
with batch norms behind depthwise convolutions, it has a third of its own rate, and never the paper's, which is one of
ResNets.
"""

from collections.abc import Iterable

from visual_decathlon.benchmark.config.profiles import Recipe
from visual_decathlon.datasets.errors import option
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import GROUPS

PAPER_METHODS = frozenset({*GROUPS["table1"], "par_adapter", "par_adapter_joint_svd"})
"""The methods that the authors of the residual adapters trained themselves, by their own recipe (2017, 2018)."""

REFERENCE = 0.1  # the rate that the sweep on the stand-ins chose for res_adapter


def rate_note(recipe: Recipe, methods: Iterable[Method], lower: bool) -> str:
    """A sentence on which rates these methods have; "" where one setting decides them all."""
    chosen = list(methods)
    papers = " ".join(m.spec for m in chosen if _has_papers(m, lower))
    own = {m.spec: peak_rate(recipe, m, lower) for m in chosen if not _has_papers(m, lower)}
    if recipe.lr or not own or not (recipe.paper_lr or lower):
        return ""
    rates = ", ".join(
        f"{rate:g} for {' '.join(spec for spec in own if own[spec] == rate)}" for rate in sorted({*own.values()})
    )
    source = "a third of those on ResNets" if lower else "from the sweep on the stand-ins"
    return (
        "learning rates: "
        + f"the paper's {recipe.paper_lr:g} for {papers}; " * bool(papers)
        + f"{rates}, {source}; {option('settings')}lr= sets one for all"
    )


def peak_rate(recipe: Recipe, method: Method, lower: bool) -> float:
    """The peak learning rate of a method's runs; `lower` is what `runs.backbones.lower_rates` says of its network."""
    own = own_rate(method, lower)
    if recipe.lr or not recipe.paper_lr:
        return recipe.lr or own
    return recipe.paper_lr if _has_papers(method, lower) else float(f"{recipe.paper_lr * own / REFERENCE:.12g}")


def own_rate(method: Method, lower: bool) -> float:
    """The method's own rate, of the sweep on the stand-ins.

    A third with `lower`, to one digit. On a transformer no other of three rates is better in the sweep (7 epochs) by
    more than its noise, and in whole runs (20 epochs) `lora` at its rate for ResNets ended near chance. On a ShuffleNet
    `lora` and `houlsby` ended below the feature extractor at theirs; on a ConvNeXt, which has no batch norms, a third
    was worse for each of five methods (five domains, one seed).
    """
    return float(f"{method.lr / 3:.1g}") if lower else method.lr


def _has_papers(method: Method, lower: bool) -> bool:
    return method.name in PAPER_METHODS and not lower
