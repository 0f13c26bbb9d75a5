"""The rows of building blocks: the closed form of each next to what is counted and measured."""

import torch

from visual_decathlon.benchmark.perf.efficiency import count, passes
from visual_decathlon.benchmark.perf.efficiency.blocks import BLOCKS, KERNEL
from visual_decathlon.benchmark.perf.efficiency.live_tensors import peak_activation
from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent
from visual_decathlon.benchmark.training.macs import pass_macs

CHANNELS, SIDE, BATCH = 128, 32, 1
LAYOUT = torch.channels_last


def measured(
    device: str, channels: int = CHANNELS, side: int = SIDE, batch: int = BATCH, progress: ProgressCallback = silent
) -> list[dict]:
    """A row for each of BLOCKS, in fp32; all take turns."""
    x = torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(0))
    x = x.to(device).contiguous(memory_format=LAYOUT)
    modules = [b.build(channels).eval().requires_grad_(False).to(device, memory_format=LAYOUT) for b in BLOCKS]
    memory = [peak_activation(module, x) for module in modules]
    macs = [pass_macs(module, x) for module in modules]
    variants = [passes.forward(block.name, module, x) for block, module in zip(BLOCKS, modules, strict=True)]
    rounds = passes.take_turns(variants, sum(map(passes.seconds_of, variants)), progress, "blocks")
    rows = []
    for i, (block, module) in enumerate(zip(BLOCKS, modules, strict=True)):
        rows.append(
            {
                **{"block": block.name, "source": block.source, "channels": channels, "side": side, "kernel": KERNEL},
                **{"field": block.field, "batch": batch, "precision": "fp32", "layout": "channels_last"},
                **{"parameters_formula": block.formula, "parameters": block.weights(channels)},
                "macs_formula": "H W C²" if block.formula == "C²" else f"H W ({block.formula})",
                "macs": side**2 * block.weights(channels),
                **{"ratio_formula": block.ratio_formula, "ratio": float(block.ratio(channels))},
                **{"parameters_counted": count.parameters(module), "macs_counted": macs[i]},
                "macs_ratio": macs[i] / macs[0],
                **{"activation_bytes": memory[i], "activation_ratio": memory[i] / memory[0]},
                **passes.latency_columns(rounds, batch, block.name, BLOCKS[0].name),
            }
        )
    return rows
