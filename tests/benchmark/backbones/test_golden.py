"""Our network against numbers made by the residual adapters' released code (`../shared/golden`).

Held on the plain path alone, NCHW fp32: in another order of operations a few ReLU inputs change sign.
"""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from visual_decathlon.benchmark.backbones.reference_names import from_reference, to_reference
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.methods.layers.parallel import ParallelConv
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.registry import select

CLASSES = (10, 7)
MODES = ("bn", "series", "parallel")


@pytest.fixture(params=MODES)
def golden(request, shared, monkeypatch):
    """(mode, tensors of the golden file, network of a task with the file's weights)."""
    monkeypatch.setattr(ParallelConv, "fused", False)
    mode = request.param
    tensors = load_file(shared / "golden" / f"golden_{mode}.safetensors")
    weights = {n.removeprefix("weights/"): t for n, t in tensors.items() if n.startswith("weights/")}

    def network(task: int):
        made = resnet26(CLASSES[task], width=0.25)
        if mode == "series":
            put_series(made)
        elif mode == "parallel":
            (method,) = select("par_adapter")
            made = method.place(made, CLASSES[task])
        made.load_state_dict(from_reference(weights, task))
        return made

    return mode, tensors, network


def near(got: torch.Tensor, wanted: torch.Tensor, part: float, name: str = "") -> None:
    """Every element within `part` of the largest wanted value."""
    assert got.shape == wanted.shape, name
    worst = float((got - wanted).abs().max() / wanted.abs().max())
    assert worst <= part, f"{name}: off by {worst:.1e} of the largest value"


@pytest.mark.parametrize("task", [0, 1])
def test_eval_logits(golden, task):
    _, tensors, network = golden
    with torch.no_grad():
        near(network(task).eval()(tensors["input"]), tensors[f"task{task}/logits_eval"], 1e-5)


def test_training_step(golden):
    mode, tensors, network = golden
    network = network(0).requires_grad_(True).train()
    logits = network(tensors["input"])
    loss = F.cross_entropy(logits, tensors["task0/labels"])
    loss.backward()
    near(logits.detach(), tensors["task0/logits_train"], 1e-5)
    near(loss.detach()[None], tensors["task0/loss_train"], 1e-5)
    # RA's names of our gradients: buffers stand in for the tensors that have none.
    named = {n: p.grad for n, p in network.named_parameters()} | dict(network.named_buffers())
    ours = to_reference(named)
    wanted = {n.removeprefix("task0/grad/"): t for n, t in tensors.items() if n.startswith("task0/grad/")}
    assert len(wanted) == sum(1 for _ in network.parameters())
    for name, gradient in wanted.items():
        if mode == "series" and name.endswith("conv.0.bias"):
            # Behind it A maps the inner shift to one constant a channel, which the outer norm removes.
            assert ours[name].abs().max() < 1e-6, name
        else:
            near(ours[name], gradient, 1e-4, name)
