"""Prefix tuning: learned keys and values in a transformer's attention."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter

DEVIATION = 0.02  # of keys and values at the start, as of a ViT's own tokens


def in_heads(x: Tensor, heads: int) -> Tensor:
    """(p, heads c) -> (1, heads, p, c)."""
    return x.unflatten(1, (heads, -1)).transpose(0, 1)[None]


def attended(attention: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(scale q kᵀ) v with the library's own kernel and dropout: (N, heads, L, c), k and v (N, heads, M, c)."""
    if attention.fused_attn:
        dropped = attention.attn_drop.p if attention.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropped)
    shares = (q * attention.scale @ k.transpose(-2, -1)).softmax(-1)
    return attention.attn_drop(shares) @ v


class PrefixAttention(Adapter):
    """timm's Attention with `keys` and `values` (p, heads c) in front of those of the tokens.

    The learned keys are used as they are: where the library normalises keys, they are not normalised.
    """

    def __init__(self, attention: nn.Module, keys: Tensor, values: Tensor):
        super().__init__()
        self.attention = attention
        self.keys, self.values = keys, values

    def prefix(self) -> tuple[Tensor, Tensor]:
        """Keys and values, (p, heads c) each."""
        return self.keys, self.values

    def combined(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What each head gives, (N, heads, L, c), of its queries, keys and values of the same shape."""
        keys, values = self._expanded(q)
        return attended(self.attention, q, torch.cat([keys, k], 2), torch.cat([values, v], 2))

    def _expanded(self, q: Tensor) -> list[Tensor]:
        return [in_heads(x.to(q.dtype), q.shape[1]).expand(len(q), -1, -1, -1) for x in self.prefix()]

    def forward(self, x: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        """(N, L, C) -> the same shape, as timm's Attention.forward without a mask, which no classifier gives."""
        if attn_mask is not None or is_causal:
            raise NotImplementedError("attention with a prefix takes no mask")
        own = self.attention
        q, k, v = own.qkv(x).unflatten(-1, (3, own.num_heads, -1)).permute(2, 0, 3, 1, 4)
        y = self.combined(own.q_norm(q), own.k_norm(k), v).transpose(1, 2).flatten(2)
        if hasattr(own, "norm"):  # later versions of timm have it, and the gate
            y = own.norm(y)
        if getattr(own, "gate", None) is not None:
            y = y * own.gate(x).sigmoid()
        return own.proj_drop(own.proj(y))


class TrainedPrefix(PrefixAttention):
    """Keys and values that are trained as they are."""

    def __init__(self, attention: nn.Module, keys: Tensor, values: Tensor):
        super().__init__(attention, nn.Parameter(keys), nn.Parameter(values))


class GatedPrefix(TrainedPrefix):
    """(1 - λ) h + λ softmax(q P_kᵀ) P_v for the h of each head, with a learned number λ a head, from zero."""

    def __init__(self, attention: nn.Module, keys: Tensor, values: Tensor):
        super().__init__(attention, keys, values)
        self.gate = nn.Parameter(keys.new_zeros(attention.num_heads))

    def combined(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(N, heads, L, c)."""
        h = attended(self.attention, q, k, v)
        of_prefix = attended(self.attention, q, *self._expanded(q))
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

    def __init__(self, attention: nn.Module, hidden: Hidden, out: nn.Linear):
        super().__init__(attention, *self._buffers_for(hidden, out))
        self.hidden = (hidden,)  # in a tuple, so that torch does not register it as a submodule
        self.out = out

    @staticmethod
    def _buffers_for(hidden: Hidden, out: nn.Linear) -> list[nn.Buffer]:
        like = out.weight.new_zeros(hidden.embedding.num_embeddings, out.out_features // 2)
        return [nn.Buffer(like.clone()) for _ in range(2)]

    def prefix(self) -> tuple[Tensor, Tensor]:
        """Keys and values, (p, heads c) each."""
        keys, values = self.out(self.hidden[0]()).chunk(2, 1)
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


def new_prefix(attention: nn.Module, form: str, tokens: int, inner: int, hidden: Hidden | None) -> PrefixAttention:
    """An attention of inner dimension `inner` with a new prefix; `hidden` is the shared part of the form "mlp"."""
    weight = attention.qkv.weight
    if hidden is not None:
        return MlpPrefix(attention, hidden, nn.Linear(hidden.linear.out_features, 2 * inner).to(weight))
    keys, values = (nn.init.normal_(torch.empty(tokens, inner), std=DEVIATION).to(weight) for _ in range(2))
    return (GatedPrefix if form == "gated" else TrainedPrefix)(attention, keys, values)
