"""Sentences about the convolutions that a method does not adapt."""

from visual_decathlon.methods.method import Method
from visual_decathlon.methods.shapes import Shapes


def skipped_convolutions(method: Method, shapes: Shapes) -> list[str]:
    """One sentence for each reason why `method` skips convolutions of this backbone; none if it adapts all of them."""
    reasons: dict[str, list[str]] = {}
    for conv in shapes.convs:
        if reason := method.skip_reason(conv):
            reasons.setdefault(reason, []).append(conv.name.removeprefix("body."))
    return [f"{method.spec} leaves {', '.join(names)} alone: {reason}" for reason, names in reasons.items()]
