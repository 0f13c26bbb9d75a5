"""The frozen network: a head on features that are computed once."""

from dataclasses import dataclass
from typing import Literal

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes, onwards


@register
@dataclass(frozen=True)
class Feature(Method):
    """Rebuffi, Bilen, Vedaldi 2017, "feature extractor": head only, batch norm as the source left it.

    Features are computed once for `cached_views` crops of each image, so that training is almost free after that; the
    released code recomputes them at every step. It stores only the head: #par. 1.
    `pool` chooses what the head reads on a transformer whose last block gives tokens: 'cls' the class token, 'mean' the
    mean of the image's tokens, both taken in front of the last norm. By default it is what the library's network takes.
    """

    name = "feature"
    label = "Feature extractor"
    family = "frozen"
    fidelity = "reproduction"
    paper = "Rebuffi 2017, arXiv 1705.08045"
    mergeable = True
    lr = 0.1
    cached_views = 8
    later_options = ("pool",)

    pool: Literal["library", "cls", "mean"] = "library"

    @property
    def start(self):
        """`other` where the head reads something else than the library's own."""
        return "identity" if self.pool == "library" else "other"

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a `pool` of tokens where the last block gives none, or trained layers pool them."""
        if self.pool == "library":
            return
        last = shapes.block_shapes[-1] if shapes.block_shapes else None
        if last is None or not last.tokens:
            raise InputError(
                f"feature(pool={self.pool!r}): the last block of this backbone gives no tokens; leave pool out"
            )
        inside = {conv.name for conv in shapes.inside(last.name)}
        behind = {conv.name for conv in shapes.convs}.intersection(onwards(shapes.order, last.name)) - inside
        if behind:
            raise InputError(
                f"feature(pool={self.pool!r}): layers behind the last block of this backbone pool its tokens; "
                "leave pool out"
            )

    def place(self, source, classes):
        """The shared network with a fresh head, which reads what `pool` names."""

        from visual_decathlon.methods.layers.network import new_head, share

        network = share(source)
        self.check(network.shapes)
        if self.pool != "library":
            from visual_decathlon.methods.layers.token_pool import pool_tokens

            pool_tokens(network, self.pool)
        new_head(network, classes)
        return network

    def split(self, network):
        """The frozen body, and the head."""
        return network.body, network.head

    def floats(self, shapes: Shapes) -> int:
        """0."""
        return 0
