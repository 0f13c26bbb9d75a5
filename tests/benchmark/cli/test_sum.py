"""ΔW of two domains added: compared with both adapters computed in parallel, and the errors if there is no sum."""

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.runs import delta_sum
from visual_decathlon.benchmark.runs.delta_sum import TABLE, _added, _weights, _with
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.benchmark.training.evaluate import evaluate
from visual_decathlon.benchmark.training.loader import open_images
from visual_decathlon.methods.layers.network import merge_for_inference

NAMES = ("dtd", "svhn")
METHODS = ("lora(rank=2)", "par_adapter", "res_adapter", "feature")


@pytest.fixture(scope="module")
def trained(bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a finished run of some methods on the two domains; nobody writes into it."""
    results = tmp_path_factory.mktemp("trained")
    done = bench("--domains", *NAMES, "--workers", "1", method=",".join(METHODS), results=results)
    assert done.code == 0, done.err
    return results


@pytest.fixture
def add(bench) -> Callable:
    """`add(*words, results=, method=)` runs `python -m benchmark sum` in this process."""

    def run(*words: str, domains: tuple[str, ...] = NAMES, **more):
        usual = bench.words("--domains", *domains, *words, **more)[4:]
        del usual[(i := usual.index("--workers")) : i + 2]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["sum", *usual])
        return code, out.getvalue(), err.getvalue()

    return run


def rows_of(results: Path) -> dict[str, dict]:
    (path,) = results.glob("sum-*.parquet")
    assert pq.read_schema(path).equals(TABLE, check_metadata=True)
    assert all(field.metadata[b"comment"] for field in TABLE)
    return {row["domain"]: row for row in pq.read_table(path).to_pylist()}


def loaded(planned, results: Path, method: str) -> tuple[list, dict, MultiDomain]:
    _, _, runs = planned(method, domains=NAMES)
    net = MultiDomain(runs[0].backbone.path)
    for run in runs:
        net.load(results / "adapters" / f"{run.hash}.safetensors")
    return runs, {name: h.network for name, h in net.held.items()}, net


def summed(own, other, source, method: str):
    """The second computation: the own network with both adapters, its own and the other one, at every convolution."""

    def with_both(mine, other_adapter, first):
        if method == "res_adapter":

            def forward(x):
                y = mine.conv(x)
                return y + mine.mix(mine.norm(y)) + other_adapter.mix(other_adapter.norm(y)) - first.mix(first.norm(y))
        elif method == "par_adapter":

            def forward(x):
                x_seen = x[:, :, :: mine.conv.stride[0], :: mine.conv.stride[1]]
                return mine.conv(x) + F.conv2d(x_seen, mine.side.weight) + F.conv2d(x_seen, other_adapter.side.weight)
        else:

            def forward(x):
                conv, weight = mine.conv, mine.conv.weight
                changes = [adapter.adapted_weight() - adapter.conv.weight for adapter in (mine, other_adapter)]
                return F.conv2d(x, weight + changes[0] + changes[1], conv.bias, conv.stride, conv.padding)

        return forward

    network = merge_for_inference(own, fuse=False)  # a copy; its convolutions are replaced
    sites = zip(own.conv_sites(), other.conv_sites(), source.conv_sites(), strict=True)
    for (site, mine), (_, other_adapter), (_, first) in sites:
        network.get_submodule(site.conv).forward = with_both(mine, other_adapter, first)
    return network


def frozen(own, source):
    """The own network with the backbone's convolutions, its own adapters at them."""
    network = merge_for_inference(own, fuse=False)
    for site, module in source.conv_sites():
        network.set_submodule(site.conv, module)
    return network


@pytest.mark.parametrize("method", METHODS[:3])
def test_the_sum_is_both_adapters_in_parallel(method: str, add, planned, trained: Path, tmp_path: Path, monkeypatch):
    """The logits of every evaluated image agree, and so do the accuracies."""
    seen = []
    monkeypatch.setattr(delta_sum, "evaluate", lambda *words: seen.append(evaluate(*words)) or seen[-1])
    results = Path(shutil.copytree(trained, tmp_path / "r"))
    code, out, err = add(method=method, results=results)
    assert code == 0, err
    rows, records = rows_of(results), {r["hash"]: r for r in read_records([results / "records"])}
    runs, networks, net = loaded(planned, trained, method)
    assert rows.keys() == set(NAMES) and len(runs) == 2 and len(seen) == 6
    for i, run in enumerate(runs):
        name = run.domain.name
        (other,) = set(NAMES) - {name}
        row, own = rows[name], networks[name]
        assert (row["run"], row["other"], row["backbone"]) == (run.hash, other, run.backbone.hash)
        assert row["other_run"] == rows[other]["run"]
        assert row["alone"] == records[run.hash]["top1"]
        x, y = next(iter(open_images(run.evaluate, run.profile, 8, "cpu").evaluate()))
        wanted = {
            "alone": own,
            "added": summed(own, networks[other], net.source, method),
            "frozen": frozen(own, net.source),
        }
        mine = seen[3 * i : 3 * i + 3]
        for (what, network), result in zip(wanted.items(), mine, strict=True):
            with torch.no_grad():
                logits = network(x)
            assert torch.allclose(result.logits, logits, rtol=1e-4, atol=1e-4), what
            assert row[what] == 100 * int((logits.argmax(1) == y).sum()) / len(y)
            assert f"{row[what]:.2f}" in next(line for line in out.splitlines() if f"│ {name} " in line)
        assert not any(torch.allclose(a.logits, b.logits, atol=1e-2) for a, b in zip(mine, mine[1:]))
    assert "with the other's ΔW" in out and "sum-" in out


@pytest.mark.parametrize("method", METHODS[:3])
def test_nothing_added_is_the_domain_alone_to_the_bit(method: str, planned, trained: Path):
    _, networks, net = loaded(planned, trained, method)
    own, shared = (
        _weights(unfused := merge_for_inference(networks["dtd"], fuse=False)),
        _weights(merge_for_inference(net.source, fuse=False)),
    )
    added = _added(own, shared, shared)
    for path, (weight, bias) in added.items():
        assert torch.equal(weight, own[path][0]), path
        assert bias is own[path][1] is None or torch.equal(bias, own[path][1]), path
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(_with(unfused, added)(x), unfused(x))


def test_a_bias_is_added_too():
    w, one = torch.ones(2, 1, 1, 1), torch.ones(2)
    own, other = {"a": (w, None), "b": (w, 3 * one)}, {"a": (2 * w, one), "b": (w, 5 * one)}
    added = _added(own, other, {"a": (w, None), "b": (w, one)})
    assert torch.equal(added["a"][0], 2 * w) and torch.equal(added["a"][1], one)
    assert torch.equal(added["b"][0], w) and torch.equal(added["b"][1], 7 * one)


def test_the_order_of_the_domains_does_not_matter(add, trained: Path, tmp_path: Path):
    results = Path(shutil.copytree(trained, tmp_path / "r"))
    for domains in (NAMES, NAMES[::-1]):
        assert add(method="par_adapter", results=results, domains=domains)[0] == 0
    rows_of(results)  # one file


@pytest.mark.parametrize(
    ("method", "domains", "expected"),
    [
        ("par_adapter", ("dtd",), "must name two domains here (dtd); a sum is of two"),
        ("par_adapter", ("dtd", "svhn", "ucf101"), "must name two domains here (dtd, svhn, ucf101)"),
        ("par_adapter,feature", NAMES, "METHOD=par_adapter,feature names 2 methods; name the one"),
        ("houlsby", NAMES, "houlsby does not merge, so it has no ΔW to add"),
        ("feature", NAMES, "feature changes no convolution, so there is no ΔW to add"),
        ("par_adapter", ("dtd", "imagenet12"), "imagenet12 has the pretrained network itself, with no ΔW"),
        ("par_adapter", ("dtd", "nowhere"), "DOMAINS=nowhere: no domain has this name"),
        ("lora(rank=3)", NAMES, "dtd and svhn: "),
    ],
)
def test_no_sum_is_one_sentence(method: str, domains: tuple, expected: str, add, trained: Path):
    before = sorted(trained.rglob("*"))
    code, _, err = add(method=method, results=trained, domains=domains)
    assert code == 2 and expected in err and err.count("\n") == 1, err
    assert sorted(trained.rglob("*")) == before


def test_a_missing_run_is_named_with_its_command(add, trained: Path, monkeypatch):
    monkeypatch.setenv("BENCH_COMMAND", "make sum METHOD=par_adapter DOMAINS=dtd,ucf101")
    _, _, err = add(method="par_adapter", results=trained, domains=("dtd", "ucf101"))
    assert err.startswith(f"ucf101: {trained} holds no finished run of these settings; ")
    assert "run `make bench METHOD=par_adapter DOMAINS=dtd,ucf101` first" in err
    monkeypatch.delenv("BENCH_COMMAND")
    monkeypatch.setattr("sys.argv", ["x", "sum", "--method", "lora(rank=3, alpha=2)", "--domains", "dtd", "svhn"])
    _, _, err = add(method="lora(rank=3, alpha=2)", results=trained)
    assert "run `python -m benchmark run --method 'lora(rank=3, alpha=2)' --domains dtd svhn` first" in err


def test_a_backbone_that_is_gone_is_one_sentence(add, bench, trained: Path, tmp_path: Path):
    shutil.copytree(bench.cache / "packs", tmp_path / "cache" / "packs", copy_function=shutil.copy2)
    code, _, err = add("--cache", str(tmp_path / "cache"), method="par_adapter", results=trained)
    assert code == 2 and "is gone; name its folder with CACHE=" in err and err.count("\n") == 1
