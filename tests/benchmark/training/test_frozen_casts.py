"""Frozen weights cast once give the bits of autocast's own casts, and the network is unchanged afterwards."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.training.frozen_casts import cast_once
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.registry import entries, select

METHODS = [method for method in (entry() for entry in entries()) if not method.unsupported_reason("resnet26")]


def placed(method):
    torch.manual_seed(0)
    source = resnet26(3, 0.25 * method.width_multiplier)
    if method.backbone_structure == "series":
        put_series(source)
    source = source.for_size(32)
    network = method.place(source.requires_grad_(False).eval(), 5)
    return network.train().to(memory_format=torch.channels_last)


def batch():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    return x, torch.arange(4) % 5


def step(method, network, dtype=torch.bfloat16):
    """The loss and the gradients by name."""
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype):
        loss, _ = method.loss(network, *batch(), F.cross_entropy)
    loss.backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    return {"loss": loss.detach()} | gradients


class Casts(TorchDispatchMode):
    """Counts the casts of the given tensors."""

    def __init__(self, tensors):
        super().__init__()
        self.pointers, self.count = {t.data_ptr() for t in tensors}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._to_copy.default:
            self.count += args[0].data_ptr() in self.pointers
        return function(*args, **(kwargs or {}))


QUICK = {"par_adapter", "res_adapter", "finetune", "bn_adapt", "lora", "piggyback", "adalora", "spottune"}


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, id=m.name, marks=[pytest.mark.slow] * (m.name not in QUICK)) for m in METHODS],
)
def test_loss_and_gradients_are_autocasts_to_the_bit(method):
    plain = step(method, placed(method))
    network = placed(method)
    names, state = [*dict(network.named_parameters())], [*network.state_dict()]
    with cast_once(network, torch.bfloat16):
        assert [*dict(network.named_parameters())] == names and [*network.state_dict()] == state
        got = step(method, network)
    assert got.keys() == plain.keys()
    for name, wanted in plain.items():
        assert (got[name] is None and wanted is None) or torch.equal(got[name], wanted), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_no_frozen_weight_is_cast_in_a_step(dtype):
    """Without `cast_once` every frozen weight is cast; the trained head is cast in both cases."""
    (method,) = select("res_adapter")
    network = placed(method)
    frozen = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d) and not m.weight.requires_grad]
    with Casts(frozen) as before:
        step(method, network, dtype)
    with cast_once(network, dtype), Casts(frozen) as now, Casts([network.head.weight]) as head:
        step(method, network, dtype)
    assert (before.count, now.count, head.count) == (len(frozen), 0, 1) and len(frozen) == 25


def convs(weights):
    """Two convolutions, the first with the first weight, and so on."""
    out = [nn.Conv2d(2, 2, 3, bias=False) for _ in weights]
    for conv, weight in zip(out, weights, strict=True):
        conv.weight = weight
    return nn.Sequential(*out)


def frozen_weight(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return nn.Parameter(torch.randn(2, 2, 3, 3, generator=generator), requires_grad=False)


def test_a_shared_weight_has_one_copy():
    weight = frozen_weight()
    network = convs([weight, weight])
    with Casts([weight]) as casts, cast_once(network, torch.bfloat16):
        pass
    assert casts.count == 1


X = torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(5))


def autocast_of(network, dtype=torch.bfloat16):
    with torch.autocast("cpu", dtype):
        return network(X)


def test_outside_of_its_autocast_the_float32_weight_is_used():
    network = convs([frozen_weight()])
    plain, half = network(X), autocast_of(network, torch.float16)
    with cast_once(network, torch.bfloat16):
        assert torch.equal(network(X), plain)
        assert torch.equal(autocast_of(network, torch.float16), half)
        assert network[0].weight.dtype == torch.float32


def test_a_weight_that_was_put_in_its_place_is_used():
    network, other = convs([frozen_weight()]), convs([frozen_weight(1)])
    with cast_once(network, torch.bfloat16):
        network[0].weight = other[0].weight
        assert torch.equal(autocast_of(network), autocast_of(other))


def test_a_weight_that_is_trained_from_now_on_is_cast_each_time():
    network = convs([frozen_weight()])
    with cast_once(network, torch.bfloat16):
        network.requires_grad_(True)
        before = autocast_of(network)
        with torch.no_grad():
            network[0].weight += 1
        assert not torch.equal(autocast_of(network), before)


def test_a_frozen_weight_that_changes_is_an_error():
    network = convs([frozen_weight()])
    with pytest.raises(RuntimeError, match="a frozen weight changed"), cast_once(network, torch.bfloat16):
        network[0].weight += 1
    assert type(network[0]) is nn.Conv2d


def test_nothing_is_left_behind_and_copies_are_plain():
    network = convs([frozen_weight()])
    network.append(nn.Flatten()).append(nn.Linear(98, 2).requires_grad_(False))
    before = [dict(module.__dict__) for module in network]
    plain = autocast_of(network)
    with cast_once(network, torch.bfloat16):
        with cast_once(network, torch.bfloat16):
            assert torch.equal(autocast_of(network), plain)
        assert torch.equal(autocast_of(network), plain) and type(network[0]) is not nn.Conv2d
        copies = copy.deepcopy(network), pickle.loads(pickle.dumps(network)), nn.Sequential(*map(copy.copy, network))
    for each in (network, *copies):
        assert [type(m) for m in each] == [nn.Conv2d, nn.Flatten, nn.Linear]
        assert [module.__dict__.keys() for module in each] == [was.keys() for was in before]
        assert torch.equal(autocast_of(each), plain)


def test_left_by_an_exception_too():
    network = convs([frozen_weight()])
    with pytest.raises(KeyboardInterrupt), cast_once(network, torch.bfloat16):
        raise KeyboardInterrupt
    assert type(network[0]) is nn.Conv2d and "_low" not in network[0].__dict__


@pytest.mark.slow
def test_torch_compile_traces_one_graph():
    (method,) = select("par_adapter")
    network = placed(method).eval()
    x, _ = batch()
    with torch.autocast("cpu", torch.bfloat16):
        plain = network(x)
    with cast_once(network, torch.bfloat16):
        traced = torch.compile(network, dynamic=False, backend="eager", fullgraph=True)
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            assert torch.equal(traced(x), plain)
