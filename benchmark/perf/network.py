"""Training steps and evaluations of the ResNet-26 at the paper's size, in our way and in the reference's."""

import copy
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.perf.rounds import Variant
from visual_decathlon.methods.layers.arc import ARCConv
from visual_decathlon.methods.layers.low_rank import FactoredConv
from visual_decathlon.methods.layers.network import Network, merge_for_inference
from visual_decathlon.methods.layers.parallel import ParallelPointwise
from visual_decathlon.methods.layers.series import SeriesConv, put_series
from visual_decathlon.methods.method import Method

BATCH, SIZE, CLASSES = 64, 64, 100
_FAST = {ParallelPointwise: "fused", SeriesConv: "fused", FactoredConv: "factored_path", ARCConv: "mixed_path"}


def pixels(batch: int = BATCH, size: int = SIZE, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Random x (batch, 3, size, size) float32 and y (batch,)."""
    generator = np.random.default_rng(0)
    x = torch.from_numpy(generator.standard_normal((batch, 3, size, size), np.float32))
    return x, torch.from_numpy(generator.integers(classes, size=batch))


def source(method: Method, width: float = 1.0, size: int = SIZE) -> Network:
    """A backbone with random weights in the structure that the method needs."""
    torch.manual_seed(0)
    network = resnet26(CLASSES, width * method.width_multiplier)
    if method.backbone_structure == "series":
        put_series(network)
    return network.for_size(size).requires_grad_(False).eval().to(memory_format=torch.channels_last)


def placed(method: Method, width: float = 1.0, size: int = SIZE, classes: int = CLASSES) -> Network:
    """The method on such a backbone, ready for training."""
    torch.manual_seed(1)
    return method.place(source(method, width, size), classes).to(memory_format=torch.channels_last)


def plain(network: nn.Module) -> nn.Module:
    """Switch every adapter to the plain one of its two equivalent paths, in place."""
    for module in network.modules():
        for kind, flag in _FAST.items():
            if isinstance(module, kind):
                setattr(module, flag, False)
    return network


def reference_way(network: nn.Module) -> nn.Module:
    """The step as in the released code: NCHW, adapters in parallel to the convolutions."""
    return plain(network).to(memory_format=torch.contiguous_format)


def training(
    name: str, method: Method, network: nn.Module, inputs: tuple[Tensor, Tensor], steps: int = 1, bf16: bool = False
) -> Variant:
    """Training steps with the method's own loss and optimiser on the network's device: eager, in a loop."""
    device = next(network.parameters()).device
    x, y = (each.to(device) for each in inputs)
    if next(network.parameters()).is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
    optimiser = method.optimiser(method.groups(network, 1e-4, 1000), 0.01, 0.9, False)
    network.train()

    def work() -> int:
        for _ in range(steps):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                value, _ = method.loss(network, x, y, F.cross_entropy)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
        return steps * len(y)

    return Variant(name, work)


def evaluation(name: str, network: nn.Module, x: Tensor, bf16: bool = False) -> Variant:
    """Forward passes of `network` unchanged, in eval mode, with x in the network's own layout."""
    weight = next(p for p in network.parameters() if p.dim() == 4 and p.shape[2] > 1)
    layout = torch.channels_last if weight.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    x = x.to(weight.device).contiguous(memory_format=layout)
    network.eval()

    @torch.inference_mode()
    def work() -> int:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            network(x)
        return len(x)

    return Variant(name, work)


def inference_module(network: Network) -> Network:
    """Merged, folded, in channels_last, as a run evaluates it; tensors of its own."""
    return copy.deepcopy(merge_for_inference(network)).to(memory_format=torch.channels_last)


def training_macs(network: nn.Module, x: Tensor, y: Tensor) -> int:
    """Multiply-adds of one training step for each image, by torch's counter: convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(network.train()(x), y).backward()
    network.zero_grad(set_to_none=True)
    return counter.get_total_flops() // (2 * len(x))


def ceiling(dtype: torch.dtype = torch.float32, seconds: float = 0.4) -> float:
    """Multiply-adds per second of the fastest of some 3x3 convolutions typical of this network, channels_last."""
    best = 0.0
    for channels, side in ((64, 32), (128, 16), (256, 8), (256, 32)):
        x = torch.randn(BATCH, channels, side, side).to(dtype).contiguous(memory_format=torch.channels_last)
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(dtype).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            conv(x)
            best = max(best, BATCH * channels**2 * 9 * side**2 / _fastest(conv, x, seconds))
    return best


def _fastest(work: nn.Module, x: Tensor, seconds: float) -> float:
    """Seconds of the fastest call among those within `seconds`."""
    end, best = time.perf_counter() + seconds, float("inf")
    while (start := time.perf_counter()) < end:
        work(x)
        best = min(best, time.perf_counter() - start)
    return best
