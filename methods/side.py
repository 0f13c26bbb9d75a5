"""A read-out beside the frozen network, found in closed form."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes

LARGEST = 1e6  # of ridge: from there W is all but 0


@register
@dataclass(frozen=True)
class Side(Method):
    """Ours, made for speed: nothing is trained through the network, whose maps are read once for each of `views` crops.

    Read are every second residual block, up to `depths` of them, w = min(`width`, C) channels each (of more, the first
    rows of their cosine transform), less their mean over the image: the means of z z'ᵀ over the map with z' one pixel
    to the right, below, and below to either side, each as sign(.) sqrt|.| of length 1, as bilinear CNNs take theirs
    (Lin 2015, arXiv 1504.07889), and the means of z in 4 x 4 cells, of length 1. With the frozen features, of length 1
    too, they are φ, of D = dim + Σ_blocks (4 w² + 16 w) numbers, less their mean over the training views.
    The head reads s * (B φ) + t with B in {-1, 1}^(dim x D), so it is as large as any other method's. W, the ridge
    regression of the classes on φ (`ridge` times the mean |φ|²), is found in closed form and written as Bᵀ V with V a
    dim x classes matrix: every few codes are the signs of what those before leave over, a greedy form of networks of
    several binary bases (Lin 2017, arXiv 1711.11294). s and t give mean 0 and variance 1 on the training views. The
    head starts at 8 V / s, logits of 8 times the regression, and alone is trained by the recipe, on the codes; B, s
    and t stay. Batch norm is the source's.
    Before it is fitted B is random: the start is `other`. While it is, views * images * D floats are held, and a
    square matrix of the smaller of views * images and D.
    Stores dim D bits and 2 dim floats: #par. 1.07, at width 0.25 1.26.
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
        return self.views

    def __post_init__(self):
        if min(self.width, self.depths, self.views) < 1:
            raise InputError(f"{self.spec}: width, depths and views must be 1 or more")
        if not 0 < self.ridge <= LARGEST:
            raise InputError(f"{self.spec}: ridge must be above 0 and at most {LARGEST:g}")

    @property
    def start(self):
        return "other"

    def read(self, shapes: Shapes) -> dict[str, int]:
        """Paths of the residual blocks that are read, and how many channels of each."""
        blocks = shapes.blocks[::2][: self.depths]
        last = {block: [c for c in shapes.convs if c.name.startswith(f"{block}.")][-1] for block in blocks}
        return {block: min(conv.cout, self.width) for block, conv in last.items()}

    def numbers(self, shapes: Shapes) -> int:
        """D, how many numbers are read of an image."""
        return shapes.dim + sum(4 * w**2 + 16 * w for w in self.read(shapes).values())

    def place(self, source, classes):
        from visual_decathlon.methods.layers.network import new_head, share
        from visual_decathlon.methods.layers.side import put_side

        network = share(source)
        convs = tuple(ConvShape.of(conv, site.conv) for site, conv in network.conv_sites())
        shapes = Shapes(convs, (), network.head.in_features, network.blocks)
        put_side(network, [*self.read(shapes)], self.width, self.numbers(shapes))
        new_head(network, classes)
        return network

    def split(self, network):
        from visual_decathlon.methods.layers.network import merged

        return merged(network).body.read, network.head  # batch norm folded into the convolutions

    def check(self, shapes: Shapes) -> None:
        if self.bits(shapes) / 32 > shapes.base:
            raise InputError(f"{self.spec}: its codes are larger than the whole backbone; lower width or depths")

    def fit(self, network, read, y):
        from visual_decathlon.methods.layers.side import fit_side

        try:
            return fit_side(network, read, y, self.ridge)
        except RuntimeError as error:  # a system that is singular, or larger than memory
            what = " ".join(str(error).split())[:80]
            raise InputError(
                f"{self.spec}: the regression failed ({what}); raise ridge, or lower width or views"
            ) from None

    def floats(self, shapes: Shapes) -> int:
        return 2 * shapes.dim

    def bits(self, shapes: Shapes) -> int:
        return shapes.dim * self.numbers(shapes)
