"""Quantised adapters: the rounding computed in a second way, what is stored, and every method that can be quantised."""

from math import ceil
from statistics import NormalDist, mean, stdev

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import nn

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.network import merge_for_inference, restore, stored_tensors
from visual_decathlon.methods.layers.packed import Packed, hold_stored
from visual_decathlon.methods.layers.quantised import (
    QuantisedAdapter,
    in_blocks,
    rounded,
    scales_of,
    to_codes,
    without_rounding,
)
from visual_decathlon.methods.registry import entries, select

STORES = ("int8", "int4", "int3", "int2", "1bit")


def accepted() -> list[str]:
    """The methods that `quantised` takes, by name."""
    names = []
    for entry in entries():
        try:
            names += [entry.name] if select(f"quantised(method={entry.name!r})") else []
        except InputError:
            continue
    return names


NAMES = accepted()


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    network = resnet26(3, 0.25)
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
    return network.requires_grad_(False).eval()


def placed(spec: str, source, seed: int = 1):
    torch.manual_seed(seed)
    return select(spec)[0].place(source, 4)


def moved(spec: str, source, seed: int = 1):
    """A placed network with other values in all its trained tensors."""
    network = placed(spec, source, seed).eval()
    with torch.no_grad():
        for p in network.parameters():
            if p.requires_grad:
                p.add_(0.02 * torch.randn_like(p))
    return network


# --- the rounding -----------------------------------------------------------------------------------------------


def rounded_by_loops(x: torch.Tensor, bits: int, scales: int) -> torch.Tensor:
    """Block by block, number by number, the nearest of the 2^bits multiples."""
    flat = x.flatten().tolist()
    length = ceil(ceil(len(flat) / scales) / 8) * 8
    out = []
    for start in range(0, len(flat), length):
        block = flat[start : start + length]
        largest = max(block, key=lambda v: (abs(v), v))
        scale = torch.tensor(largest).half().item()
        grid = [-scale * code / 2 ** (bits - 1) for code in range(-(2 ** (bits - 1)), 2 ** (bits - 1))]
        out += [min(grid, key=lambda g: abs(g - v)) for v in block]
    return torch.tensor(out).view(x.shape)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("shape", "scales"), [((5, 7, 3, 3), 10), ((64, 8), 16), ((40,), 1), ((), 1), ((3, 2), 2)])
def test_rounding_block_by_block(bits, shape, scales):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(bits))
    got = rounded(x, bits, scales)
    assert got.shape == x.shape and torch.allclose(got, rounded_by_loops(x, bits, scales), rtol=0, atol=1e-6)
    assert torch.equal(rounded(got, bits, scales), got), "what is rounded stays"
    assert len(in_blocks(got, scales).flatten().unique()) > 1 or x.numel() == 1


def one_bit_by_loops(x: torch.Tensor, scales: int) -> torch.Tensor:
    """Block by block, as Jie 2023's code has it for a tensor: standardised, cut at 0, and moved to ± 0.6745."""
    flat = x.flatten().tolist()
    length = ceil(ceil(len(flat) / scales) / 8) * 8
    out = []
    for start in range(0, len(flat), length):
        block = flat[start : start + length]
        if len(set(block)) <= 2:
            out += block
            continue
        middle, spread = mean(block), stdev(block)
        out += [middle + spread * NormalDist().inv_cdf(0.75 if (v - middle) / spread > 0 else 0.25) for v in block]
    return torch.tensor(out).view(x.shape)


@pytest.mark.parametrize(("shape", "scales"), [((5, 7, 3, 3), 10), ((64, 8), 16), ((40,), 1), ((), 1), ((3, 2), 2)])
def test_one_bit_block_by_block(shape, scales):
    x = 0.3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(7))
    got = rounded(x, 1, scales)
    assert got.shape == x.shape and torch.allclose(got, one_bit_by_loops(x, scales), rtol=1e-3, atol=1e-3)
    assert torch.equal(rounded(got, 1, scales), got), "what is rounded stays"
    assert all(len(block.unique()) <= 2 for block in got.flatten().split(in_blocks(x, scales).shape[1]))


