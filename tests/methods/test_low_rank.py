"""The low-rank ΔW against tensorly, HF PEFT and finite differences; paths, ranks and counts."""

from itertools import product
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.low_rank import LoraConv, PissaConv, principal_factors
from visual_decathlon.methods.layers.network import restore, stored_tensors
from visual_decathlon.methods.low_rank import Lora, LoraCP, LoraTKD, LoraTKDCP, LoraTucker
from visual_decathlon.methods.shapes import ConvShape

FAMILY = [Lora(4, 6.0), LoraCP(4, 6.0), LoraTKD(4, 3, 6.0), LoraTKDCP(4, 3, 2, 6.0), LoraTucker(3, 6.0)]
GEOMETRIES = [
    {"kernel_size": 3, "padding": 1, "bias": False},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "padding_mode": "reflect"},
    {"kernel_size": (3, 2), "padding": (1, 0), "stride": (1, 2), "padding_mode": "circular"},
    {"kernel_size": (1, 5), "padding": "same", "groups": 2},
    {"kernel_size": 1, "stride": 2, "padding_mode": "replicate", "padding": 1},
    {"kernel_size": 3, "groups": 4},
]

LORAS = [
    Lora(4, 6.0, form="loralib"),
    Lora(4, 6.0, scaling="sqrt"),
    Lora(4, 6.0, init="pissa"),
    Lora(2, 6.0, form="loralib", scaling="sqrt", init="pissa"),
]
families = pytest.mark.parametrize("method", FAMILY, ids=lambda method: method.name)
variants = pytest.mark.parametrize("method", [*FAMILY, *LORAS], ids=lambda method: method.spec)
loras = pytest.mark.parametrize("method", LORAS, ids=lambda method: method.spec)
geometries = pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: ",".join(f"{k}={v}" for k, v in g.items()))


def moved(method, geometry, seed: int = 0, dtype=torch.float32):
    """The method's adapter of a frozen convolution 8 -> 12, changed from its start."""
    torch.manual_seed(seed)
    conv = nn.Conv2d(8, 12, **geometry, dtype=dtype).requires_grad_(False)
    layer = method.layer(conv)
    nn.init.normal_(layer.up)
    return conv, layer


def paths(method, conv) -> list[bool]:
    """The ways in which the method can compute this convolution: in weight space, as two convolutions."""
    return [False, True] if conv.groups == 1 and getattr(method, "form", "filters") == "filters" else [False]


@families
@geometries
def test_delta_is_tensorlys(method, geometry):
    tensorly = pytest.importorskip("tensorly")
    conv, layer = moved(method, geometry)
    cout, cin, *kernel = conv.weight.shape
    p = {name: t.detach().double().numpy() for name, t in layer.named_parameters(recurse=False)}
    taps = torch.eye(prod(kernel), dtype=torch.float64).numpy()
    if isinstance(method, Lora):
        wanted = p["up"] @ p["down"]
    elif isinstance(method, LoraCP):
        wanted = tensorly.cp_tensor.cp_to_tensor((None, [p["up"], p["channels"], p["taps"]]))
    else:
        if isinstance(method, LoraTKDCP):
            core = tensorly.cp_tensor.cp_to_tensor((None, [p["core_up"], p["core_channels"], p["core_taps"]]))
        else:
            core = p["core"]
        wanted = tensorly.tucker_tensor.tucker_to_tensor((core, [p["up"], p["channels"], taps]))
    got = (layer.adapted_weight() - conv.weight).detach().double()
    wanted = torch.from_numpy(wanted).reshape(cout, cin, *kernel) * 6 / layer.up.shape[1]
    assert float((got - wanted).abs().max()) <= 1e-6 * max(1, float(wanted.abs().max()))


