"""On a device: a step in a CUDA graph equals the eager one to the bit, and other kinds of step are close to it."""

import math

import pytest
import torch

from visual_decathlon.benchmark.config.kernels import LAYOUTS, NORMS, KernelChoice
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.perf.decathlon import Trained, drawn
from visual_decathlon.benchmark.perf.gpu.ways import streamed
from visual_decathlon.benchmark.training.fused_norm import available
from visual_decathlon.datasets.catalogue import DOMAINS


def differing(one: Trained, other: Trained) -> list[str]:
    """Names of the losses and tensors that differ in any bit."""
    names = [f"loss of epoch {a['epoch']}" for a, b in zip(one.history, other.history) if a["loss"] != b["loss"]]
    assert one.state.keys() == other.state.keys() and len(one.history) == len(other.history) == 2
    return names + [name for name, tensor in one.state.items() if not torch.equal(tensor, other.state[name])]


def moved(trained: Trained) -> bool:
    """Whether the last epoch's loss differs from the first one's."""
    return trained.history[0]["loss"] != trained.history[1]["loss"]


@pytest.mark.parametrize("name", ["par_adapter", "res_adapter", "finetune", "bn_adapt", "lora", "piggyback", "adalora"])
def test_a_graph_trains_to_the_bits_of_the_eager_loop(name: str, trained):
    graph, eager = trained(name), trained(name, graphs=False)
    assert moved(graph) and differing(graph, eager) == []


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_a_graph_trains_to_the_bits_of_the_eager_loop_in_other_precisions(precision: str, trained):
    graph, eager = (trained("par_adapter", f"precision={precision}", graphs=graphs) for graphs in (None, False))
    assert moved(graph) and differing(graph, eager) == []
    exact = trained("par_adapter")
    losses = zip(graph.history, exact.history, strict=True)
    assert all(math.isclose(row["loss"], other["loss"], rel_tol=0.02) for row, other in losses)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["par_adapter", "finetune"])
def test_in_each_layout_and_norm_a_graph_has_the_bits_of_the_eager_loop(
    name: str, precision: str, layout: str, trained, device: str
):
    """And the fused norm trains like the plain one, up to rounding."""
    norms = NORMS if available(torch.device(device)) else NORMS[:1]
    graphs = {}
    for norm in norms:
        ways = ({"choice": KernelChoice(layout, norm), "graphs": graphs} for graphs in (None, False))
        graphs[norm], eager = (trained(name, f"precision={precision}", **way) for way in ways)
        assert moved(graphs[norm]) and differing(graphs[norm], eager) == []
    first = [graph.history[0]["loss"] for graph in graphs.values()]
    assert all(math.isclose(loss, first[0], rel_tol=0.02) for loss in first)


def test_a_second_training_has_the_bits_of_the_first(trained):
    assert differing(trained("par_adapter", "precision=bf16"), trained("par_adapter", "precision=bf16")) == []


def test_packs_that_do_not_fit_are_streamed_to_the_same_bits(trained, device: str, on_gpu: bool):
    on_device = trained("par_adapter")
    batches = lambda: drawn(DOMAINS["dtd"], 16, profile("standin"), device, 16)
    assert (batches()._resident is not None) == on_gpu
    with streamed():
        assert batches()._resident is None
        from_host = trained("par_adapter")
    assert differing(on_device, from_host) == []
