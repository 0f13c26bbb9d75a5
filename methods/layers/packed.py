"""Networks in use that take no more memory than their files: bits stay bits, factors stay factors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.network import Network, below, copied, packers, tensors_of


class Packed(Adapter):
    """Computes the same as an adapter from the tensors it stores: they are unpacked for each batch, then freed.

    For inference on the device where it was made: `.to()` moves the stored tensors, not the shared module inside.
    """

    def __init__(self, adapter: Adapter, stored: Mapping[str, Tensor]):
        super().__init__()
        for name, t in stored.items():
            self.register_buffer(name, t)
        own = tensors_of(adapter)
        meta = {name: torch.empty_like(own[name], device="meta") for name in adapter.unpacked(stored)}
        self.template = (copied(adapter, meta),)  # in a tuple, so that torch does not register it as a submodule

    def whole(self) -> Adapter:
        """The adapter with all its tensors, unpacked."""
        (template,) = self.template
        with torch.autocast(next(self.buffers()).device.type, enabled=False):  # a run unpacks without autocast
            own, values = tensors_of(template), template.unpacked(dict(self.named_buffers()))
        # In the strides of the tensors they replace, so that the same kernels give the same bits. (empty_like of a
        # meta tensor would import 480 modules, 38 MB.)
        made = {
            n: torch.empty_strided(t.shape, own[n].stride(), dtype=t.dtype, device=t.device) for n, t in values.items()
        }
        return copied(template, {name: t.copy_(values[name]) for name, t in made.items()})

    def forward(self, x: Tensor) -> Tensor:
        """As the adapter's own forward."""
        return self.whole()(x)

    def merge(self) -> nn.Module:
        """As the adapter's own merge."""
        return self.whole().merge()


def hold_stored(network: Network, stored: Mapping[str, Tensor]) -> None:
    """Reduces the adapters of a network, which was restored from `stored`, to their stored form. It cannot be trained.

    Tensors of `stored` that are already on the network's device are used without a copy: copies would be allocated
    after the unpacked ones that are freed here, and malloc would keep those blocks.
    """
    device = network.head.weight.device
    for path, adapter in packers(network).items():
        own = {name: t.to(device) for name, t in below(path, stored).items()}
        network.set_submodule(path, (adapter.held(own) or Packed(adapter, own)).eval())
