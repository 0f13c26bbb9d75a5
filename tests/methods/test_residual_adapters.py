"""The decay by domain, and the truncation of parallel adapters. Forms and merging: test_resnet26, test_golden."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import restore, stored_tensors
from visual_decathlon.methods.layers.parallel import ParallelConv, TruncatedConv
from visual_decathlon.methods.layers.series import SeriesConv, put_series
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape

ROOT = Path(__file__).parents[2]
WIDTH = 0.25
SHAPES = resnet26_shapes(WIDTH)


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return resnet26(3, WIDTH).requires_grad_(False).eval()


# --- res_adapter_decay ------------------------------------------------------------------------------------------


CHANGED = {"aircraft", "dtd", "gtsrb", "vgg-flowers", "ucf101"}  # cells of Table 1 that the decay row changes


def published(name: str) -> dict[str, float]:
    """A row of the paper's Table 1: domain -> top-1, %."""
    with (ROOT / "results" / "published" / "published.csv").open(newline="") as file:
        (row,) = (r for r in csv.DictReader(file) if r["method"] == name and r["table"] == "table1")
    return {domain: float(row[domain]) for domain in DOMAINS}


def test_its_domains_are_those_whose_published_cells_differ():
    with_decay, without = published("res_adapter_decay"), published("res_adapter")
    (method,) = select("res_adapter_decay")
    assert {d for d in DOMAINS if with_decay[d] != without[d]} == set(method.domains) == CHANGED


@pytest.mark.parametrize("spec", ["res_adapter_decay", "res_adapter_large"])
@pytest.mark.parametrize("domain", [*DOMAINS, "mine"])
def test_decay_by_domain(spec: str, domain: str):
    """It acts only on the adapters; the network's batch norm and the head keep the recipe's decay."""
    (method,) = select(spec)
    source = resnet26(3, 0.125)
    put_series(source)
    network = method.place(source.requires_grad_(False).eval(), 3)
    adapters, others = method.for_domain(domain).groups(network, 3e-4, 1000)
    wanted = 15e-4 if domain in CHANGED else 3e-4
    assert (adapters["weight_decay"], others["weight_decay"]) == (pytest.approx(wanted), 3e-4)
    name = {id(p): n for n, p in network.named_parameters() if p.requires_grad}
    names = [name.pop(id(p)) for p in adapters["params"]]
    assert len(names) == 25 * 3 and all(n.endswith(("mix.weight", "norm.weight", "norm.bias")) for n in names)
    assert {id(p) for p in others["params"]} == name.keys()
    assert not any(n.startswith(tuple(f"{m}." for m in _paths(network, SeriesConv))) for n in name.values())


def _paths(network, kind) -> list[str]:
    return [n for n, m in network.named_modules() if isinstance(m, kind)]


def test_it_trains_as_res_adapter_does_but_for_the_decay():
    source = resnet26(3, 0.125)
    put_series(source)
    source.requires_grad_(False).eval()
    x, y = torch.randn(8, 3, 16, 16), torch.arange(8) % 3
    ends = []
    for spec in ("res_adapter", "res_adapter_decay", "res_adapter_decay(domains=('mine',))"):
        method = select(spec)[0].for_domain("dtd")
        torch.manual_seed(1)
        network = method.place(source, 3).train()
        optimiser = method.optimiser(method.groups(network, 5e-4, 100), 0.1, 0.9, True)
        for _ in range(2):
            optimiser.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimiser.step()
        ends.append({n: p.detach() for n, p in network.named_parameters() if p.requires_grad})
    same, listed, other = ends
    assert all(torch.equal(same[n], other[n]) for n in same)  # a domain that is not listed has the recipe's
    assert not torch.equal(same["body.stem.conv.mix.weight"], listed["body.stem.conv.mix.weight"])


def test_bad_decay():
    with pytest.raises(InputError, match=r"res_adapter_decay\(factor=-1\): a weight decay must be 0 or more"):
        select("res_adapter_decay(factor=-1)")
    with pytest.raises(InputError, match=r"res_adapter_large\(factor=-1\)"):
        select("res_adapter_large(factor=-1)")
    with pytest.raises(InputError, match=r"res_adapter_decay\(off_the_shelf=True\) has no adapters"):
        select("res_adapter_decay(off_the_shelf=True)")


# --- par_adapter ------------------------------------------------------------------------------------------------


def test_a_parallel_adapter_needs_a_centre():
    (method,) = select("par_adapter")
    assert "2 groups" in method.skip_reason(ConvShape(4, 4, (3, 3), groups=2))
    for conv in (nn.Conv2d(4, 4, 2), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, padding="same")):
        assert "no centre tap" in method.skip_reason(ConvShape.of(conv))
    assert not any(map(method.skip_reason, resnet26_shapes().convs))


# --- par_adapter_svd --------------------------------------------------------------------------------------------


def numpy_truncated(matrix, rank: int):
    u, s, v = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    return torch.from_numpy(u[:, :rank] * s[:rank] @ v[:rank]).float()


def stirred(network):
    for module in network.modules():
        if isinstance(module, ParallelConv):
            nn.init.normal_(module.side.weight)
    return network


