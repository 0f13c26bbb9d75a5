"""Sentences about the convolutions that a method, or every method, does not adapt."""

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
