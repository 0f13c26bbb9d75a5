"""The shapes a method is counted by: read off a network, or known without building one."""

from methods.shapes import ConvShape, Shapes


def stage_channels(width: float) -> list[int]:
    """Channels of the decathlon ResNet-26's stem and three stages; the shortcut doubles them, whatever the width."""
    stem = max(1, round(32 * width))
    return [stem, 2 * stem, 4 * stem, 8 * stem]


def resnet26_shapes(width: float = 1.0) -> Shapes:
    """Those of the decathlon ResNet-26, in closed form, so that listings need no torch."""
    channels = stage_channels(width)
    convs = [ConvShape(3, channels[0], (3, 3))]
    for cin, cout in zip(channels, channels[1:], strict=False):
        convs += [ConvShape(cin, cout, (3, 3))] + [ConvShape(cout, cout, (3, 3))] * 7
    return Shapes(tuple(convs), (*(c.cout for c in convs), channels[-1]), channels[-1])


def shapes_of(network) -> Shapes:
    """Those of a built network without adapters."""
    convs = [
        ConvShape(m.in_channels, m.out_channels, tuple(m.kernel_size), m.groups, m.bias is not None)
        for m in network.modules()
        if hasattr(m, "kernel_size") and hasattr(m, "groups")
    ]
    norms = [m.num_features for m in network.modules() if hasattr(m, "running_var")]
    return Shapes(tuple(convs), tuple(norms), network.head.in_features)
