"""Weight decay by kind of tensor, and with the error of the optimiser that was released in 2018.

The commands of 2018 give the classification layer and the batch norms one decay (`--wd 5`, 5e-4) and the convolutions
another (`--wd3x3`, `--wd1x1`, 1e-4). A recipe says this as a decay and its factor on norms and heads. A transformer's
layer norms have the place of a ResNet's batch norms, so all kinds of norms take that factor; its linear layers take the
convolutions' decay.

The released optimiser (https://github.com/srebuffi/residual_adapters, `sgd.py`) goes through the trained tensors in the
network's order with one variable. It starts as `--wd`; a tensor of four dimensions whose third is 3 or 1 sets it to
the decay of such convolutions, and nothing sets it back. So every other tensor has the decay of the last convolution
before it, and only tensors before the first one have that of `--wd`: with series adapters the first inner batch norm,
with a frozen body (no convolution is trained) all of them.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from visual_decathlon.benchmark.config.profiles import Recipe
from visual_decathlon.methods.layers.network import is_norm
from visual_decathlon.methods.method import Method

_HEADS = ("", "head", "old_head")  # the last part of a head's path; "" where the head alone is trained


def parameter_groups(network: nn.Module, method: Method, recipe: Recipe, images: int) -> list[dict]:
    """The method's parameter groups, split where the recipe has several weight decays.

    The method is asked for its groups once with the recipe's decay, and once with that of norms and heads, which
    take theirs from the second answer: so a method that multiplies the decay, or has one of its own, keeps its rule.
    """
    groups = method.groups(network, recipe.weight_decay, images)
    if recipe.norm_head_decay == 1 and not recipe.decay_leak:
        return groups
    others = method.groups(network, recipe.weight_decay * recipe.norm_head_decay, images)
    plain, raised = _decay_of(groups), _decay_of(others)
    decays = _leaking(network, plain, raised) if recipe.decay_leak else plain | _of_norms_and_heads(network, raised)
    return [part for group in groups for part in _split(group, decays)]


def _decay_of(groups: list[dict]) -> dict[int, float]:
    """The decay of each parameter, by its id."""
    return {id(p): group["weight_decay"] for group in groups for p in group["params"]}


def _of_norms_and_heads(network: nn.Module, raised: dict[int, float]) -> dict[int, float]:
    """The entries of `raised` that belong to norms of any kind, those inside adapters too, and to heads."""
    inside = {
        id(p)
        for path, module in network.named_modules()
        if is_norm(module) or (isinstance(module, nn.Linear) and path.rpartition(".")[2] in _HEADS)
        for p in module.parameters(recurse=False)
    }
    return {key: decay for key, decay in raised.items() if key in inside}


def _leaking(network: nn.Module, plain: dict[int, float], raised: dict[int, float]) -> dict[int, float]:
    """The decay of each parameter under the released optimiser."""
    decays, leaked = {}, None
    for p in network.parameters():
        if id(p) not in plain:
            continue
        if _sets_decay(p):
            leaked = plain[id(p)]
        decays[id(p)] = raised[id(p)] if leaked is None else leaked
    return decays


def _sets_decay(p: Tensor) -> bool:
    return p.dim() == 4 and p.shape[2] in (1, 3)


def _split(group: dict, decays: dict[int, float]) -> Iterator[dict]:
    """One group for each decay within a group; its other entries and the order of its parameters stay."""
    parts: dict[float, list[Tensor]] = {}
    for p in group["params"]:
        parts.setdefault(decays[id(p)], []).append(p)
    for decay, params in parts.items():
        yield {**group, "params": params, "weight_decay": decay}
