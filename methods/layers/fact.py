"""FacT: the ΔW of all layers as one tensor, whose factors over the channels are shared by the layers."""

from math import prod

from torch import Tensor, nn

from visual_decathlon.methods.layers.low_rank import LowRankConv, tucker_rows
from visual_decathlon.methods.layers.network import Network


def mixed_core(core: Tensor, mix: Tensor) -> Tensor:
    """(r, r, k l): for every tap the slices of the shared core (r, r, r), combined by a row of `mix` (k l, r)."""
    return core @ mix.t()


class FactConv(LowRankConv):
    """W' = W + λ V (S U): V `up` (cout, r) from zero, U `channels` (cin, r) and the core S (r, r, k l).

    V and U may belong to other layers. In the Tucker form S is `mixed_core` of a core that belongs to one layer of the
    network and of this layer's own `mix` (k l, r); in the tensor train it is this layer's own.
    """

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int, tucker: bool):
        super().__init__(conv, scale, rank)
        taps = prod(conv.kernel_size)
        self.channels = self.normal(conv.in_channels, rank, fan_in=conv.in_channels)
        if tucker:
            self.core = self.normal(rank, rank, rank, fan_in=rank)
            self.mix = self.normal(taps, rank, fan_in=rank * taps)
        else:
            self.core = self.normal(rank, rank, taps, fan_in=rank * taps)
            self.mix = None
        # In tuples, so that torch registers no submodule: a factor keeps one name and one owner.
        self.owners: dict[str, tuple[FactConv]] = {}

    def tie(self, name: str, owner: "FactConv") -> None:
        """Drops this layer's own factor of this name and uses that of `owner`."""
        delattr(self, name)
        self.owners[name] = (owner,)

    def factor(self, name: str) -> Tensor:
        """The factor of this name, this layer's own or its owner's."""
        (owner,) = self.owners.get(name, (self,))
        return getattr(owner, name)

    def rows(self) -> Tensor:
        """R (r, n) = S U."""
        core = self.factor("core")
        return tucker_rows(self.factor("channels"), core if self.mix is None else mixed_core(core, self.mix))

    def factors(self) -> tuple[Tensor, Tensor]:
        """λ V (cout, r) and R (r, n)."""
        return self.scale * self.factor("up"), self.rows()


def share_factors(network: Network) -> None:
    """Lets layers use the factors of the first one: V by their outputs, U by their inputs, the Tucker core all."""
    first: dict[tuple, FactConv] = {}
    for module in [m for _, m in network.conv_sites() if isinstance(m, FactConv)]:
        names = ("up", "channels") if module.mix is None else ("up", "channels", "core")
        for name in names:
            owner = first.setdefault((name, *getattr(module, name).shape), module)
            if owner is not module:
                module.tie(name, owner)