def test_lora_is_pefts():
    peft = pytest.importorskip("peft")
    for geometry in (g for g in GEOMETRIES if g.get("groups", 1) == 1):
        conv, layer = moved(Lora(4, 6.0), geometry)
        reference = peft.get_peft_model(
            nn.Sequential(conv), peft.LoraConfig(r=4, lora_alpha=6, target_modules=["0"])
        ).base_model.model[0]
        assert reference.lora_A["default"].weight.shape == (4, *conv.weight.shape[1:])
        with torch.no_grad():
            reference.lora_A["default"].weight.copy_(layer.down.view(4, *conv.weight.shape[1:]))
            reference.lora_B["default"].weight.copy_(layer.up[:, :, None, None])
            wanted = reference.get_delta_weight("default")
            assert torch.allclose(layer.adapted_weight() - conv.weight, wanted, rtol=1e-6, atol=1e-6)


@variants
def test_gradients_are_finite_differences(method):
    for geometry in GEOMETRIES[1:5]:
        _, layer = moved(method, geometry, dtype=torch.float64)
        x = torch.randn(2, 8, 6, 7, dtype=torch.float64)
        names, values = zip(*((n, p) for n, p in layer.named_parameters() if p.requires_grad), strict=True)
        for factored in paths(method, layer.conv):
            layer.factored_path = factored
            assert torch.autograd.gradcheck(
                lambda *values, layer=layer, x=x, names=names: functional_call(layer, dict(zip(names, values)), (x,)),
                values,
                fast_mode=True,
            )


