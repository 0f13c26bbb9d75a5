"""GLoRA: a change relative to the weight and one that is added to it, both of low rank."""

from math import sqrt

from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.hadamard import relative_weight
from visual_decathlon.methods.layers.low_rank import add_low_rank


class GLoraConv(DeltaConv):
    """W + W ⊙ A + B in the shape of the kernel: A = A1 A2 of a rank, and B = B1 B2, or one number for each filter.

    A1 and B1 (cout, rank), or B (cout, 1), start at zero: the identity.
    """

    def __init__(self, conv: nn.Conv2d, rank: int, shift_vector: bool):
        super().__init__(conv)
        cout, n = conv.out_channels, conv.weight[0].numel()
        self.scale_up, self.scale_down = self.zeros(cout, rank), self.empty(rank, n)
        nn.init.normal_(self.scale_down)  # as HiRA's: A multiplies weights
        self.shift_up = self.zeros(cout, 1 if shift_vector else rank)
        self.shift_down = None if shift_vector else self.empty(rank, n)
        if not shift_vector:
            nn.init.kaiming_uniform_(self.shift_down, a=sqrt(5))  # as LoRA's

    def adapted_weight(self) -> Tensor:
        """W + W ⊙ A + B."""
        relative = relative_weight(self.conv.weight, self.scale_up, self.scale_down)
        if self.shift_down is None:
            return relative + self.shift_up[:, :, None, None]
        return add_low_rank(relative, self.shift_up, self.shift_down)
