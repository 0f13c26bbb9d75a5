"""Which modules of a network are its blocks: those that follow each other in a pass, or repeat."""

from collections import Counter
from collections.abc import Callable, Mapping

from torch import nn

from visual_decathlon.benchmark.backbones.followed_pass import Call

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def within(name: str, other: str) -> bool:
    """Whether the module `name` is below the module `other`."""
    return name.startswith(f"{other}.")


def find_blocks(
    modules: Mapping[str, nn.Module], calls: Mapping[str, Call], inside: Callable[[str], list[str]]
) -> list[str]:
    """The smallest modules of two layers or more that follow each other; else the class that repeats most.

    `inside(module)` gives the layers below it. A stage of a single block, which nothing follows, gives that block where
    other stages show which class its blocks have.
    """
    large = [n for n in modules if n and n in calls and len(inside(n)) > 1]
    chained = _chained([n for n in large if calls[n].given and calls[n].result], modules, calls)
    if not chained:
        plain = [n for n in large if type(modules[n]) not in _CONTAINERS]
        kinds = Counter(type(modules[name]) for name in plain)
        kind, count = max(kinds.items(), key=lambda pair: pair[1], default=(None, 0))
        chained = {name for name in plain if type(modules[name]) is kind} if count > 1 else set()
    blocks = _of_single_stages(_smallest(chained), large, modules)
    return sorted({_whole(name, modules, calls) for name in blocks}, key=list(modules).index)


def _of_single_stages(blocks: set[str], large: list[str], modules: Mapping[str, nn.Module]) -> set[str]:
    """The blocks; for a stage of a single block that block, where most modules of the stage's class hold blocks."""
    kinds = Counter(type(modules[name]) for name in blocks)
    around = {other for other in large for name in blocks if within(name, other)}
    holding = Counter(type(modules[name]) for name in around if type(modules[name]) not in _CONTAINERS)
    stages = {kind for kind, count in holding.items() if count > kinds[kind]}
    found = set()
    for name in blocks:
        held = {other for other in large if within(other, name) and type(modules[other]) in kinds.keys() - stages}
        found |= _smallest(held) if held and type(modules[name]) in stages else {name}
    return found


def _smallest(names: set[str]) -> set[str]:
    return {name for name in names if not any(within(other, name) for other in names)}


def _chained(large: list[str], modules: Mapping[str, nn.Module], calls: Mapping[str, Call]) -> set[str]:
    """Of these modules those that read what another one gives, or give what another one reads."""
    given = {name: id(calls[name].given[0]) for name in large}
    result = {name: id(calls[name].result[0]) for name in large}
    pairs = [
        (name, follower)
        for name in large
        for follower in large
        if result[name] == given[follower] and not within(name, follower) and not within(follower, name)
    ]
    followed, following = {first for first, _ in pairs}, {second for _, second in pairs}
    chained = followed | following
    in_a_row = {name for pair in pairs if _in_one_list(*pair, modules) for name in pair}

    def a_part(name: str) -> bool:
        """Whether it is a branch inside a module of the chain, which it neither begins, ends nor links."""
        around = [other for other in chained if within(name, other)]
        enters = name in following or any(given[name] == given[other] for other in around)
        leaves = name in followed or any(result[name] == result[other] for other in around)
        return bool(around) and not (enters and leaves) and name not in in_a_row

    return {name for name in chained if not a_part(name)}


def _in_one_list(name: str, other: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether both are elements of one container, as the first two blocks of a stage that begins with another layer."""
    around, around_other = (path.rpartition(".")[0] for path in (name, other))
    return around == around_other and type(modules[around]) in _CONTAINERS


def _whole(name: str, modules: Mapping[str, nn.Module], calls: Mapping[str, Call]) -> str:
    """The module around a sequence that is all of it: it reads and gives the same tensors."""
    around, call = name.rpartition(".")[0], calls[name]
    if type(modules[name]) is not nn.Sequential or around not in calls or not around:
        return name
    outer = calls[around]
    same = [outer.given[:1], outer.result[:1]], [call.given[:1], call.result[:1]]
    return around if all(a and b and a[0] is b[0] for a, b in zip(*same, strict=True)) else name
