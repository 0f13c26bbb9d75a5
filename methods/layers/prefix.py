"""Prefix tuning: learned keys and values in a transformer's attention."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.sdpa import ReplacedSdpa, use_sdpa
from visual_decathlon.methods.shapes import SdpaShape

DEVIATION = 0.02  # of keys and values at the start, as of a ViT's own tokens


def in_heads(x: Tensor, heads: int) -> Tensor:
    """(p, heads c) -> (1, heads, p, c)."""
    return x.unflatten(1, (heads, -1)).transpose(0, 1)[None]


def extended(mask: Tensor | None, keys: int, learned: int) -> Tensor | None:
    """A mask (..., L, keys), or one that is broadcast to it, for so many learned keys more in front of the others.

    Every query sees the learned ones.
    """
    if mask is None:
        return None
    seen = True if mask.dtype == torch.bool else 0.0
    return F.pad(mask.expand(*mask.shape[:-1], keys), (learned, 0), value=seen)


class PrefixAttention(Adapter):
    """An attention with `keys` and `values` (p, heads c) in front of those of the tokens.

    They join behind all that the attention does with its own: no norm and no rotation of positions acts on them.
    """

    def __init__(self, attention: nn.Module, keys: Tensor, values: Tensor):
        super().__init__()
        use_sdpa(attention)
        self.attention = attention
        self.keys, self.values = keys, values

    def prefix(self) -> tuple[Tensor, Tensor]:
        """Keys and values, (p, heads c) each."""
        return self.keys, self.values

    def sdpa(self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **options) -> Tensor:
        """What each head gives, (N, heads, L, c), of queries (N, heads, L, c), keys and values (N, heads, M, c)."""
        if options.get("is_causal"):
            raise NotImplementedError("a query would see only the first of the learned keys; give attention a mask")
        keys, values = self._expanded(q, k)
        mask = extended(attn_mask, k.shape[2], keys.shape[2])
        return F.scaled_dot_product_attention(q, torch.cat([keys, k], 2), torch.cat([values, v], 2), mask, **options)

    def _expanded(self, q: Tensor, k: Tensor) -> list[Tensor]:
        return [in_heads(x.to(q.dtype), k.shape[1]).expand(len(k), -1, -1, -1) for x in self.prefix()]

    def forward(self, *args, **options):
        """As the attention's own."""
        with ReplacedSdpa(self.sdpa):
            return self.attention(*args, **options)


class TrainedPrefix(PrefixAttention):
    """Keys and values that are trained as they are."""

    def __init__(self, attention: nn.Module, keys: Tensor, values: Tensor):
        super().__init__(attention, nn.Parameter(keys), nn.Parameter(values))


class GatedPrefix(TrainedPrefix):
    """(1 - λ) h + λ softmax(q P_kᵀ) P_v for the h of each head, with a learned number λ a head, from zero."""

    def __init__(self, attention: nn.Module, heads: int, keys: Tensor, values: Tensor):
        super().__init__(attention, keys, values)
        self.gate = nn.Parameter(keys.new_zeros(heads))

    def sdpa(self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **options) -> Tensor:
        """(N, heads, L, c)."""
        h = F.scaled_dot_product_attention(q, k, v, attn_mask, **options)
        of_prefix = F.scaled_dot_product_attention(q, *self._expanded(q, k), **options)
        return h + self.gate.to(h.dtype)[:, None, None] * (of_prefix - h)


class Hidden(nn.Module):
    """tanh(E W₁ᵀ + b₁): (p, hidden), of one learned vector a token; all layers' keys and values are read from it."""

    def __init__(self, tokens: int, dim: int, hidden: int):
        super().__init__()
        self.embedding = nn.Embedding(tokens, dim)
        self.linear = nn.Linear(dim, hidden)

    def forward(self) -> Tensor:
        """(p, hidden)."""
        return torch.tanh(self.linear(self.embedding.weight))


class MlpPrefix(PrefixAttention):
    """Keys and values of one layer as W₂ hidden + b₂, in training; the file holds the keys and values alone.

    `hidden` is the same Hidden in all layers. It is one of the network's aids, and so no submodule here. `keys` and
    `values` are zero in training and are added; a network that is restored has the file's there, and W₂ and b₂ are 0.
    """

    def __init__(self, attention: nn.Module, hidden: Hidden, out: nn.Linear, keys: Tensor, values: Tensor):
        super().__init__(attention, nn.Buffer(keys), nn.Buffer(values))
        self.hidden = (hidden,)  # in a tuple, so that torch does not register it as a submodule
        self.out = out

    def prefix(self) -> tuple[Tensor, Tensor]:
        """Keys and values, (p, heads c) each."""
        keys, values = self.out(self.hidden[0]()).split([self.keys.shape[1], self.values.shape[1]], 1)
        return self.keys + keys, self.values + values

    def stored(self) -> dict[str, Tensor]:
        """`keys` and `values`, (p, heads c) each."""
        return dict(zip(("keys", "values"), (t.clone() for t in self.prefix()), strict=True))

    def unpacked(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The keys and values, and an MLP that adds nothing to them."""
        return stored | {f"out.{name}": torch.zeros_like(t) for name, t in self.out.named_parameters()}

    def held(self, stored: dict[str, Tensor]) -> PrefixAttention:
        """The attention with these keys and values, without the MLP."""
        return PrefixAttention(self.attention, *(nn.Buffer(stored[name]) for name in ("keys", "values")))


def new_prefix(
    attention: nn.Module, shape: SdpaShape, form: str, tokens: int, hidden: Hidden | None
) -> PrefixAttention:
    """An attention of this shape with a new prefix; `hidden` is the shared part of the form "mlp"."""
    like, widths = next(attention.parameters()), (shape.keys, shape.values)
    if hidden is not None:
        out = nn.Linear(hidden.linear.out_features, sum(widths)).to(like)
        return MlpPrefix(attention, hidden, out, *(like.new_zeros(tokens, width) for width in widths))
    keys, values = (nn.init.normal_(torch.empty(tokens, width), std=DEVIATION).to(like) for width in widths)
    if form == "gated":
        return GatedPrefix(attention, shape.heads, keys, values)
    return TrainedPrefix(attention, keys, values)
