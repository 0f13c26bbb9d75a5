"""What an entry of the registry promises of a network that it has placed."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.network import Network, stored_tensors
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.shapes import Shapes


def running_statistics(network: nn.Module) -> set[str]:
    """Names of the running statistics of every batch norm that is not the source's."""
    norms = [n for n, m in network.named_modules() if isinstance(m, _BatchNorm) and not getattr(m, "shared", False)]
    return {f"{n}.{part}" for n in norms for part in ("running_mean", "running_var", "num_batches_tracked")}


def assert_start(method: Method, got: Tensor, wanted: Tensor) -> None:
    """With `identity` the features are the frozen network's; with `other` they are not, not even by accident."""
    assert method.start in ("identity", "near", "other")
    off = float((got - wanted).abs().max() / wanted.abs().max())
    if method.start == "identity":
        assert off <= 1e-5
    elif method.start == "near":
        assert 0 < off <= method.start_tolerance
    else:
        assert off > 1e-3


def assert_count(method: Method, network: Network, source: Network, shapes: Shapes, classes: int) -> None:
    """The file without running statistics has the counted size; so have the trained tensors if stored unchanged."""
    running = running_statistics(network)
    stored = {name: t for name, t in stored_tensors(network, source).items() if name not in running}
    floats = [t for t in stored.values() if t.is_floating_point()]
    masks = [t for t in stored.values() if t.dtype == torch.uint8]
    assert len(floats) + len(masks) == len(stored)
    assert sum(t.numel() for t in floats) == method.floats(shapes) + shapes.head(classes)
    assert 0 <= 8 * sum(t.numel() for t in masks) - method.bits(shapes) < 8 * max(1, len(masks))
    trained = sum(p.numel() for n, p in network.named_parameters() if p.requires_grad and not n.startswith("aids."))
    counted = method.floats(shapes) + method.bits(shapes) / 32 + shapes.head(classes)  # a float for some bits or more
    packs = any(isinstance(m, Adapter) and m.stored() is not None for m in network.modules())
    if type(method).fit is not Method.fit:  # tensors that are set in closed form are not trained
        assert trained < method.floats(shapes) + method.bits(shapes) + shapes.head(classes)
    else:
        assert trained >= counted if packs else trained == counted
    assert network.head.out_features == classes