@variants
@geometries
def test_both_paths_and_the_merged_one_agree(method, geometry):
    conv, layer = moved(method, geometry, dtype=torch.float64)
    x = torch.randn(2, 8, 9, 11, dtype=torch.float64)
    plain = F.pad(x, conv._reversed_padding_repeated_twice, conv.padding_mode.replace("zeros", "constant"))
    delta = F.conv2d(plain, layer.adapted_weight() - conv.weight, None, conv.stride, 0, conv.dilation, conv.groups)
    results = []
    for factored in paths(method, conv):
        layer.factored_path = factored
        y = layer(x)
        layer.zero_grad()
        y.square().sum().backward()
        results.append((y, [p.grad for p in layer.parameters() if p.requires_grad]))
        torch.testing.assert_close(y, conv(x) + delta, rtol=1e-12, atol=1e-10)
        torch.testing.assert_close(layer.merge()(x), y, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(results[0], results[-1], rtol=1e-10, atol=1e-8)
    assert conv.weight.grad is None


def test_the_faster_path_is_taken():
    factored = lambda cin, cout, rank=8, **geometry: LoraConv(nn.Conv2d(cin, cout, **geometry), 1.0, rank).factored_path
    assert factored(128, 256, kernel_size=3) and factored(64, 64, 4, kernel_size=3)
    assert not factored(64, 128, kernel_size=3) and not factored(32, 32, 1, kernel_size=3)
    assert not factored(256, 256, kernel_size=1) and not factored(256, 256, kernel_size=3, groups=2)
    conv = nn.Conv2d(256, 256, 3)
    assert Lora().layer(conv).factored_path and Lora(init="pissa").layer(conv).factored_path
    assert not Lora(form="loralib").layer(conv).factored_path and not Lora(16, init="pissa").layer(conv).factored_path


@families
def test_the_start_is_the_identity_and_rows_have_length_one(method):
    torch.manual_seed(0)
    conv = nn.Conv2d(96, 80, 3).requires_grad_(False)
    layer = type(method)().layer(conv)
    assert torch.equal(layer.adapted_weight(), conv.weight)
    rows = float(layer.rows().detach().square().sum(1).mean())
    assert 0.2 < rows * (3 if isinstance(method, Lora) else 1) < 3  # Kaiming with a = √5 is a third of it


@geometries
def test_loralibs_form_is_the_kernels_memory(geometry):
    """Each entry of B A at its place: (row, column) of a matrix with rows of cin l numbers, in row-major order."""
    conv, layer = moved(Lora(2, 6.0, form="loralib"), geometry, dtype=torch.float64)
    (height, width), rank = conv.kernel_size, 2
    assert layer.up.shape == (12 // conv.groups * height, rank * height)
    assert layer.down.shape == (rank * height, 8 * width)
    got, layer = (layer.adapted_weight() - conv.weight).detach(), layer.requires_grad_(False)
    _, cin, *_ = conv.weight.shape
    for o, i, u, v in product(range(12), range(cin), range(height), range(width)):
        row, column = divmod(((o * cin + i) * height + u) * width + v, 8 * width)
        wanted = 6 / 2 * sum(layer.up[row, r] * layer.down[r, column] for r in range(rank * height))
        assert float((got[o, i, u, v] - wanted).abs()) < 1e-12


def test_rs_lora_is_pefts():
    peft = pytest.importorskip("peft")
    conv, layer = moved(Lora(4, 6.0, scaling="sqrt"), GEOMETRIES[1])
    config = peft.LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=["0"])
    reference = peft.get_peft_model(nn.Sequential(conv), config).base_model.model[0]
    with torch.no_grad():
        reference.lora_A["default"].weight.copy_(layer.down.view(4, *conv.weight.shape[1:]))
        reference.lora_B["default"].weight.copy_(layer.up[:, :, None, None])
        wanted = reference.get_delta_weight("default")
    torch.testing.assert_close(layer.adapted_weight() - conv.weight, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(wanted.flatten(1), 3 * layer.up @ layer.down, rtol=1e-5, atol=1e-5)  # 6 / √4


@pytest.mark.parametrize("scaling", ["linear", "sqrt"])
def test_pissa_is_pefts(scaling):
    """PEFT's start is for linear layers: the kernel as a matrix is one. Factors are unique up to signs."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, (3, 2), bias=False).requires_grad_(False)
    linear = nn.Linear(48, 12, bias=False)
    linear.weight.data = conv.weight.flatten(1).clone()
    config = {"r": 4, "lora_alpha": 6, "use_rslora": scaling == "sqrt", "init_lora_weights": "pissa"}
    reference = peft.get_peft_model(
        nn.Sequential(linear), peft.LoraConfig(target_modules=["0"], **config)
    ).base_model.model[0]
    layer = Lora(4, 6.0, scaling=scaling, init="pissa").layer(conv)
    down, up = reference.lora_A["default"].weight, reference.lora_B["default"].weight
    signs = (layer.up * up).sum(0).sign()
    torch.testing.assert_close(layer.up * signs, up, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.down * signs[:, None], down, rtol=1e-4, atol=1e-5)
    frozen = conv.weight.flatten(1) - layer.scale * layer.up @ layer.down
    torch.testing.assert_close(frozen, reference.get_base_layer().weight, rtol=1e-5, atol=1e-5)
    with torch.no_grad():  # the same change of both gives the same weight
        change = 0.1 * torch.randn_like(up), 0.1 * torch.randn_like(down)
        up += change[0]
        down += change[1]
        layer.up += change[0] * signs
        layer.down += change[1] * signs[:, None]
        wanted = reference.get_base_layer().weight + reference.get_delta_weight("default")
    torch.testing.assert_close(layer.adapted_weight().flatten(1), wanted, rtol=1e-5, atol=1e-5)


@loras
@geometries
def test_every_lora_starts_as_the_identity_and_is_counted(method, geometry):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, **geometry).requires_grad_(False)
    layer = method.layer(conv)
    assert torch.equal(layer.adapted_weight(), conv.weight)
    trained = [p for p in layer.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == method.new_floats(ConvShape.of(conv))
    if method.init == "pissa":
        shape = (len(layer.up), layer.down.shape[1])
        left, size, right = torch.linalg.svd(conv.weight.double().reshape(shape), full_matrices=False)
        rank = layer.up.shape[1]
        nearest = left[:, :rank] * size[:rank] @ right[:rank]
        torch.testing.assert_close(layer.scale * (layer.up @ layer.down).double(), nearest, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(layer.up.norm(dim=0), layer.down.norm(dim=1), rtol=1e-4, atol=1e-5)
    else:
        assert not layer.up.count_nonzero() and layer.down.count_nonzero()


@pytest.mark.parametrize(("rows", "columns", "rank"), [(5, 9, 3), (9, 5, 3), (6, 6, 6), (1, 4, 1)])
def test_principal_factors_are_the_nearest_matrix(rows, columns, rank):
    torch.manual_seed(0)
    matrix = torch.randn(rows, columns, dtype=torch.float64)
    up, down = principal_factors(matrix.view(rows, columns, 1, 1), (rows, columns), rank)
    left, size, right = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(up @ down, left[:, :rank] * size[:rank] @ right[:rank])
    torch.testing.assert_close(up.norm(dim=0), size[:rank].sqrt())
    torch.testing.assert_close(down.norm(dim=1), size[:rank].sqrt())


def test_principal_factors_of_a_matrix_of_a_lower_rank():
    torch.manual_seed(0)
    matrix = torch.randn(6, 1, dtype=torch.float64) @ torch.randn(1, 7, dtype=torch.float64)
    for weight in (matrix, torch.zeros(6, 7, dtype=torch.float64)):
        up, down = principal_factors(weight.view(6, 7, 1, 1), (6, 7), 4)
        torch.testing.assert_close(up @ down, weight)
        assert up.isfinite().all() and down.abs().max() < 10


def test_a_pissa_domain_stores_its_factors_alone_and_comes_back_to_the_bit():
    source = resnet26(3, 0.125).requires_grad_(False).eval()
    method, x = Lora(2, init="pissa"), torch.randn(2, 3, 16, 16)
    trained, fresh = (method.place(source, 3) for _ in range(2))
    with torch.no_grad():
        for layer in (m for m in trained.modules() if isinstance(m, PissaConv)):
            layer.up.normal_()
        stored = stored_tensors(trained, source)
        factors = [name for name in stored if name.endswith((".up", ".down"))]
        assert sum(stored[name].numel() for name in factors) == sum(
            map(method.new_floats, resnet26_shapes(0.125).convs)
        )
        assert not [name for name in stored if "start" in name]
        assert restore(fresh, source, stored) == ""
        assert torch.equal(fresh.eval()(x), trained.eval()(x))


def test_lora_plus_and_pissa_are_groups_of_the_optimiser():
    network = lambda method: method.place(resnet26(3, 0.125).requires_grad_(False).eval(), 3)
    (only,) = Lora(2).groups(network(Lora(2)), 5e-4, 100)
    for method, decay in ((Lora(2, lr_ratio=4.0), 5e-4), (Lora(2, init="pissa", lr_ratio=4.0), 0.0)):
        placed = network(method)
        rest, downs, ups = method.groups(placed, 5e-4, 100)
        assert [g.get("scale", 1.0) for g in (rest, downs, ups)] == [1, 1, 4]
        assert [g["weight_decay"] for g in (rest, downs, ups)] == [5e-4, decay, decay]
        layers = [m for m in placed.modules() if isinstance(m, LoraConv)]
        assert [id(p) for p in ups["params"]] == [id(m.up) for m in layers]
        assert [id(p) for p in downs["params"]] == [id(m.down) for m in layers]
        assert sum(len(g["params"]) for g in (rest, downs, ups)) == len(only["params"])
    pissa = Lora(2, init="pissa")
    assert [g.get("scale", 1.0) for g in pissa.groups(network(pissa), 5e-4, 100)] == [1, 1, 1]


def test_an_equal_rate_of_loras_factors_is_plain_lora():
    """A step with lr_ratio=3 moves B three times as far, and A as far, as one with 1."""
    torch.manual_seed(0)
    source = resnet26(3, 0.125).requires_grad_(False).eval()
    x, y, moved_by = torch.randn(4, 3, 16, 16), torch.arange(4) % 3, []
    for method in (Lora(2, init="pissa"), Lora(2, init="pissa", lr_ratio=3.0)):
        torch.manual_seed(1)
        network = method.place(source, 3).train()
        (layer, *_) = [m for m in network.modules() if isinstance(m, LoraConv)]
        before = layer.up.detach().clone(), layer.down.detach().clone()
        groups = method.groups(network, 0.0, 100)
        optimiser = method.optimiser(groups, 0.01, 0.0, False)
        for group in optimiser.param_groups:
            group["lr"] = 0.01 * group.get("scale", 1.0)
        F.cross_entropy(network(x), y).backward()
        optimiser.step()
        moved_by.append((layer.up - before[0], layer.down - before[1]))
    (up, down), (faster, same) = moved_by
    torch.testing.assert_close(faster, 3 * up, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(same, down, rtol=1e-3, atol=1e-6)
    assert up.abs().max() > 1e-5 and down.abs().max() > 1e-5


def test_tucker_is_tkd_under_another_name():
    source = resnet26(3, 0.25).requires_grad_(False).eval()
    networks = []
    for method in (LoraTucker(6, 9.0), LoraTKD(6, 6, 9.0)):
        torch.manual_seed(4)
        networks.append(method.place(source, 5).state_dict())
        assert method.floats(resnet26_shapes(0.25)) == LoraTucker(6).floats(resnet26_shapes(0.25))
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(t, networks[1][name]) for name, t in networks[0].items())
    assert LoraTucker(6, 9.0).scale == LoraTKD(6, 6, 9.0).scale == 1.5


def test_counts_of_the_paper():
    shapes = resnet26_shapes()
    printed = {
        Lora(4): "1.22", Lora(8): "1.43", Lora(16): "1.85",
        Lora(form="loralib"): "1.79", Lora(init="pissa"): "1.43",
        LoraTucker(4): "1.06", LoraTucker(8): "1.12", LoraTucker(16): "1.27",
        LoraCP(): "1.10", LoraTKD(): "1.12", LoraTKDCP(): "1.11",
    }  # fmt: skip
    for method, digits in printed.items():
        assert f"{method.multiplier(shapes):.2f}" == digits, method.spec
    assert Lora().floats(shapes) == shapes.affine + 8 * sum(c.cout + 9 * c.cin for c in shapes.convs)


def test_ranks_are_clipped_and_counted_so():
    stem = ConvShape(3, 32, (3, 3))
    assert LoraTKD(8, 8).ranks_at(stem) == (8, 3) and LoraTKDCP(8, 8, 64).largest_rank(stem) == 24
    assert Lora(40).rank_at(stem) == 27 and LoraCP(40).rank_at(stem) == 27
    assert LoraTucker(8).new_floats(stem) == 32 * 8 + 3 * 3 + 8 * 3 * 9
    for method in (Lora(30), LoraCP(60), LoraTKD(24, 24), LoraTKDCP(24, 24, 150), LoraTucker(40)):
        for geometry in ({"kernel_size": 3}, {"kernel_size": 1}, {"kernel_size": 3, "groups": 4}):
            conv = nn.Conv2d(8, 12, **geometry, bias=False)
            layer = method.layer(conv)
            assert sum(p.numel() for n, p in layer.named_parameters() if "." not in n) == method.new_floats(
                ConvShape.of(conv)
            )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Lora(rank=0), r"lora\(rank=0\): rank must be 1 or more"),
        (lambda: Lora(alpha=0.0), r"lora\(alpha=0.0\): alpha must be above 0"),
        (lambda: LoraTKD(r2=-1), r"lora_tkd\(r2=-1\): r2 must be above 0"),
        (lambda: LoraTKDCP(rank=0), r"lora_tkd_cp\(rank=0\): rank must be above 0"),
        (
            lambda: Lora(lr_ratio=0.5),
            r"lora\(lr_ratio=0.5\): lr_ratio, the rate of B over that of A, must be 1 or more",
        ),
        (lambda: Lora(rank=257, form="loralib"), r"lora\(rank=257\): the rank is larger .* allows 256\); lower"),
        (lambda: Lora(rank=257), r"lora\(rank=257\): the rank is larger than every matrix .* allows 256\); lower"),
        (lambda: LoraCP(rank=2305), r"lora_cp\(rank=2305\): .* allows 2304\); lower"),
        (lambda: LoraTKD(r1=300), r"lora_tkd\(r1=300\): .* allows 256\); lower"),
        (lambda: LoraTKD(r2=300), r"lora_tkd\(r2=300\): .* allows 256\); lower"),
        (lambda: LoraTKDCP(rank=65), r"lora_tkd_cp\(rank=65\): .* allows 64\); lower it, or raise r1 and r2"),
        (lambda: LoraTucker(rank=300), r"lora_tucker\(rank=300\): .* allows 256\); lower"),
    ],
)
def test_what_fits_nowhere_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make().check(resnet26_shapes())
