"""Learned tokens for self-attention: listed here, but usable only on a vision transformer."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


class Tokens(Method):
    """Base of methods that add tokens to an attention layer: a ResNet has none, so these entries are refused."""

    tokens: str  # the learned objects, in the plural, for messages

    def unsupported_reason(self, network: str) -> str:
        """Always a sentence: no backbone here has attention."""
        return (
            f"{self.name} learns {self.tokens} for self-attention, and {network} has none: "
            "it belongs to a vision transformer (ViT), and none is a backbone here"
        )

    def place(self, source, classes):
        """Raises InputError."""
        raise InputError(self.unsupported_reason("this ResNet"))

    def floats(self, shapes: Shapes) -> int:
        """0: nothing is placed, so nothing is stored."""
        return 0


@register
@dataclass(frozen=True)
class Prefix(Tokens):
    """Li, Liang 2021, prefix tuning: learned keys and values before those of every attention layer.

    On a ViT of depth L and dimension d it stores 2 L d floats a token. No backbone here has attention: it is refused.
    """

    name = "prefix"
    label = "Prefix"
    family = "prompts"
    fidelity = "adaptation"
    paper = "Li 2021, arXiv 2101.00190"
    mergeable = False
    lr = 0.1
    tokens = "keys and values"


@register
@dataclass(frozen=True)
class Prompt(Tokens):
    """Jia 2022, visual prompt tuning (deep): learned tokens in addition to the image's at the input of every layer.

    On a ViT of depth L and dimension d it stores L d floats a token. No backbone here has attention: it is refused.
    The same paper's form for a ResNet is pad_prompt.
    """

    name = "prompt"
    label = "Visual prompt"
    family = "prompts"
    fidelity = "adaptation"
    paper = "Jia 2022, arXiv 2203.12119"
    mergeable = False
    lr = 0.1
    tokens = "tokens"
