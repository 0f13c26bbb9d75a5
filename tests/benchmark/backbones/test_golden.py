"""Our network against numbers made by the residual adapters' released code: see golden.py.

Compared on the plain path alone, NCHW fp32: in another order of operations a few ReLU inputs change sign.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.benchmark.backbones.golden import CLASSES, MODES, SETS, SLIM, golden_numbers, golden_weights
from visual_decathlon.benchmark.backbones import resnet26 as resnet26_module
from visual_decathlon.benchmark.backbones.reference_names import from_reference, to_reference
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.methods.layers.parallel import ParallelConv
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.registry import select


@pytest.fixture(autouse=True)
def _plain_path(monkeypatch):
    monkeypatch.setattr(ParallelConv, "fused", False)


def network_of(mode: str, task: int, width: float) -> nn.Module:
    """The network of a task with the golden file's weights."""
    made = resnet26(CLASSES[task], width=width)
    if mode == "series":
        put_series(made)
    elif mode == "parallel":
        (method,) = select("par_adapter")
        made = method.place(made, CLASSES[task])
    made.load_state_dict(from_reference(golden_weights(mode, width), task))
    return made


def near(got: torch.Tensor, wanted: torch.Tensor, part: float, name: str = "") -> None:
    """Every element within `part` of the largest wanted value."""
    assert got.shape == wanted.shape, name
    worst = float((got - wanted).abs().max() / wanted.abs().max())
    assert worst <= part, f"{name}: off by {worst:.1e} of the largest value"


def check_logits(mode: str, task: int, width: float) -> None:
    """In eval mode."""
    numbers = golden_numbers(mode, width)
    with torch.no_grad():
        near(network_of(mode, task, width).eval()(numbers["input"]), numbers[f"task{task}/logits_eval"], 1e-5)


def check_training_step(mode: str, width: float) -> None:
    """Logits and loss of task 0, and every gradient in single or in double precision.

    One input of a ReLU within rounding of zero has another sign on another processor, and gradients that differ by 1e-3
    and more. It may happen in either precision, and in both only where the network differs.
    """
    compare = training_step(mode, width, torch.float32)
    try:
        compare()
    except AssertionError:
        training_step(mode, width, torch.float64)()


def training_step(mode: str, width: float, dtype: torch.dtype) -> Callable[[], None]:
    """Compares logits and loss, and returns a function that compares the gradients."""
    numbers = golden_numbers(mode, width)
    network = network_of(mode, 0, width).requires_grad_(True).train().to(dtype)
    logits = network(numbers["input"].to(dtype))
    loss = F.cross_entropy(logits, numbers["task0/labels"])
    loss.backward()
    near(logits.detach(), numbers["task0/logits_train"], 1e-5)
    near(loss.detach()[None], numbers["task0/loss_train"], 1e-5)

    def compare() -> None:
        # Our gradients under RA's names: buffers fill the places of the tensors that have no gradient.
        named = {n: p.grad for n, p in network.named_parameters()} | dict(network.named_buffers())
        gradients = to_reference(named)
        wanted = {n.removeprefix("task0/grad/"): t for n, t in numbers.items() if n.startswith("task0/grad/")}
        assert len(wanted) == sum(1 for _ in network.parameters())
        for name, gradient in wanted.items():
            if mode == "series" and name.endswith("conv.0.bias"):
                # Behind it A maps the inner shift to one constant a channel, which the outer norm removes.
                assert gradients[name].abs().max() < 1e-6, name
            else:
                near(gradients[name], gradient, 1e-4, name)

    return compare


@pytest.mark.parametrize("width", SETS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", [0, 1])
def test_eval_logits(task, mode, width):
    check_logits(mode, task, width)


@pytest.mark.parametrize("width", SETS)
@pytest.mark.parametrize("mode", MODES)
def test_training_step(mode, width):
    check_training_step(mode, width)


# --- errors that the committed numbers must catch ---------------------------------------------------------------


def change_body(monkeypatch, change: Callable[[resnet26_module.Body], None]) -> None:
    """Applies `change` to every body that is built."""
    init = resnet26_module.Body.__init__

    def changed(self, width):
        init(self, width)
        change(self)

    monkeypatch.setattr(resnet26_module.Body, "__init__", changed)


def replicated_padding_in_the_last_convolution(monkeypatch) -> None:
    def change(body) -> None:
        unit = body.stages[2][3].unit2
        unit.conv = nn.Conv2d(unit.conv.in_channels, unit.conv.out_channels, 3, padding=1, padding_mode="replicate")
        unit.conv.bias = None

    change_body(monkeypatch, change)


def no_relu_in_the_last_block(monkeypatch) -> None:
    change_body(monkeypatch, lambda body: setattr(body.stages[2][3].unit1, "relu", False))


def relu_behind_the_stem(monkeypatch) -> None:
    change_body(monkeypatch, lambda body: setattr(body.stem, "relu", True))


def shortcut_of_every_second_pixel(monkeypatch) -> None:
    """Option A of He et al. 2015: a stride in place of the average."""
    monkeypatch.setattr(resnet26_module.F, "avg_pool2d", lambda x, size: x[:, :, ::size, ::size])


def shortcut_with_zeros_first(monkeypatch) -> None:
    monkeypatch.setattr(resnet26_module.torch, "cat", lambda parts, dim, cat=torch.cat: cat(parts[::-1], dim))


def another_epsilon(monkeypatch) -> None:
    init = nn.BatchNorm2d.__init__
    monkeypatch.setattr(nn.BatchNorm2d, "__init__", lambda self, *a, **how: init(self, *a, **{**how, "eps": 1e-3}))


ERRORS = [
    replicated_padding_in_the_last_convolution,
    no_relu_in_the_last_block,
    relu_behind_the_stem,
    shortcut_of_every_second_pixel,
    shortcut_with_zeros_first,
    another_epsilon,
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_in_the_network_is_caught(error: Callable, mode: str, monkeypatch):
    """Broken on purpose, the network fails both comparisons."""
    error(monkeypatch)
    with pytest.raises(AssertionError, match="of the largest value"):
        check_logits(mode, 0, SLIM)
    with pytest.raises(AssertionError, match="of the largest value"):
        check_training_step(mode, SLIM)
