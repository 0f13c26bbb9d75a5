"""Networks in use that take no more memory than their files: bits stay bits, factors stay factors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.network import Adapter, Network, below, copied, packers, tensors_of


class Packed(Adapter):
    """Computes what an adapter does, and holds what that stores: it is unpacked for every batch, and forgotten.

    For inference where it was made: `.to()` reaches what is stored, and not the shared module inside.
    """

    def __init__(self, adapter: Adapter, stored: Mapping[str, Tensor]):
        super().__init__()
        for name, t in stored.items():
            self.register_buffer(name, t)
        own = tensors_of(adapter)
        bare = copied(adapter, {name: torch.empty_like(own[name], device="meta") for name in adapter.unpacked(stored)})
        self.bare = (bare,)  # in a tuple it is not this module's child

    def whole(self) -> Adapter:
        (bare,) = self.bare
        with torch.autocast(next(self.buffers()).device.type, enabled=False):  # a run unpacks outside of it
            own, found = tensors_of(bare), bare.unpacked(dict(self.named_buffers()))
        # In the strides of the tensors that they stand for, so that the same kernels give the same bits. (empty_like
        # of a meta tensor would import 480 modules, 38 MB.)
        made = {
            n: torch.empty_strided(t.shape, own[n].stride(), dtype=t.dtype, device=t.device) for n, t in found.items()
        }
        return copied(bare, {name: t.copy_(found[name]) for name, t in made.items()})

    def forward(self, x: Tensor) -> Tensor:
        return self.whole()(x)

    def merge(self) -> nn.Module:
        return self.whole().merge()


def hold_stored(network: Network, stored: Mapping[str, Tensor]) -> None:
    """Let the adapters of a network that was restored from `stored` hold no more than that. It is trained no more.

    The tensors of `stored` are taken as they are where they are on its device: copies would lie behind the unpacked
    ones that are freed here, and malloc would keep those blocks.
    """
    device = network.head.weight.device
    for path, adapter in packers(network).items():
        own = {name: t.to(device) for name, t in below(path, stored).items()}
        network.set_submodule(path, Packed(adapter, own).eval())
