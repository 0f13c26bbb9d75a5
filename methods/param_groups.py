"""Parameter groups of an optimiser in which some tensors have settings of their own."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def apart(network: "nn.Module", params: "Iterable[Tensor]", decay: float, **own: float) -> list[dict]:
    """Two groups: the network's other trained tensors with this weight decay, and the trained ones of `params`.

    `own` are the settings of the second group: its `weight_decay`, and `scale` for its rate.
    """
    chosen = [p for p in params if p.requires_grad]
    known = set(map(id, chosen))
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
    return [{"params": others, "weight_decay": decay}, {"params": chosen, **own}]
