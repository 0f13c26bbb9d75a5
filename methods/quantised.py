"""The trained tensors of another method's adapters in a few bits for each number."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Literal

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.low_rank import Lora
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import named, register
from visual_decathlon.methods.shapes import ConvShape, Shapes

SCALE_BITS = 16  # of a scale, or of each of the two levels of a block in one bit
FEWEST_BLOCKS = 8  # an adapter with fewer stays in full precision: its tensors could not have a scale each
_AS_THE_METHOD = ("family", "mergeable", "backbone_structure", "width_multiplier", "compiles", "captured", "lr")


@register
@dataclass(frozen=True)
class Quantised(PerConv):
    """Ours: a method with float adapters stored in 1 to 8 bits, as in `quantised(method='dora(rank=4)', store='int4')`.

    The tensors of an adapter are cut into blocks of about `block` numbers. A block has one scale in half precision, its
    number of the largest size with its sign; a number is scale / -2^(b - 1) times a whole number of b bits, from
    -2^(b - 1) to 2^(b - 1) - 1. So 0 and the scale are exact and no code is unused, as in llama.cpp's format Q4_0.
    Training is quantisation-aware: each forward pass of the method's own code reads the rounded tensors, and gradients
    pass straight through the rounding (Bengio 2013, arXiv 1308.3432) to tensors in full precision, which are not
    stored. Merging and loading use the rounded ones. Batch norm, head, and the adapters of fewer than 8 `block` numbers
    stay in full precision.
    It takes the methods that put a float adapter of its own at each convolution and train it by the optimiser alone.
    The start is the method's, but `other` where that needs more digits than a scale has (DoRA's lengths).
    An adapter of m numbers stores b m + 16 ceil(m / `block`) bits: 4.5 a number in int4, #par. 1.07 for `lora`.

    `store='1bit'` is the one bit of the binary adapters of Jie 2023, arXiv 2307.16867: a number is mean + 0.6745
    deviations or mean - 0.6745 deviations, the medians of the two halves of a normal distribution, whichever is nearer.
    Here mean and deviation are those of a block and not of a tensor, and its two levels are stored in half precision,
    where the authors store mean and deviation in single precision. A block of at most two different numbers keeps
    them: LoRA's B can start at zero, and rounding again changes nothing. (In the authors' code a deviation of zero has
    no gradient, and B starts at random.) Their gradient also passes through mean and deviation, here it passes straight
    through; their heads of one bit are left out.
    It stores m + 32 ceil(m / `block`) bits: #par. 1.04 for `lora`, and 1.03 with block=256.
    """

    name = "quantised"
    label = "LoRA in int4"
    family = Lora.family
    fidelity = "ours"
    paper = "none"
    mergeable = True
    lr = Lora.lr

    method: str = "lora"
    store: Literal["int8", "int4", "int3", "int2", "1bit"] = "int4"
    block: int = 32

    def __post_init__(self):
        object.__setattr__(self, "method", self.inner.spec)
        if reason := self._unfit():
            raise InputError(f"quantised(method={self.method!r}): {reason}")
        if not 8 <= self.block <= 4096:
            raise InputError(f"quantised(block={self.block}): a block must have 8 to 4096 numbers")
        for word in _AS_THE_METHOD:
            object.__setattr__(self, word, getattr(self.inner, word))
        object.__setattr__(self, "label", f"{self.inner.label} in {self.store}")

    @cached_property
    def inner(self) -> Method:
        """The method whose adapters are stored in few bits."""
        try:
            return named(self.method)
        except InputError as error:
            raise InputError(
                f"quantised(method={self.method!r}) takes one method with its options, as 'lora(rank=4)'; {error}"
            ) from None

    def _unfit(self) -> str:
        """Why the method's tensors cannot be quantised, in one sentence; "" where they can."""
        kind, name = type(self.inner), self.inner.name
        new_bits = getattr(kind, "new_bits", PerConv.new_bits)
        if kind.bits not in (Method.bits, PerConv.bits) or new_bits is not PerConv.new_bits:
            return f"{name} already stores bits, or does so with other options"
        if not isinstance(self.inner, PerConv) or kind.floats is not PerConv.floats:
            return f"{name} does not put an adapter of its own at each convolution; take one that does, as lora or dan"
        if kind.after_step is not Method.after_step or self.inner.has_joint_stage or self.inner.cached_views:
            return f"{name} changes its adapters between steps or before them, which knows no rounding"
        return ""

    @property
    def width(self) -> int:
        """b, the bits of a number."""
        return 1 if self.store == "1bit" else int(self.store.removeprefix("int"))

    @property
    def full_spec(self) -> str:
        """With all options of the method too, and its revision."""
        return super().full_spec.replace(f"method={self.method!r}", f"method={self.inner.full_spec!r}", 1)

    @property
    def start(self):
        """The method's own start where rounding keeps it, otherwise `other`."""
        return "identity" if self.inner.start == "identity" and self.inner.start_rounds else "other"

    def skip_reason(self, conv: ConvShape) -> str:
        """Where the method has no adapter, there is none."""
        return self.inner.skip_reason(conv)

    def adapted(self, shapes: Shapes) -> list[ConvShape]:
        """The convolutions that the method adapts."""
        return self.inner.adapted(shapes)

    def scales(self, conv: ConvShape) -> int:
        """The number of scales: ceil(m / `block`) of the m numbers of an adapter, or 0 for one in full precision."""
        scales = ceil(self.inner.new_floats(conv) / self.block)
        return scales if scales >= FEWEST_BLOCKS else 0

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where the method does not fit, or where no adapter is large enough to be quantised."""
        self.inner.check(shapes)
        if not any(map(self.scales, self.adapted(shapes))):
            raise InputError(
                f"{self.spec}: every adapter has fewer than {FEWEST_BLOCKS} blocks of {self.block} numbers and stays "
                "in full precision; use a smaller block"
            )

    def unsupported_reason(self, network: str) -> str:
        """As the method."""
        return self.inner.unsupported_reason(network)

    def place(self, source, classes):
        """The method's network with its adapters quantised."""
        network = self.inner.place(source, classes)
        for conv in self.adapted(source.shapes):
            self._quantise(network.get_submodule(conv.name), conv)
        return network

    def layer(self, conv):
        """The method's adapter at this convolution, quantised."""
        adapter = self.inner.layer(conv)
        self._quantise(adapter, ConvShape.of(conv))
        return adapter

    def _quantise(self, adapter, conv: ConvShape) -> None:
        from visual_decathlon.methods.layers.quantised import quantise

        if scales := self.scales(conv):
            quantise(adapter, self.width, scales)

    def loss(self, network, x, y, criterion):
        """As the method."""
        return self.inner.loss(network, x, y, criterion)

    def groups(self, network, decay, images):
        """As the method, for the tensors in full precision."""

        from visual_decathlon.methods.layers.quantised import without_rounding

        return self.inner.groups(without_rounding(network), decay, images)

    def optimiser(self, groups, lr, momentum, nesterov):
        """As the method."""
        return self.inner.optimiser(groups, lr, momentum, nesterov)

    def new_floats(self, conv: ConvShape) -> int:
        """m for an adapter in full precision, otherwise 0."""
        return 0 if self.scales(conv) else self.inner.new_floats(conv)

    def new_bits(self, conv: ConvShape) -> int:
        """b m + 16 ceil(m / `block`), m + 32 ceil(m / `block`) in one bit, or 0 for an adapter in full precision."""
        scales = self.scales(conv)
        per_block = SCALE_BITS * (2 if self.width == 1 else 1)
        return self.width * self.inner.new_floats(conv) + per_block * scales if scales else 0
