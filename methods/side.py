"""Side: a read-out of the frozen network, computed in closed form."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import BlockShape, Shapes

LARGEST = 1e6  # of ridge: above it W is almost 0


@register
@dataclass(frozen=True)
class Side(Method):
    """Ours, made for speed: no gradient goes through the network, whose maps are read once for each of `views` crops.

    It reads every second residual block, at most `depths` of them, with w = min(`width`, C) channels each (if C is
    larger, the first rows of their cosine transform), less their mean over the image. It takes the means of z z'ᵀ over
    the map with z' one pixel to the right, below, and below to either side, each as sign(.) sqrt|.| and divided by its
    length, as bilinear CNNs do (Lin 2015, arXiv 1504.07889), and the means of z in 4 x 4 cells, divided by their
    length. Together with the frozen features, divided by their length, these are φ: D = dim + Σ_blocks (4 w² + 16 w)
    numbers, less their mean over the training views. A transformer's map is that of its patches, without class tokens.
    The head reads s * (B φ) + t with B in {-1, 1}^(dim x D), so it is as large as that of any other method. W is the
    ridge regression of the classes on φ (with `ridge` times the mean |φ|²), computed in closed form and written as
    Bᵀ V with V a dim x classes matrix. Every few codes are the signs of the residual of those before, a greedy form of
    networks with several binary bases (Lin 2017, arXiv 1711.11294). s and t give mean 0 and variance 1 on the training
    views. The head starts at 8 V / s, logits of 8 times the regression. Only the head is trained by the recipe, on
    the codes; B, s and t do not change. Batch norm is the source's.
    Before the fit B is random: the start is `other`. During the fit, memory holds views * images * D floats and a
    square matrix of the smaller of views * images and D.
    It stores dim D bits and 2 dim floats: #par. 1.07, and 1.26 at width 0.25.
    """

    name = "side"
    label = "Side read-out"
    family = "read-out"
    fidelity = "ours"
    paper = "none"
    mergeable = False
    lr = 0.1

    views: int = 3
    width: int = 16
    depths: int = 4
    ridge: float = 0.3

    @property
    def cached_views(self):
        """The option `views`."""
        return self.views

    def __post_init__(self):
        if min(self.width, self.depths, self.views) < 1:
            raise InputError(f"{self.spec}: width, depths and views must be 1 or more")
        if not 0 < self.ridge <= LARGEST:
            raise InputError(f"{self.spec}: ridge must be above 0 and at most {LARGEST:g}")

    @property
    def start(self):
        """`other`: B is random before it is fitted."""
        return "other"

    def read(self, shapes: Shapes) -> dict[str, int]:
        """Paths of the residual blocks that are read -> the number of their channels."""
        return {block.name: min(block.cout, self.width) for block in self._blocks(shapes)}

    def _blocks(self, shapes: Shapes) -> tuple[BlockShape, ...]:
        return shapes.block_shapes[::2][: self.depths]

    def numbers(self, shapes: Shapes) -> int:
        """D, the number of values that are read from an image."""
        return shapes.dim + sum(4 * w**2 + 16 * w for w in self.read(shapes).values())

    def place(self, source, classes):
        """The shared network with its body in a Reader, Codes after it and a fresh head."""

        from visual_decathlon.methods.layers.layout import Layout
        from visual_decathlon.methods.layers.network import new_head, share
        from visual_decathlon.methods.layers.side import put_side

        network = share(source)
        shapes = network.shapes
        self.check(shapes)
        layouts = {block.name: Layout.of_block(shapes, block) for block in self._blocks(shapes)}
        put_side(network, layouts, self.width, self.numbers(shapes))
        new_head(network, classes)
        return network

    def split(self, network):
        """The Reader with its batch norms merged, and the head."""

        from visual_decathlon.methods.layers.network import merge_for_inference

        return merge_for_inference(network).body.read, network.head  # with batch norm merged into the convolutions

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where the codes are larger than the backbone, and for blocks whose maps it cannot read."""
        if odd := [block.name for block in self._blocks(shapes) if not block.single]:
            raise InputError(
                f"side reads the map that a block gives, and {odd[0]} of this backbone gives more; use feature"
            )
        shapes.require_grids("side", self._blocks(shapes), "feature")
        if self.bits(shapes) / 32 > shapes.base:
            raise InputError(f"{self.spec}: its codes are larger than the whole backbone; lower width or depths")

    def fit(self, network, read, y):
        """Sets codes and head by ridge regression. Raises InputError where the regression fails."""

        from visual_decathlon.methods.layers.side import fit_side

        try:
            return fit_side(network, read, y, self.ridge)
        except RuntimeError as error:  # a system that is singular, or larger than memory
            cause = " ".join(str(error).split())[:80]
            raise InputError(
                f"{self.spec}: the regression failed ({cause}); raise ridge, or lower width or views"
            ) from None

    def floats(self, shapes: Shapes) -> int:
        """2 dim: s and t."""
        return 2 * shapes.dim

    def bits(self, shapes: Shapes) -> int:
        """dim D: B."""
        return shapes.dim * self.numbers(shapes)
