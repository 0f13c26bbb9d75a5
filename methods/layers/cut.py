"""A network in two parts: what comes before one of its blocks, and the rest."""

import torch
from torch import Tensor, nn

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import Network, copied


class _Before(nn.Module):
    """(N, 3, H, W) images -> the input of one block of a network's body."""

    def __init__(self, body: nn.Module, block: nn.Module):
        super().__init__()
        self.body = body
        block.register_forward_pre_hook(self._keep)

    def _keep(self, block: nn.Module, arrived: tuple[Tensor, ...]) -> Tensor:
        self._arrived, *others = arrived
        # The modules after it do nothing useful, but may write into it.
        return self._arrived[:1].clone() if not others else (self._arrived.clone(), *others)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, h, w), the input of the block."""
        self.body(x)
        return self._arrived


class _Resumed(nn.Module):
    """The input of one block -> a body's features; what the body computes before that block is of an empty image."""

    def __init__(self, body: nn.Module, block: nn.Module, size: int):
        super().__init__()
        self.body, self.size = body, size
        block.register_forward_pre_hook(self._replace)

    def _replace(self, block: nn.Module, computed: tuple) -> tuple:
        return self._given, *computed[1:]

    def forward(self, given: Tensor) -> Tensor:
        """The block's input (N, ...) -> (N, dim)."""
        self._given = given
        like = next(self.body.parameters())
        return self.body(torch.zeros(1, 3, self.size, self.size, device=like.device, dtype=like.dtype))


def cut(network: Network, block: str) -> tuple[nn.Module, Network]:
    """The part before `block` (one of `network.blocks`), and the rest with the head, on the network's own tensors.

    The rest maps the block's input to logits. Raises InputError where the body cannot be cut there.
    """
    return _cut_chain(network, block) if network.shapes.chain else _cut_body(network, block)


def _cut_body(network: Network, block: str) -> tuple[nn.Module, Network]:
    """A body of any form in which all that follows the block's start depends on the image only through its input.

    Both parts are whole bodies: the rest computes the beginning anew, of one image whatever the batch.
    """
    before, rest = copied(network), copied(network)
    rest.body = _Resumed(rest.body, rest.get_submodule(block), network.shapes.size)
    first = _Before(before.body, before.get_submodule(block))
    if _agree(network, first, rest):
        return first, rest
    raise InputError(
        f"this backbone cannot be cut in front of {block}: the rest alone computes another result; use views=0"
    )


@torch.no_grad()
def _agree(network: Network, first: nn.Module, rest: nn.Module) -> bool:
    """Whether both parts in a row compute what the network does, of two images; some code keeps the batch's size."""
    size, like = network.shapes.size, next(network.body.parameters())
    images = torch.linspace(-1, 1, 6 * size**2, device=like.device, dtype=like.dtype).sin().view(2, 3, size, size)
    modes = [(module, module.training) for part in (network, first, rest) for module in part.modules()]
    try:
        for part in (network, first, rest):
            part.eval()
        return torch.allclose(rest(first(images)), network(images), rtol=1e-3, atol=1e-4)
    except RuntimeError:
        return False
    finally:
        for module, training in modes:
            module.training = training


def _cut_chain(network: Network, block: str) -> tuple[nn.Module, Network]:
    """A body that is a sequence of modules that map one tensor to one.

    A part of it is the whole body with the other modules replaced by the identity.
    """
    before, rest = copied(network), copied(network)
    names = [name for name, module in network.body.named_modules(prefix="body") if not [*module.children()]]
    within = {name: next((b for b in network.blocks if name.startswith(f"{b}.")), name) for name in names}
    order = list(dict.fromkeys(within.values()))  # whole blocks, and the layers outside of blocks
    first = order.index(block)
    for name in order[:first]:
        rest.set_submodule(name, nn.Identity())
    for name in order[first:]:
        before.set_submodule(name, nn.Identity())
    return _Before(before.body, before.get_submodule(block)), rest
