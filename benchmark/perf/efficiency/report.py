"""efficiency.md: the tables of networks, of adapted ones and of building blocks, with their notes, and the figure."""

import json
from collections.abc import Sequence

from visual_decathlon.benchmark.report.figures import block
from visual_decathlon.benchmark.report.figures.style import Drawn
from visual_decathlon.benchmark.report.markdown import escaped, table_lines

MB = 1e6
COUNTED = """\
1 MAC = 2 FLOPs: a multiply-add counts once as a MAC and twice as FLOPs. Convolutions, linear layers and both
products of attention are counted; biases, batch norms, activations, softmax and pooling are not. A file is a
safetensors file with fp32 numbers. 1 MB = 10⁶ bytes. Activations are the largest sum of the tensors that exist at
the same time during a forward pass, here in fp32 and of one image; images are in it, weights are not, nor what a
kernel needs while it runs."""
MEASURED = """\
Latency is the time of a forward pass of the whole batch in inference mode, with weights and images in the given
precision: the median of n rounds, with the 10th and 90th percentile. Within a precision and a batch the networks
take turns. Activations are of the whole batch. GPU: the peak of its allocator in a pass. J: joules of the whole
GPU for each image."""
FORMED = """\
C channels in and out, H × W positions, k the side of the kernel, g = 4 groups, t = 6. All have stride 1 and no
bias; batch norms are left out, as they are folded into convolutions at inference. Ratios are to the standard
convolution; the ratio in closed form holds for weights and for MACs alike. Latency ratios are medians over the
rounds, in fp32, with the least and the largest. The field is the side of the receptive field."""
ADAPTED = """\
What a method adds to a network, in fp32 inference. As trained, adapters are beside the layers; merged, they are within
them. Tokens are the longest sequences of queries and of keys in an attention: prompts lengthen both, prefixes the keys.
They are empty where a network has no attention, or computes it without torch's scaled_dot_product_attention.
MACs are without the head and count what grows with the number of images. Floats are what a domain stores besides its
head. Latency ratios are to the network itself in the same round: medians, with the least and the largest."""
Lines = tuple[list[str], list[list[str]]]
"""Head and rows of a table, as plain text."""


def networks(rows: Sequence[dict]) -> Lines:
    """The exact counts of each network, a line each."""
    head = ["network", "px", "parameters", "MB on disk", "M MACs", "M FLOPs", "activations, MB"]
    lines = []
    for row in rows:
        if (row["precision"], row["batch"]) == ("fp32", 1):
            counts = [f"{row['macs'] / 1e6:,.1f}", f"{row['flops'] / 1e6:,.1f}", _mb(row["activation_bytes"])]
            lines.append([row["network"], str(row["size"]), f"{row['parameters']:,}", _mb(row["file_bytes"]), *counts])
    return head, [line for i, line in enumerate(lines) if line not in lines[:i]]


def speeds(rows: Sequence[dict]) -> Lines:
    """Latency, throughput, memory and energy of each network, batch and precision."""
    gpu = any(row["allocated_bytes"] is not None for row in rows)
    energy = any(row["joules"] is not None for row in rows)
    head = ["network", "px", "precision", "batch", "latency, ms", "p10", "p90", "img/s", "n", "activations, MB"]
    noted = any(row["reason"] for row in rows)
    head += ["GPU, MB"] * gpu + ["J an image"] * energy + ["device"] + ["note"] * noted
    lines = []
    for row in rows:
        line = [row["network"], str(row["size"]), row["precision"], str(row["batch"])]
        line += [_number(row[name]) for name in ("latency_ms", "latency_ms_p10", "latency_ms_p90", "img_s")]
        line += [str(row["rounds"]), _mb(row["activation_bytes"])]
        line += [_mb(row["allocated_bytes"])] * gpu + [_number(row["joules"])] * energy
        lines.append([*line, row["device"], *[row["reason"]] * noted])
    return head, lines


