"""Shapes of a network's layers, for counting parameters: in closed form, or read from a built network."""

from functools import cache

from visual_decathlon.methods.shapes import ConvShape, NormShape, Shapes

BLOCKS = 4  # residual blocks a stage


def stage_channels(width: float) -> list[int]:
    """Channels of the decathlon ResNet-26's stem and three stages; each is double the one before at every width."""
    stem = max(1, round(32 * width))
    return [stem, 2 * stem, 4 * stem, 8 * stem]


def resnet26_shapes(width: float = 1.0, size: int = 64) -> Shapes:
    """Shapes of the decathlon ResNet-26 in closed form, so that listings need no torch."""
    channels = stage_channels(width)
    units = [(3, channels[0], 1, "body.stem")]
    for stage, (cin, cout) in enumerate(zip(channels, channels[1:], strict=False)):
        for block in range(BLOCKS):
            path = f"body.stages.{stage}.{block}"
            first = block == 0
            units += [
                (cin if first else cout, cout, 2 if first else 1, f"{path}.unit1"),
                (cout, cout, 1, f"{path}.unit2"),
            ]
    convs = tuple(
        ConvShape(cin, cout, (3, 3), stride=(stride, stride), name=f"{unit}.conv") for cin, cout, stride, unit in units
    )
    norms = (*(NormShape(cout, f"{unit}.bn") for _, cout, _, unit in units), NormShape(channels[-1], "body.norm"))
    blocks = tuple(f"body.stages.{stage}.{block}" for stage in range(3) for block in range(BLOCKS))
    return Shapes(convs, norms, channels[-1], blocks, size)


@cache
def shapes_named(network: str, width: float = 1.0, size: int = 64) -> Shapes:
    """Shapes of the backbone of this name; a library's network is built for it."""
    if network == "resnet26":
        return resnet26_shapes(width, size)
    from visual_decathlon.benchmark.backbones.library import library_network

    return shapes_of(library_network(network, 1), size)


def shapes_of(network, size: int = 64) -> Shapes:
    """Shapes of a built network without adapters."""
    convs = tuple(
        ConvShape.of(m, name)
        for name, m in network.named_modules()
        if hasattr(m, "kernel_size") and hasattr(m, "groups")
    )
    norms = tuple(NormShape(m.num_features, name) for name, m in network.named_modules() if hasattr(m, "running_var"))
    return Shapes(convs, norms, network.head.in_features, network.blocks, size)
