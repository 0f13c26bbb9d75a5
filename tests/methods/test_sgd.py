"""The optimiser of the training loop: torch's SGD to the bit, without the start-up of torch's compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from visual_decathlon.methods.layers.sgd import SGD

TRAINED = """
import sys
import torch
from visual_decathlon.benchmark.runtime.numerics import configure_torch
from visual_decathlon.benchmark.perf import network
from visual_decathlon.benchmark.config.profiles import PROFILES
from visual_decathlon.methods.registry import select

configure_torch(PROFILES["standin"], "cpu")
(method,) = select("res_adapter")
network.training("one step", method, network.placed(method, 0.125, 16), network.pixels(4, 16)).work()
print(sorted({"torch._dynamo", "torch._inductor"} & set(sys.modules)))
"""


def stepped(kind: type[torch.optim.SGD], gradients: list[list[Tensor | None]], **settings) -> tuple[list, list]:
    """Two groups of parameters after these gradients, and their momenta."""
    generator = torch.Generator().manual_seed(0)
    trained = [torch.nn.Parameter(torch.randn(37, 5, generator=generator)) for _ in range(3)]
    optimiser = kind([{"params": trained[:2]}, {"params": trained[2:], "weight_decay": 0.0}], 0.1, 0.9, **settings)
    for given in gradients:
        for group in optimiser.param_groups:
            group["lr"] *= 0.9
        optimiser.zero_grad(set_to_none=True)
        assert all(p.grad is None for p in trained)
        for p, gradient in zip(trained, given, strict=True):
            p.grad = gradient
        optimiser.step()
    return trained, [optimiser.state[p].get("momentum_buffer") for p in trained]


@pytest.mark.parametrize(
    "settings",
    [{"fused": True, "nesterov": True, "weight_decay": 5e-4}, {"fused": True}, {"weight_decay": 1e-3}],
    ids=str,
)
def test_it_is_torchs_to_the_bit(settings):
    gradients = [[torch.randn(37, 5) for _ in range(3)] for _ in range(4)]
    own, reference = (stepped(kind, gradients, **settings) for kind in (SGD, torch.optim.SGD))
    for mine, wanted in zip(own[0] + own[1], reference[0] + reference[1], strict=True):
        assert torch.equal(mine, wanted)
    assert all(p.requires_grad and p.grad_fn is None for p in own[0])  # no step is part of a graph


def test_a_parameter_without_a_gradient_stays():
    trained, momenta = stepped(SGD, [[torch.ones(37, 5), None, torch.ones(37, 5)]])
    assert momenta[1] is None
    assert torch.equal(trained[1], stepped(SGD, [])[0][1])
    assert not torch.equal(trained[0], stepped(SGD, [])[0][0])


def test_training_does_not_start_torchs_compiler():
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True, cwd=root)
    assert done.stdout.split("\n")[-2:] == ["[]", ""], done.stderr