def test_truncated_and_stored(plain):
    """The nearest matrix of that rank; the file holds its two factors, with as many floats as the closed form."""
    (method,) = select("par_adapter_svd(rank=4)")
    network = stirred(method.place(plain, 3))
    before = {n: m.side.weight.detach()[:, :, 0, 0].clone() for n, m in network.named_modules() if hasattr(m, "side")}
    stored = stored_tensors(network, plain)
    method.after_step(network, 10, 10)
    cut = _paths(network, TruncatedConv)
    for name, matrix in before.items():
        now = network.get_submodule(name).side.weight[:, :, 0, 0]
        if name in cut:
            assert torch.allclose(now, numpy_truncated(matrix, 4), rtol=1e-4, atol=1e-4)
            assert torch.linalg.matrix_rank(now, rtol=1e-5) == 4
            up, down = stored[f"{name}.up"], stored[f"{name}.down"]
            assert up.shape == (len(matrix), 4) and down.shape == (4, matrix.shape[1])
            assert torch.allclose(up.norm(dim=0), down.norm(dim=1), rtol=1e-4)  # each has the root of the size
        else:
            assert torch.equal(now, matrix) and f"{name}.side.weight" in stored
    # Stem 3 x 8, stage one 8 x 16 and 16 x 16, and so on: where 4 (cin + cout) is fewer than cin cout.
    assert {n for n in before if n not in cut} == {"body.stem.conv"}
    floats = sum(t.numel() for n, t in stored.items() if not n.endswith(("mean", "var", "tracked")))
    assert floats == method.floats(SHAPES) + SHAPES.head(3)
    fresh = method.place(plain, 3)
    assert restore(fresh, plain, stored_tensors(network, plain)) == ""
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(fresh.eval()(x), network.eval()(x), rtol=1e-3, atol=1e-4)


def test_where_factors_do_not_pay(plain):
    (method,) = select("par_adapter_svd(rank=16)")
    network = method.place(plain, 3)
    for site, adapter in network.conv_sites():
        cin, cout = adapter.conv.in_channels, adapter.conv.out_channels
        assert isinstance(adapter, TruncatedConv) == (16 * (cin + cout) < cin * cout), site.conv
    assert len(_paths(network, TruncatedConv)) == 8  # the last stage's: 32 x 64 and 64 x 64


def test_when_it_truncates(plain):
    """From the middle on after every `every` steps, and after the last one."""
    (method,) = select("par_adapter_svd(rank=2, every=3)")
    network = method.place(plain, 3)
    seen = []
    for step in range(1, 15):
        stirred(network)
        before = next(m for m in network.modules() if isinstance(m, TruncatedConv)).side.weight.detach().clone()
        method.after_step(network, step, 14)
        after = next(m for m in network.modules() if isinstance(m, TruncatedConv)).side.weight
        if not torch.equal(before, after):
            seen.append(step)
    assert seen == [9, 12, 14]


@pytest.mark.parametrize(("spec", "printed"), [("par_adapter_svd", "1.18"), ("par_adapter_svd(rank=48)", "1.50")])
def test_counts_at_width_one(spec, printed):
    """Rank 48 is the published 1.5."""
    assert f"{select(spec)[0].multiplier(resnet26_shapes()):.2f}" == printed


@pytest.mark.parametrize(
    ("spec", "message"),
    [("par_adapter_svd(rank=0)", "rank must be 1 or more"), ("par_adapter_svd(every=0)", "it truncates A every")],
)
def test_bad_options(spec, message):
    with pytest.raises(InputError, match=message):
        select(spec)


def test_a_rank_larger_than_every_matrix(plain):
    with pytest.raises(InputError, match="the largest allows 64"):
        select("par_adapter_svd(rank=65)")[0].place(plain, 3)


@pytest.mark.parametrize("name", ["res_adapter_decay", "res_adapter_large"])
def test_the_names_of_its_domains(name: str):
    """Empty and repeated ones are refused; a name that may be a misspelt one has a sentence, which a run prints."""
    for given, sentence in (
        ("('dtd', '')", "has an empty name; leave it out"),
        ("(' ',)", "has an empty name; leave it out"),
        ("('dtd', 'mine', 'dtd')", "names dtd twice; leave one out"),
    ):
        with pytest.raises(InputError, match=re.escape(f"{name}(domains={given}) {sentence}")):
            select(f"{name}(domains={given})")
    domains = [*DOMAINS, "my-birds"]
    for given, near in (
        ("aircarft", "aircraft"),
        ("GTSRB", "gtsrb"),
        ("vgg_flowers", "vgg-flowers"),
        ("birds", "my-birds"),
    ):
        (method,) = select(f"{name}(domains=('dtd', {given!r}))")
        assert method.domain_note(domains) == (
            f"{name}(domains=...): no domain here is called {given!r}; did you mean {near!r}?"
        )
    for given in (*domains, "leaves", "x"):
        assert select(f"{name}(domains=({given!r},))")[0].domain_note(domains) == ""
    assert select(name)[0].domain_note(domains) == "" == select("bn_adapt")[0].domain_note(domains)
