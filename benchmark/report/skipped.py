"""Sentences about the convolutions that no method or one method adapts, and about methods that do not fit."""

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.shapes import Shapes


def skipped_convolutions(method: Method, shapes: Shapes) -> list[str]:
    """One sentence for each reason why `method` skips convolutions of this backbone; none if it adapts all of them."""
    reasons: dict[str, list[str]] = {}
    for conv in shapes.convs:
        if reason := method.skip_reason(conv):
            reasons.setdefault(reason, []).append(conv.name.removeprefix("body."))
    return [f"{method.spec} leaves {', '.join(names)} alone: {reason}" for reason, names in reasons.items()]


def left_by_all(network: str, shapes: Shapes) -> list[str]:
    """One sentence on the layers that no method adapts, since the network computes with them in a way of its own."""
    names = [other.name.removeprefix("body.") for other in shapes.others if other.layer]
    if not names:
        return []
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [f"{network}: every method leaves {listed} alone, as the network computes with it in a way of its own"]


def misfit(method: Method, network: str, shapes: Shapes) -> str:
    """Why a method does not fit a backbone of this name and these shapes, in one sentence; "" where it does."""
    if reason := method.unsupported_reason(network):
        return reason
    if method.width_multiplier != 1 and network != "resnet26":
        return "it needs a wider backbone"
    try:
        method.check(shapes)
    except InputError as error:
        return str(error)
    return ""
