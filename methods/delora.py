"""DeLoRA: LoRA whose directions and strength are trained apart."""

from dataclasses import dataclass

from visual_decathlon.methods.low_rank import require_positive
from visual_decathlon.methods.param_groups import apart
from visual_decathlon.methods.per_conv import Ranked
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape

START_SEED = 0  # of the start of B and A, which is subtracted and not stored


@register
@dataclass(frozen=True)
class DeLoRA(Ranked):
    """Bini et al. 2025: ΔM = (λ / r) Σ_i b_i a_iᵀ / (|b_i| |a_i|) diag(|w_j|), on the weight as a matrix (cout, n).

    w_j are the columns of M, as in HF PEFT (which takes linear layers only): ΔM is at most λ times the longest of them,
    whatever the size of B (cout, r) and A (r, n). λ is trained, one a convolution, from `strength`; stored is its
    growth g, λ = strength (1 + g). As in the paper, the start of ΔM is subtracted: the identity. The start of B and A
    is drawn from a fixed seed, equal on every machine and for all layers of one size, so the subtracted part is neither
    stored nor counted. (HF PEFT starts with B zero and divides by 1e-4 instead, after which one step of SGD sets B's
    direction for good.) B, A and g have no weight decay: B and A of zero are not the frozen network. It stores
    rank (n + cout) + 1 a convolution: #par. 1.43 at rank 8.
    """

    name = "delora"
    label = "DeLoRA"
    family = "low rank"
    fidelity = "adaptation"
    paper = "Bini 2025, arXiv 2503.18225"
    mergeable = True
    lr = 0.15
    start_rounds = False  # B and A less their own start

    rank: int = 8
    strength: float = 15.0

    def __post_init__(self):
        super().__post_init__()
        require_positive(self, "strength")

    def largest_rank(self, conv: ConvShape) -> int:
        """min(cout, n)."""
        return min(conv.cout, conv.fan_in)

    def groups(self, network, decay, images):
        """B, A and λ without weight decay, and all others."""
        from visual_decathlon.methods.layers.delora import trained_tensors

        return apart(network, trained_tensors(network), decay, weight_decay=0.0)

    def layer(self, conv):
        """W + ΔM - ΔM at the start, at this convolution."""

        from visual_decathlon.methods.layers.delora import DeloraConv

        return DeloraConv(conv, self.rank_at(ConvShape.of(conv)), self.strength, START_SEED)

    def new_floats(self, conv: ConvShape) -> int:
        """rank (n + cout) + 1."""
        return self.rank_at(conv) * (conv.fan_in + conv.cout) + 1
