"""The optimisers of the training loop: torch's SGD and Adam to the bit, without the start-up of torch's compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from visual_decathlon.benchmark.training.step import takes_tensors
from visual_decathlon.methods.layers.adam import Adam
from visual_decathlon.methods.layers.sgd import SGD

TRAINED = """
import sys
import torch
from visual_decathlon.benchmark.runtime.numerics import configure_torch
from visual_decathlon.benchmark.perf import network
from visual_decathlon.benchmark.config.profiles import PROFILES
from visual_decathlon.methods.registry import select

configure_torch(PROFILES["standin"], "cpu")
(method,) = select(sys.argv[1])
network.training("one step", method, network.placed(method, 0.125, 16), network.pixels(4, 16)).work()
print(sorted({"torch._dynamo", "torch._inductor"} & set(sys.modules)))
"""


def stepped(kind: type[torch.optim.Optimizer], gradients: list[list[Tensor | None]], **settings) -> tuple[list, list]:
    """Two groups of parameters after these gradients, and their states."""
    generator = torch.Generator().manual_seed(0)
    trained = [torch.nn.Parameter(torch.randn(37, 5, generator=generator)) for _ in range(3)]
    optimiser = kind([{"params": trained[:2]}, {"params": trained[2:], "weight_decay": 0.0}], 0.1, **settings)
    for given in gradients:
        for group in optimiser.param_groups:
            group["lr"] *= 0.9
        optimiser.zero_grad(set_to_none=True)
        assert all(p.grad is None for p in trained)
        for p, gradient in zip(trained, given, strict=True):
            p.grad = gradient
        optimiser.step()
    return trained, [optimiser.state[p] for p in trained]


@pytest.mark.parametrize(
    ("kinds", "settings"),
    [
        ((SGD, torch.optim.SGD), {"momentum": 0.9, "fused": True, "nesterov": True, "weight_decay": 5e-4}),
        ((SGD, torch.optim.SGD), {"momentum": 0.9, "fused": True}),
        ((SGD, torch.optim.SGD), {"momentum": 0.9, "weight_decay": 1e-3}),
        ((Adam, torch.optim.Adam), {"fused": True, "capturable": True}),
        ((Adam, torch.optim.Adam), {"weight_decay": 1e-3}),
    ],
    ids=str,
)
def test_it_is_torchs_to_the_bit(kinds, settings):
    gradients = [[torch.randn(37, 5) for _ in range(3)] for _ in range(4)]
    own, reference = (stepped(kind, gradients, **settings) for kind in kinds)
    for mine, wanted in zip(own[0], reference[0], strict=True):
        assert torch.equal(mine, wanted)
    for mine, wanted in zip(own[1], reference[1], strict=True):
        assert mine and all(torch.equal(mine[name], t) for name, t in wanted.items())
    assert all(p.requires_grad and p.grad_fn is None for p in own[0])  # no step is part of a graph


def test_a_parameter_without_a_gradient_stays():
    trained, states = stepped(SGD, [[torch.ones(37, 5), None, torch.ones(37, 5)]], momentum=0.9)
    assert not states[1]
    assert torch.equal(trained[1], stepped(SGD, [])[0][1])
    assert not torch.equal(trained[0], stepped(SGD, [])[0][0])


def test_adam_takes_its_rate_as_a_tensor():
    """So a GPU can capture the step; the same bits as with a number of float32."""
    trained = [torch.nn.Parameter(torch.ones(7)) for _ in range(2)]
    for p, rate in zip(trained, (torch.tensor(0.3), torch.tensor(0.3).item()), strict=True):
        optimiser = Adam([p], 1.0, fused=True, capturable=True)
        assert takes_tensors(optimiser)
        optimiser.param_groups[0]["lr"] = rate
        p.grad = torch.arange(7.0)
        optimiser.step()
    assert torch.equal(*trained) and not torch.equal(trained[0], torch.ones(7))


@pytest.mark.parametrize("spec", ["res_adapter", "piggyback"])
def test_training_does_not_start_torchs_compiler(spec):
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", TRAINED, spec], capture_output=True, text=True, cwd=root)
    assert done.stdout.split("\n")[-2:] == ["[]", ""], done.stderr
