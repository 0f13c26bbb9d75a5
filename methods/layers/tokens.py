"""Visual prompts: learned tokens that pass a transformer's blocks together with the image's."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.network import Network, move_sites


def with_prompts(x: Tensor, prompts: Tensor) -> Tensor:
    """x (N, L, C) and prompts (p, C) -> (N, L + p, C): the prompts behind the first token, a ViT's class token.

    Without a class token their place has no meaning: attention does not depend on the order of its tokens.
    """
    return torch.cat([x[:, :1], prompts.to(x).expand(len(x), *prompts.shape), x[:, 1:]], 1)


def without_prompts(x: Tensor, count: int) -> Tensor:
    """x (N, L + p, C) -> (N, L, C), the inverse of `with_prompts` for p = `count`."""
    return torch.cat([x[:, :1], x[:, 1 + count :]], 1)


def new_prompts(count: int, channels: int, fan_in: int) -> Tensor:
    """(count, channels), uniform within ±sqrt(6 / (fan_in + channels)), fan_in 3 patch² (Jia 2022's release)."""
    bound = (6 / (fan_in + channels)) ** 0.5
    return torch.empty(count, channels).uniform_(-bound, bound)


class PromptedBlock(Adapter):
    """A block in front of which `prompts` (p, C) enter, where there are any, and behind which `leaving` prompts leave.

    In the deep form p prompts enter and leave at every block. In the shallow form they enter at the first block and
    leave behind the last, so that the network's own pooling sees the image's tokens alone.
    """

    def __init__(self, block: nn.Module, prompts: Tensor | None, leaving: int):
        super().__init__()
        self.block = block
        self.prompts = None if prompts is None else nn.Parameter(prompts)
        self.leaving = leaving

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) -> (N, L', C): p tokens more and `leaving` fewer."""
        y = self.block(x if self.prompts is None else with_prompts(x, self.prompts))
        return without_prompts(y, self.leaving) if self.leaving else y


def put_around(network: Network, makers: Mapping[str, Callable[[nn.Module], Adapter]], inside: str) -> None:
    """Replaces the module at each of these paths by an adapter made of it, which holds it as `inside`.

    The paths of convolutions and linear layers inside of it become `path.inside.…`.
    """

    def moved(path: str) -> str:
        around = next((each for each in makers if path.startswith(f"{each}.")), None)
        return f"{around}.{inside}{path.removeprefix(around)}" if around else path

    for path, make in makers.items():
        network.set_submodule(path, make(network.get_submodule(path)))
    move_sites(network, moved)
