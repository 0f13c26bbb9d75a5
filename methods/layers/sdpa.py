"""Scaled dot-product attention (SDPA) of a network whose code is not ours: seen, and replaced."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class ReplacedSdpa(TorchFunctionMode):
    """Context in which `sdpa` is called in place of F.scaled_dot_product_attention, with the same arguments.

    Queries, keys and values are (N, heads, L, c), behind all that a network does with them (norms, rotations of
    positions); its own mask comes along. It reaches every module that calls that function, and torch's
    MultiheadAttention of a sequence with itself, whose fast path torch does not take in such a context. Attention that
    is written out as matrix products is not reached. The context is one thread's.
    """

    def __init__(self, sdpa: Callable[..., Tensor]):
        super().__init__()
        self.sdpa = sdpa

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self.sdpa(*args, **kwargs)
        if func is F.multi_head_attention_forward and _plain(*args, **kwargs):
            return self._multi_head(*args, **kwargs)
        return func(*args, **kwargs)

    def _multi_head(
        self, x, key, value, dim, heads, weight, bias, bias_k, bias_v, zero, dropout, out, out_bias, training, **_
    ) -> tuple[Tensor, None]:
        """As torch's own on x (L, N, C), which does not let its SDPA be replaced."""
        q, k, v = (t.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for t in F.linear(x, weight, bias).chunk(3, -1))
        y = self.sdpa(q, k, v, dropout_p=dropout if training else 0.0)
        return F.linear(y.permute(2, 0, 1, 3).flatten(2), out, out_bias), None


def use_sdpa(network: nn.Module) -> None:
    """Sets `fused_attn` of timm's modules: by default some (Swin) write out what torch's function computes."""
    for module in network.modules():
        if isinstance(getattr(module, "fused_attn", None), bool):
            module.fused_attn = True


def _plain(x, key, value, dim, heads, weight, bias, bias_k, bias_v, zero, *args, **options) -> bool:
    """Whether torch's function is asked for the attention of a sequence with itself, without masks and weights."""
    masked = any(options.get(name) is not None for name in ("key_padding_mask", "attn_mask"))
    more = masked or zero or bias_k is not None or options.get("need_weights", True)
    return x is key is value and x.ndim == 3 and weight is not None and not more
