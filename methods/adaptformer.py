"""AdaptFormer and the parallel adapters: a bottleneck next to the MLP or the attention of a transformer's layer."""

from dataclasses import dataclass
from typing import Literal

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.per_block import require_narrow
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import AttentionShape, Shapes


@register
@dataclass(frozen=True)
class AdaptFormer(Method):
    """MLP(z) + scale (U relu(D z + d) + u), z the layer norm of the stream, which the MLP reads (Chen 2022).

    D starts as a linear layer of torch does, U, d and u at zero: the identity, all as released. z is that of the
    paper's equation 3, whose branch begins at the layer norm; the release's adapter reads the stream in front of the
    norm. Its dropout of 0.1 is left out. A domain trains the branches and the head; layer norms stay the source's.
    LayerScale, where a backbone has it, scales the branch too.
    With where='attention' the branch is parallel to attention in place of the MLP. These are the parallel adapters of
    the unified view (He 2022, arXiv 2110.04366): scale=1 is its PA, a bottleneck of 512 with scale=4 its scaled PA;
    its sequential forms are houlsby and pfeiffer, its LoRA is lora and its prefix is prefix.
    On a network without attention it is refused. It stores 2 C m + C + m a layer of C channels, m the bottleneck:
    1.19 M floats on a ViT-B, 0.16 M with m = 8.
    """

    name = "adaptformer"
    label = "AdaptFormer"
    family = "adapter grid"
    fidelity = "reproduction"
    paper = "Chen 2022, arXiv 2205.13535"
    mergeable = False
    lr = 0.1

    bottleneck: int = 64
    scale: float = 0.1
    where: Literal["mlp", "attention"] = "mlp"

    def __post_init__(self):
        if self.bottleneck < 1:
            raise InputError(f"adaptformer(bottleneck={self.bottleneck}): the bottleneck must be 1 or more")
        if self.scale <= 0:
            raise InputError(f"adaptformer(scale={self.scale}): the scale must be above 0")

    def unsupported_reason(self, network: str) -> str:
        """The decathlon's own network has no attention; `check` reads the shapes of the others."""
        return self._reason(network) if network == "resnet26" else ""

    def _reason(self, network: str) -> str:
        return (
            f"adaptformer puts a bottleneck parallel to a transformer's MLP or attention, and {network} has no "
            "attention with one linear layer for queries, keys and values in front of an MLP; "
            "use houlsby or par_adapter"
        )

    def _attentions(self, shapes: Shapes) -> list[AttentionShape]:
        """The attention layers that are adapted, or whose MLP is: those that give as many channels as they read."""
        widths = self._widths(shapes)
        return [a for a in shapes.attentions if widths[a.name]]

    def _widths(self, shapes: Shapes) -> dict[str, int]:
        """Channels of the branch by the attention's path; 0 where there is none, or the layer changes their number."""
        if self.where == "attention":
            return {a.name: a.dim * (a.dim == a.gives) for a in shapes.attentions}
        layers = {conv.name: conv for conv in shapes.convs}
        ends = {a.name: [layers[name] for name in a.hidden[1:] if name] for a in shapes.attentions}
        return {name: mlp[0].cin * (mlp[0].cin == mlp[1].cout) if mlp else 0 for name, mlp in ends.items()}

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without attention, or narrower than the bottleneck."""
        if not self._attentions(shapes):
            raise InputError(self._reason("this backbone"))
        require_narrow(self, max(self._widths(shapes).values()), "attention" if self.where == "attention" else "MLP")

    def place(self, source, classes):
        """The shared network with own batch norms, a branch parallel to each MLP or attention, and a fresh head."""

        from visual_decathlon.methods.layers.houlsby import put_parallel
        from visual_decathlon.methods.layers.network import new_head, norms, own, share

        network = share(source)
        shapes = network.shapes
        self.check(shapes)
        own(*norms(network))
        widths = self._widths(shapes)
        for attention in self._attentions(shapes):
            path = attention.name if self.where == "attention" else attention.hidden[0]
            put_parallel(network, path, widths[attention.name], self.bottleneck, self.scale)
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """The batch norms, where there are some, and 2 C m + C + m a layer."""
        m = self.bottleneck
        return shapes.affine + sum(2 * width * m + width + m for width in self._widths(shapes).values() if width)
