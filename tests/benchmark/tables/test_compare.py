"""Paired comparison of two methods: against SciPy's paired test, and the records that are left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.tables.compare import compare
from visual_decathlon.benchmark.tables.grouping import GROUP

SHIPPED = Path(__file__).parents[3] / "results" / "standin"
COMMON = dict.fromkeys(GROUP, "x") | {"limit": None, "source_cell": False, "created": "2026"}


def frame(cells: dict[tuple[str, str, int], float], **more) -> pd.DataFrame:
    rows = [{"method": m, "domain": d, "seed": s, "top1": v} | COMMON | more for (m, d, s), v in cells.items()]
    return pd.DataFrame(rows)


def test_differences_are_those_of_a_paired_test():
    rng = np.random.default_rng(0)
    cells = {(m, d, s): rng.uniform(50, 90) for m in "ab" for d in ("dtd", "svhn", "gtsrb") for s in range(4)}
    ((_, lines, over),) = compare(frame(cells), "a", "b")
    assert [line.name for line in [*lines, over]] == ["dtd", "gtsrb", "svhn", "mean of 3"], "the published order"
    means = {"a": [], "b": []}
    for line in lines:
        a, b = ([cells[m, line.name, s] for s in range(4)] for m in "ab")
        wanted = ttest_rel(a, b).confidence_interval(0.95)
        assert (line.mean - line.half, line.mean + line.half) == (
            pytest.approx(wanted.low),
            pytest.approx(wanted.high),
        )
        means["a"].append(np.mean(a)), means["b"].append(np.mean(b))
    wanted = ttest_rel(means["a"], means["b"]).confidence_interval(0.95)
    assert over.mean - over.half == pytest.approx(wanted.low) and over.pairs == 3


def test_only_pairs_count_and_one_has_no_interval():
    cells = {("a", "dtd", 0): 90.0, ("b", "dtd", 0): 80.0, ("a", "dtd", 1): 50.0, ("b", "svhn", 0): 10.0}
    ((_, (line,), over),) = compare(frame(cells), "a", "b")
    assert (line.name, line.mean, line.half, line.pairs, line.wins) == ("dtd", 10.0, None, 1, "")
    assert over.mean == 10.0 and over.pairs == 1


def test_the_better_method_is_named_where_the_interval_excludes_zero():
    far = {("a", "dtd", s): 90.0 + s / 10 for s in range(3)} | {("b", "dtd", s): 80.0 for s in range(3)}
    near = {("a", "dtd", s): 80.0 + 9 * s for s in range(3)} | {("b", "dtd", s): 85.0 for s in range(3)}
    assert [compare(frame(cells), *pair)[0][1][0].wins for cells in (far, near) for pair in ("ab", "ba")] == [
        "A",
        "B",
        "",
        "",
    ]


def test_groups_are_compared_separately_and_the_backbones_own_runs_left_out():
    one = frame({("a", "dtd", 0): 90.0, ("b", "dtd", 0): 80.0})
    other = frame({("a", "dtd", 0): 10.0, ("b", "dtd", 0): 20.0}, split="test")
    assert sorted(lines[0].mean for _, lines, _ in compare(pd.concat([one, other]), "a", "b")) == [-10.0, 10.0]
    assert compare(pd.concat([one[:1], other[1:]]), "a", "b") == []
    assert compare(one.assign(source_cell=True), "a", "b") == []


def test_an_own_domain_has_a_line_and_does_not_count_in_the_mean():
    cells = {(m, d, 0): v for m, v in (("a", 90.0), ("b", 80.0)) for d in ("dtd", "mine")} | {("b", "mine", 0): 0.0}
    ((_, lines, over),) = compare(frame(cells), "a", "b")
    assert [line.name for line in lines] == ["dtd", "mine"] and (over.name, over.mean) == ("mean of 1", 10.0)


def test_the_command(capsys: pytest.CaptureFixture):
    assert main(["compare", "par_adapter", "feature", "--from", str(SHIPPED)]) == 0
    out = capsys.readouterr().out
    assert "mean of 9" in out and "A is ahead on 9 of 9 domains" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("feature", "feature"), "both feature"),
        (("feature", "res*"), "give one for A and one for B"),
        (("feature", ""), "B= is empty"),
        (("feature", "par_adapter(init='he')"), "holds no record of par_adapter(init='he')"),
    ],
)
def test_an_impossible_comparison_is_refused_in_one_sentence(words, sentence, capsys: pytest.CaptureFixture):
    assert main(["compare", *words, "--from", str(SHIPPED)]) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1