def test_one_bit_of_a_normal_tensor():
    """The levels are the medians of its halves, the authors' ± 0.6745; scaling and moving numbers moves the levels."""
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    low, high = rounded(x, 1, 1).unique().tolist()
    assert low == pytest.approx(float(x[x < 0].median()), abs=0.02) and high == pytest.approx(0.6745, abs=0.02)
    assert rounded(0.25 * x + 3, 1, 1).unique().tolist() == pytest.approx([0.25 * low + 3, 0.25 * high + 3], abs=2e-3)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_zeros_ones_and_pairs_are_kept(bits):
    assert torch.equal(rounded(torch.zeros(9, 9), bits, 3), torch.zeros(9, 9))
    assert torch.equal(rounded(torch.eye(12), bits, 5), torch.eye(12))
    pairs = rounded(torch.randn(9, 6).repeat_interleave(2, 1), bits, 4)
    assert torch.equal(pairs[:, ::2], pairs[:, 1::2])


def test_all_codes_are_used_and_extremes_are_finite():
    codes, scale = to_codes(torch.linspace(-1, 0.9, 100)[None], 2)
    assert sorted(codes.unique().tolist()) == [-2, -1, 0, 1] and scale.item() == -1
    for x in (torch.full((8,), 1e30), torch.full((8,), -1e30), torch.full((8,), 1e-30)):
        assert rounded(x, 4, 1).isfinite().all()
    for scale in (1e30, 1e-30):
        assert rounded(scale * torch.randn(50), 1, 3).isfinite().all()


@pytest.mark.parametrize("bits", [1, 3])
@pytest.mark.parametrize("start", [torch.randn, torch.zeros])
def test_the_gradient_passes_straight_through(bits, start):
    x, g = start(5, 9).requires_grad_(), torch.randn(5, 9)
    (rounded(x, bits, 2) * g).sum().backward()
    assert torch.equal(x.grad, g)


def test_the_scales_of_an_adapter():
    assert scales_of([320], 10) == [10]
    assert scales_of([64, 576], 20) == [2, 18]
    assert scales_of([1, 1, 300], 10) == [1, 1, 8]
    for sizes, total in (([3, 500, 41], 17), ([8, 8, 8, 900], 29)):
        assert sum(scales_of(sizes, total)) == total and min(scales_of(sizes, total)) >= 1
    with pytest.raises(InputError, match="has 3 trained tensors and only 2 scales"):
        scales_of([1, 1, 1], 2)