def adapters(rows: Sequence[dict]) -> Lines:
    """What each method adds to its network, a line for each form, with a latency for each batch."""
    batches = sorted({row["batch"] for row in rows})
    head = ["network", "px", "method", "family", "form", "queries", "keys", "M MACs", "floats", "bits"]
    head += ["of the network", "activations, MB", *(f"latency ratio, batch {batch}" for batch in batches)]
    lines: dict[tuple, dict[int, dict]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("network", "size", "method", "form", "device"))
        lines.setdefault(key, {})[row["batch"]] = row
    out = []
    for (network, size, method, form, _), by_batch in lines.items():
        row = by_batch[min(by_batch)]
        tokens = ["" if row[name] is None else str(row[name]) for name in ("queries", "keys")]
        share = (row["floats"] + row["bits"] / 32) / row["base_floats"]
        counts = [f"{row['macs'] / 1e6:,.1f}", f"{row['floats']:,}", f"{row['bits']:,}", f"{100 * share:.2f} %"]
        ratios = [_spread(by_batch[batch]) if batch in by_batch else "" for batch in batches]
        line = [network, str(size), method, row["family"], form, *tokens, *counts, _mb(row["activation_bytes"])]
        out.append([*line, *ratios])
    return head, out


def _spread(row: dict) -> str:
    return f"{row['latency_ratio']:.2f} ({row['latency_ratio_least']:.2f}–{row['latency_ratio_largest']:.2f})"


def blocks(rows: Sequence[dict]) -> Lines:
    """The closed form of each block next to what was counted and measured."""
    head = ["block", "weights, formula", "weights", "counted", "M MACs", "counted", "MAC ratio, formula", "MAC ratio"]
    head += ["counted", "latency, ms", "latency ratio", "activations, MB", "activations ratio", "field"]
    lines = []
    for row in rows:
        lines.append(
            [row["block"], row["parameters_formula"], f"{row['parameters']:,}", f"{row['parameters_counted']:,}"]
            + [f"{row['macs'] / 1e6:,.2f}", f"{row['macs_counted'] / 1e6:,.2f}"]
            + [row["ratio_formula"], f"{row['ratio']:.4f}", f"{row['macs_ratio']:.4f}", _number(row["latency_ms"])]
            + [_spread(row), _mb(row["activation_bytes"]), f"{row['activation_ratio']:.2f}", str(row["field"])]
        )
    return head, lines


def markdown(
    of_networks: Sequence[dict], of_adapters: Sequence[dict], of_blocks: Sequence[dict], drawn: Drawn | str
) -> str:
    """The page; `drawn` is the figure, or the reason why there is none."""
    parts = ["# Efficiency", ""]
    if of_networks:
        parts += ["## Networks", "", COUNTED, "", *_table(networks(of_networks)), "", MEASURED, ""]
        parts += [*_table(speeds(of_networks)), "", escaped(about(of_networks)), ""]
    if of_adapters:
        parts += ["## Adapted networks", "", ADAPTED, "", *_table(adapters(of_adapters)), ""]
        parts += [escaped(about(of_adapters)), ""]
    if of_blocks:
        one = of_blocks[0]
        setting = f"C = {one['channels']}, H = W = {one['side']}, k = {one['kernel']}, batch {one['batch']}."
        parts += ["## Building blocks", "", f"{setting} {FORMED}", "", *_table(blocks(of_blocks)), ""]
        parts += [*(f"- {escaped(row['block'])}: {escaped(row['source'])}" for row in of_blocks), ""]
        parts += [escaped(about(of_blocks)), ""]
    parts.append(f"No figure: {escaped(drawn)}.\n" if isinstance(drawn, str) else block(drawn))
    return "\n".join(parts)


def about(rows: Sequence[dict]) -> str:
    """The machines and versions of the rows, each with the loads before the first round."""
    loads: dict[str, set[str]] = {}
    for row in rows:
        threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
        place = f"{row['machine']}, {threads}, torch {json.loads(row['versions'])['torch']}"
        load = "unknown" if row["load"] is None else f"{row['load']:.1f}"
        loads.setdefault(f"{place}, commit {row['commit'] or 'unknown'}", set()).add(load)
    return "; ".join(f"{place}, load {' and '.join(sorted(each))}" for place, each in loads.items()) + "."


def _table(lines: Lines) -> list[str]:
    head, rows = lines
    return table_lines(head, [[*map(escaped, row)] for row in rows])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _mb(size: int | None) -> str:
    return "" if size is None else f"{size / MB:,.2f}"
