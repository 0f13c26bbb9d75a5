"""The speed table compares two ways of computing the same thing."""

import itertools

import pytest
import torch

from benchmark.__main__ import main
from benchmark.backbones.resnet26 import resnet26
from benchmark.perf import compare, reference_way
from methods.registry import select


def test_ratio_is_of_rounds_and_the_first_round_is_not_counted(monkeypatch):
    ticks = itertools.accumulate([0, 9, 0, 9, *[0, 1, 0, 2] * 3])  # warm-up 9 s each, then ours 1 s, theirs 2 s
    monkeypatch.setattr("benchmark.perf.time.perf_counter", lambda: next(ticks))
    ratio = compare("part", ("ours", lambda: 10), ("other", lambda: 10), rounds=3)
    assert (ratio.ours_img_s, ratio.other_img_s) == (10, 5)
    assert (ratio.ratio, ratio.least, ratio.largest, ratio.rounds) == (2, 2, 2, 3)


def test_the_reference_way_computes_what_ours_does():
    torch.manual_seed(0)
    (method,) = select("par_adapter(init='he')")
    source = resnet26(5, 0.25).double()
    networks = []
    for change in (lambda n: n.to(memory_format=torch.channels_last), reference_way):
        torch.manual_seed(1)
        networks.append(change(method.place(source, 5)).train())
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    ours, other = (network(x) for network in networks)
    torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-8)
    ours.square().sum().backward()
    other.square().sum().backward()
    pairs = zip(networks[0].named_parameters(), networks[1].named_parameters(), strict=True)
    for (name, a), (_, b) in pairs:
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-8 * float(b.grad.abs().max() + 1), msg=name)
    assert sum(getattr(m, "fused", None) is False for m in networks[1].modules()) == 25


@pytest.mark.parametrize("part", ["nothing", "step,nothing"])
def test_unknown_part_is_one_sentence(part, capsys):
    assert main(["perf", "--only", part]) == 2
    assert "no part is called so" in capsys.readouterr().err
