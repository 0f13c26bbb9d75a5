"""Shapes of a network's layers, for counting parameters: in closed form, or read from a network that is built."""

from functools import cache

from visual_decathlon.methods.shapes import BlockShape, ConvShape, NormShape, Shapes

BLOCKS = 4  # residual blocks a stage


def stage_channels(width: float) -> list[int]:
    """Channels of the decathlon ResNet-26's stem and three stages; each is double the one before at every width."""
    stem = max(1, round(32 * width))
    return [stem, 2 * stem, 4 * stem, 8 * stem]


def resnet26_shapes(width: float = 1.0, size: int = 64) -> Shapes:
    """Shapes of the decathlon ResNet-26 in closed form, so that listings need no torch."""
    channels = stage_channels(width)
    units = [(3, channels[0], 1, "body.stem")]
    blocks = []
    for stage, (cin, cout) in enumerate(zip(channels, channels[1:], strict=False)):
        for block in range(BLOCKS):
            path = f"body.stages.{stage}.{block}"
            first = block == 0
            blocks.append(BlockShape(path, cin if first else cout, cout, stage, f"{path}.unit2.bn", cout))
            units += [
                (cin if first else cout, cout, 2 if first else 1, f"{path}.unit1"),
                (cout, cout, 1, f"{path}.unit2"),
            ]
    convs = tuple(
        ConvShape(cin, cout, (3, 3), stride=(stride, stride), name=f"{unit}.conv", normed=True)
        for cin, cout, stride, unit in units
    )
    norms = (*(NormShape(cout, f"{unit}.bn") for _, cout, _, unit in units), NormShape(channels[-1], "body.norm"))
    order = (*(f"{unit}.{layer}" for *_, unit in units for layer in ("conv", "bn")), "body.norm")
    return Shapes(convs, norms, channels[-1], tuple(blocks), size, order=order)


@cache
def shapes_named(network: str, width: float = 1.0, size: int | None = None) -> Shapes:
    """Shapes of the backbone of this name for images of this size; a library's network is built for it.

    Without a size it is the one for which the network is made. Raises InputError for a library's network that does not
    take images of this size.
    """
    if network == "resnet26":
        return resnet26_shapes(width, size or 64)
    from visual_decathlon.benchmark.backbones.library import library_shapes

    return library_shapes(network, size)