# --- what is stored ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", STORES)
def test_the_file_holds_the_counted_bits(store, source):
    """Bytes on disk: the closed form, each adapter's codes in whole bytes, and the header of the file."""
    (method,) = select(f"quantised(method='lora(rank=6)', store={store!r}, block=24)")
    network, shapes = method.place(source, 4), resnet26_shapes(0.25)
    tensors = {name: t.contiguous() for name, t in stored_tensors(network, source).items()}
    running = sum(t.numel() * t.element_size() for name, t in tensors.items() if "running" in name or "num_b" in name)
    file = save(tensors)
    header = 8 + int.from_bytes(file[:8], "little")
    exact = method.bits(shapes) / 8 + 4 * (method.floats(shapes) + shapes.head(4))
    assert 0 <= len(file) - header - running - exact < len(shapes.convs)
    bits, block = {"int8": (8, 16), "int4": (4, 16), "int3": (3, 16), "int2": (2, 16), "1bit": (1, 32)}[store]
    numbers = [6 * (c.fan_in + c.cout) for c in shapes.convs]
    assert method.bits(shapes) == sum(bits * m + block * ceil(m / 24) for m in numbers)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_bytes_read_by_hand(bits, source):
    """Each code and each scale of one adapter, decoded from the bytes without the suite's own code."""
    network = moved(f"quantised(method='par_adapter', store='int{bits}')", source)
    adapter = next(m for m in network.modules() if isinstance(m, QuantisedAdapter))
    stored = adapter.stored()
    code_bytes, scale_bytes = (bytes(stored[name].tolist()) for name in ("codes", "scales"))
    stream = int.from_bytes(code_bytes, "little")
    kernel = adapter.pointwise_kernel().detach().flatten().tolist()
    scales = torch.frombuffer(bytearray(scale_bytes), dtype=torch.half).tolist()
    length = ceil(ceil(len(kernel) / len(scales)) / 8) * 8
    for i, value in enumerate(kernel):
        code = (stream >> (bits * i)) % 2**bits - 2 ** (bits - 1)
        assert value == -code * scales[i // length] / 2 ** (bits - 1)


def test_the_bytes_of_one_bit_read_by_hand(source):
    """A bit chooses the lower or the upper of a block's two half-precision levels."""
    network = moved("quantised(method='par_adapter', store='1bit')", source)
    adapter = next(m for m in network.modules() if isinstance(m, QuantisedAdapter))
    stored = adapter.stored()
    stream = int.from_bytes(bytes(stored["codes"].tolist()), "little")
    kernel = adapter.pointwise_kernel().detach().flatten().tolist()
    levels = torch.frombuffer(bytearray(stored["scales"].tolist()), dtype=torch.half).tolist()
    length = ceil(ceil(len(kernel) / (len(levels) // 2)) / 8) * 8
    assert [levels[2 * (i // length) + (stream >> i) % 2] for i in range(len(kernel))] == kernel


# --- every method that can be quantised -------------------------------------------------------------------------


def test_which_methods_can_be_quantised():
    wanted = {"lora", "dora", "dan", "par_adapter", "lora_cp", "lora_tkd", "hra", "oft", "loha", "lokr", "adapter"}
    assert wanted | {"chapter", "conv_adapter", "rep_adapter", "householder", "snell"} <= set(NAMES)


@pytest.mark.parametrize("store", ["1bit", "int2", "int8"])
@pytest.mark.parametrize("name", [*NAMES, "lora(init='pissa')"])
def test_start(name, store, source):
    """Rounding keeps the start of the method where the entry says so."""
    spec, x = f"quantised(method={name!r}, store={store!r})", torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        wanted, got = source.body(x), placed(spec, source).eval().body(x)
    off = float((got - wanted).abs().max() / wanted.abs().max())
    assert off <= 1e-5 if select(spec)[0].start == "identity" else off > 1e-5


@pytest.mark.parametrize("store", ["1bit", pytest.param("int3", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_float_tensors_of_the_stored_values_give_the_same_network(name, store, source):
    """The method itself with the rounded tensors in place of its own computes the same; so do merging and the file."""
    method, spec = select(name)[0], f"quantised(method={name!r}, store={store!r})"
    network, plain, fresh = moved(spec, source), placed(name, source).eval(), placed(spec, source, 3).eval()
    x = torch.randn(3, 3, 32, 32)
    tensors = {n: t.clone().contiguous() for n, t in stored_tensors(network, source).items()}
    assert restore(fresh, source, load(save(tensors))) == ""
    values = without_rounding(fresh).state_dict()
    assert values.keys() == plain.state_dict().keys()
    plain.load_state_dict(values)
    with torch.no_grad():
        wanted = network(x)
        # Not to the bit: torch multiplies in another order where a factor requires a gradient, as Tucker's core.
        torch.testing.assert_close(plain(x), wanted, rtol=1e-5, atol=1e-5)
        assert torch.equal(fresh(x), wanted)
        if method.mergeable:
            merged = merge_for_inference(network)
            assert not any(isinstance(m, Adapter) for m in merged.modules())
            torch.testing.assert_close(merged(x), wanted, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(merged.state_dict(), merge_for_inference(plain).state_dict())
        paths = [path for path, m in fresh.named_modules() if isinstance(m, QuantisedAdapter)]
        hold_stored(fresh, tensors)
        assert paths and all(isinstance(fresh.get_submodule(path), Packed) for path in paths)
        assert torch.equal(fresh(x), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_groups_hold_the_trained_tensors(name, source):
    """Also where a method finds its tensors as attributes (`chapter`), which are rounded ones in the network."""
    (method,) = select(f"quantised(method={name!r})")
    network, plain = placed(method.spec, source), placed(name, source)
    groups, wanted = method.groups(network, 5e-4, 1000), method.inner.groups(plain, 5e-4, 1000)
    trained = sorted(id(p) for p in network.parameters() if p.requires_grad)
    assert sorted(id(p) for group in groups for p in group["params"]) == trained
    assert [(len(g["params"]), g["weight_decay"], g.get("scale")) for g in groups] == [
        (len(g["params"]), g["weight_decay"], g.get("scale")) for g in wanted
    ]


@pytest.mark.parametrize("store", ["1bit", "int2"])
def test_training_moves_the_full_precision_tensors(store, source):
    network = placed(f"quantised(store={store!r})", source).train()
    trained = {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}
    assert any(n.endswith("latent.up") for n in trained)
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        optimiser.zero_grad()
        F.cross_entropy(network(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
        optimiser.step()
    assert all(not torch.equal(network.get_parameter(n), before) for n, before in trained.items())


def test_small_adapters_stay_in_full_precision(source):
    (method,) = select("quantised(method='lora_cp(rank=2)')")
    shapes = resnet26_shapes(0.25)
    small = [c for c in shapes.convs if method.inner.new_floats(c) <= 7 * 32]
    assert small and len(small) < len(shapes.convs) and all(method.new_bits(c) == 0 for c in small)
    network = method.place(source, 4)
    for conv in shapes.convs:
        assert isinstance(network.get_submodule(conv.name), QuantisedAdapter) == (conv not in small)


# --- names ------------------------------------------------------------------------------------------------------


def test_the_hash_has_the_options_of_the_method_and_its_revision(monkeypatch):
    (method,) = select("quantised(method='lora( alpha=8, rank=4 )')")
    assert method.spec == "quantised(method='lora(rank=4)')"
    assert method.full_spec == f"quantised(method={select('lora(rank=4)')[0].full_spec!r}, store='int4', block=32)"
    assert select(method.full_spec) == [method] and method.label == "LoRA in int4"
    monkeypatch.setattr(type(method.inner), "revision", 2)
    assert ", revision=2)" in method.full_spec and ", revision=2)" not in method.spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("method='finetune'", "does not put an adapter of its own at each convolution"),
        ("method='arc'", "does not put an adapter of its own at each convolution"),
        ("method='piggyback'", "already stores bits"),
        ("method='quantised'", "already stores bits"),
        ("method='par_adapter_svd'", "changes its adapters between steps"),
        ("method='adalora'", "changes its adapters between steps"),
        ("method='lorra'", "no method is called 'lorra'"),
        ("method='all'", r"^quantised\(method='all'\) takes one method with its options, as 'lora\(rank=4\)'; "),
        ("method=''", r"^quantised\(method=''\) takes one method"),
        ("method='lora,dora'", r"^quantised\(method='lora,dora'\) takes one method"),
        ("method='shira'", "already stores bits, or does so with other options"),
        ("method='lora(rank=0)'", "rank must be 1 or more"),
        ("store='int5'", "store must be 'int8' or 'int4'"),
        ("block=4", "8 to 4096"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message) as error:
        select(f"quantised({options})")
    assert "\n" not in str(error.value)


def test_a_backbone_that_is_too_narrow():
    (method,) = select("quantised(block=4096)")
    with pytest.raises(InputError, match="every adapter has fewer than 8 blocks of 4096 numbers"):
        method.check(resnet26_shapes(0.25))
    select("quantised")[0].check(resnet26_shapes(0.25))
