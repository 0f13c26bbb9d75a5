"""What a head reads of a transformer's tokens: the class token, or the mean of the image's tokens."""

from functools import partial

from torch import Tensor, nn

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import Network


def pool_tokens(network: Network, pool: str) -> None:
    """Lets the last block give `pool` of its tokens at every position: 'cls' or 'mean'.

    Whatever the library's head then takes, the class token or a mean, it is that. Raises InputError for 'cls' where
    there is no class token.
    """
    extra, has_class = extra_tokens(network.body)
    if pool == "cls" and not has_class:
        raise InputError("feature(pool='cls'): this backbone has no class token; use pool='mean'")
    block = network.get_submodule(network.blocks[-1])
    block.register_forward_hook(partial(_pooled, extra=0 if pool == "cls" else extra, pool=pool))


def pooled(tokens: Tensor, extra: int, pool: str) -> Tensor:
    """(N, ..., C) -> the same shape, at every position the first token ('cls'), or the mean without `extra` first ones.

    Raises InputError where there are no other tokens.
    """
    rows = tokens.flatten(1, -2)
    if rows.shape[1] <= extra:
        raise InputError(
            "feature(pool='mean'): the last block of this backbone gives no tokens of the image; use 'cls'"
        )
    one = rows[:, 0] if pool == "cls" else rows[:, extra:].mean(1)
    return one.view(len(one), *[1] * (tokens.dim() - 2), -1).expand_as(tokens)


def _pooled(block: nn.Module, given: tuple, tokens: Tensor, extra: int, pool: str) -> Tensor:
    if not isinstance(tokens, Tensor):
        raise InputError(
            f"feature(pool={pool!r}): the last block of this backbone gives several tensors; leave pool out"
        )
    return pooled(tokens, extra, pool)


def extra_tokens(body: nn.Module) -> tuple[int, bool]:
    """How many tokens are before the image's, and whether the first is a class token: as timm and torchvision name it.

    timm's networks count them as `num_prefix_tokens`, registers among them; torchvision's ViT has one, `class_token`.
    """
    has_class = any(isinstance(getattr(body, name, None), Tensor) for name in ("cls_token", "class_token"))
    return getattr(body, "num_prefix_tokens", int(has_class)), has_class
