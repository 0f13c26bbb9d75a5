"""Learned tokens for the self-attention of a vision transformer: prompts, which pass its blocks, and prefixes."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from visual_decathlon.datasets.errors import InputError, setting
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes

MOST = 1000  # tokens; an image of 224 pixels has 196
LARGEST_HIDDEN = 8192
VIT = "network=timm/vit_tiny_patch16_224(img_size=32,patch_size=8)"


class Tokens(Method):
    """Base of methods that add learned objects to attention: only the blocks of a transformer take them."""

    learned: ClassVar[str]  # the learned objects, in the plural, for messages
    tokens: int

    def __post_init__(self):
        if not 1 <= self.tokens <= MOST:
            raise InputError(f"{self.name}(tokens={self.tokens}): tokens must be 1 to {MOST}")

    def _without_attention(self, network: str) -> str:
        return (
            f"{self.name} learns {self.learned} for self-attention, and {network} has none: "
            f"it belongs to a vision transformer (ViT), such as {setting(VIT)}"
        )

    def unsupported_reason(self, network: str) -> str:
        """A sentence for the suite's own ResNet; of a library's network `check` reads the shapes."""
        return self._without_attention(network) if network == "resnet26" else ""

    def replaced(self, network) -> None:
        """Puts the adapters into a shared network, whose `shapes` fit."""
        raise NotImplementedError

    def place(self, source, classes):
        """The shared network with the learned tokens and a fresh head. Raises InputError as `check` does."""

        from visual_decathlon.methods.layers.network import new_head, share

        self.check(source.shapes)
        network = share(source)
        self.replaced(network)
        new_head(network, classes)
        return network


@register
@dataclass(frozen=True)
class Prefix(Tokens):
    """Li, Liang 2021, prefix tuning: learned keys P_k and values P_v in front of those of every attention layer.

    `form` tells how they are learned:
    - "mlp", as in the paper: both of all layers are the output of one MLP, W₂ tanh(W₁ e + b₁) + b₂ for a learned vector
      e a token, with `hidden` units (512 in the paper's table-to-text). The MLP is a training aid: the file has the
      keys and values that it gives in the end.
    - "direct": the keys and values themselves, from a normal distribution of deviation 0.02. The paper measures that
      this trains worse.
    - "gated": h <- (1 - λ) h + λ softmax(q P_kᵀ) P_v for the output h of each head, λ one learned number a head and
      layer, from zero: the identity. He et al. 2022 (arXiv 2110.04366, equation 7) write prefix tuning in this form,
      with λ(x) the share of a query's attention that goes to the prefix. That is no other method: it equals the
      concatenation, as the tests check. What can be another method is the gate. Here it is learned and starts at zero,
      as in LLaMA-Adapter (arXiv 2303.16199), which adds g softmax(q P_kᵀ) P_v and keeps h whole.

    The papers tune language models. Start and MLP are peft's, in which both linear layers have a bias.
    It is for every attention that calls torch's scaled_dot_product_attention once, with rotated positions, biases of
    positions and windows (each window has the same prefix), and for torch's own MultiheadAttention.
    It stores 2 d p floats a layer of inner dimension d, p = `tokens`, and a number a head with the gate. `start` is
    `other`, but the identity with the gate.
    """

    name = "prefix"
    label = "Prefix"
    family = "prompts"
    fidelity = "adaptation"
    paper = "Li 2021, arXiv 2101.00190"
    mergeable = False
    lr = 0.1
    learned = "keys and values"

    tokens: int = 10
    form: Literal["mlp", "direct", "gated"] = "mlp"
    hidden: int = 512

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.hidden <= LARGEST_HIDDEN:
            raise InputError(f"prefix(hidden={self.hidden}): hidden must be 1 to {LARGEST_HIDDEN}")
        if self.form != "mlp" and self.hidden != type(self).hidden:
            raise InputError(
                f"prefix(form={self.form!r}, hidden={self.hidden}): only form='mlp' has an MLP; drop hidden"
            )

    @property
    def start(self):
        """`identity` with the gate, which starts at zero; else `other`."""
        return "identity" if self.form == "gated" else "other"

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without attention, or with one that is computed in another way."""
        if not shapes.of_tokens and not shapes.sdpas:
            raise InputError(self._without_attention("this backbone"))
        if odd := self._not_reached(shapes):
            raise InputError(
                f"prefix adds keys and values to torch's scaled_dot_product_attention, which {odd} does not call "
                "once in a pass with those of tokens, (images, heads, tokens, channels); take a plain vision "
                f"transformer, such as {setting(VIT)}"
            )

    def _not_reached(self, shapes: Shapes) -> str:
        """What calls torch's function several times, or never, or with channels in place of tokens; "" for nothing."""
        once = [sdpa for sdpa in shapes.sdpas if sdpa.count == 1]

        def reached(attention) -> bool:
            return any(f"{p.name}.".startswith(f"{attention.name}.") and p.values == attention.inner for p in once)

        several = [sdpa.name for sdpa in shapes.sdpas if sdpa not in once]
        others = [attention.name for attention in shapes.attentions if not reached(attention)]
        return next(iter([*several, *others]), "" if once else "this backbone")

    def replaced(self, network) -> None:
        """Keys and values at every attention; with an MLP, its shared part among the network's aids."""
        from visual_decathlon.methods.layers.prefix import Hidden, new_prefix
        from visual_decathlon.methods.layers.tokens import put_around

        sdpas = network.shapes.sdpas
        hidden = None
        if self.form == "mlp":
            hidden = Hidden(self.tokens, sdpas[0].keys, self.hidden).to(network.head.weight)
            network.aids["hidden"] = hidden
        options = {"form": self.form, "tokens": self.tokens, "hidden": hidden}
        makers = {sdpa.name: partial(new_prefix, shape=sdpa, **options) for sdpa in sdpas}
        put_around(network, makers, "attention")

    def floats(self, shapes: Shapes) -> int:
        """2 p d of each attention of inner dimension d, and its number of heads with the gate."""
        gates = sum(sdpa.heads for sdpa in shapes.sdpas) if self.form == "gated" else 0
        return self.tokens * sum(sdpa.keys + sdpa.values for sdpa in shapes.sdpas) + gates


@register
@dataclass(frozen=True)
class Prompt(Tokens):
    """Jia 2022, visual prompt tuning (VPT): p = `tokens` learned tokens join the image's at the input of the blocks.

    They are behind the class token. `deep`: every block has p of its own, which replace those that the block before
    gave; else (VPT-shallow) the first block's pass all blocks. Behind the last block they are taken out, so that norm
    and pooling see the image's tokens. All else is frozen but the head. The start is the paper's, uniform within
    sqrt(6 / (n + d)), n the inputs of the layer that reads the image, 3 patch²: `other`.

    A block must take any number of tokens (N, L, C), which windows (Swin) and layers over positions (Mixer) do not.
    The release's options of dropout and a projection of the prompts are not here; by default it has neither.
    It stores d p floats a block, or once with `deep=False`: 0.46 M for 50 tokens on ViT-B/16, as printed.
    The same paper's form for a ResNet is pad_prompt.
    """

    name = "prompt"
    label = "Visual prompt"
    family = "prompts"
    fidelity = "adaptation"
    paper = "Jia 2022, arXiv 2203.12119"
    mergeable = False
    lr = 0.1
    learned = "tokens"

    tokens: int = 10
    deep: bool = True

    @property
    def start(self):
        """`other`: attention has more to attend to."""
        return "other"

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone that is no row of blocks which map tokens to as many, however many."""
        blocks = shapes.block_shapes
        if not shapes.of_tokens:
            raise InputError(self._without_attention("this backbone"))
        if not all(block.any_length for block in blocks) or len(shapes.stages) != 1:
            raise InputError(
                "prompt needs a row of blocks that take any number of tokens, and this backbone is none: windows, "
                "stages, rotations and biases by position, and layers over all positions fix the number; take a plain "
                "vision transformer, such as "
                f"{setting(VIT)}"
            )

    def replaced(self, network) -> None:
        """Prompts in front of every block or of the first one, taken out behind it or behind the last one."""
        from visual_decathlon.methods.layers.tokens import PromptedBlock, new_prompts, put_around

        blocks, fan_in = network.shapes.block_shapes, network.shapes.convs[0].fan_in
        makers = {}
        for block in blocks:
            enters, leaves = self.deep or block is blocks[0], self.deep or block is blocks[-1]
            if enters or leaves:
                prompts = new_prompts(self.tokens, block.cin, fan_in).to(network.head.weight) if enters else None
                leaving = self.tokens if leaves else 0
                makers[block.name] = partial(PromptedBlock, prompts=prompts, leaving=leaving)
        put_around(network, makers, "block")

    def floats(self, shapes: Shapes) -> int:
        """p times the channels of every block, or of the first one."""
        return self.tokens * sum(block.cin for block in shapes.block_shapes[: None if self.deep else 1])
