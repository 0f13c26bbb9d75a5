"""The files committed under results/ are made from the committed records, and the README shows them."""

from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.benchmark.report.over_seeds import cell, points
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.perf.parts import PARTS
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.methods.registry import select

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "results"
SHIPPED = RESULTS / "standin"


@pytest.fixture(scope="module")
def records() -> list[dict]:
    return read_records([SHIPPED])


FIGURES = ("pareto", "time", "gap", "steps")
MADE = {  # folder of committed tables -> the folders of its records, and its figures
    "standin": (["standin"], FIGURES),
    "standin-vit": (["standin-vit"], FIGURES),
    "backbones": (["standin", "standin-vit", "backbones"], ("backbones",)),
}
KEPT = {  # what is measured or drawn, and not made of records
    *("records.parquet", "sheet.png", "sums.parquet", "sweep.md", "sweep.parquet")
}


@pytest.fixture(scope="module", params=MADE)
def again(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of the committed tables, and the folder in which they are made again."""
    sources, figures = MADE[request.param]
    folder = tmp_path_factory.mktemp("again")
    words = ["--from", " ".join(str(RESULTS / name) for name in sources), "--results", str(folder)]
    assert main(["tables", *words, "--only", *figures]) == 0
    return RESULTS / request.param, folder


def test_the_committed_tables_are_made_from_the_committed_records(again: tuple[Path, Path]):
    committed, again = again
    made = {p.name for p in again.iterdir() if p.is_file()}
    assert made == {p.name for p in committed.iterdir() if p.is_file()} - KEPT
    for name in sorted(made):
        if name.endswith(".parquet"):
            assert pq.read_table(again / name).equals(pq.read_table(committed / name), check_metadata=True), name
        else:
            assert (again / name).read_bytes() == (committed / name).read_bytes(), name


def test_the_committed_figures_are_made_from_the_committed_records(again: tuple[Path, Path]):
    committed, again = again
    lock = (ROOT / "requirements.lock").read_text()
    if f"matplotlib=={matplotlib.__version__}\n" not in lock:
        pytest.skip(f"figures are the same under the locked matplotlib, this is {matplotlib.__version__}")
    made = {path.name: path for path in (again / "figures").iterdir()}
    shipped = {path.name: path for path in (committed / "figures").iterdir()}
    assert made.keys() == shipped.keys()
    for name in sorted(made):
        if name.endswith(".png"):  # another instruction set blends some pixels by one step of 255 otherwise
            mine, theirs = (np.asarray(Image.open(path), dtype=int) for path in (made[name], shipped[name]))
            assert mine.shape == theirs.shape and np.abs(mine - theirs).max() <= 2, name
        else:
            assert made[name].read_bytes() == shipped[name].read_bytes(), name


def test_every_method_that_runs_here_is_there_on_all_ten(records: list[dict]):
    # Only the suite's own methods: others may be installed, or be in progress in methods/.
    able = set(pq.read_table(SHIPPED / "sweep.parquet")["method"].to_pylist()) | {"res_adapter_large"}
    assert len(able) >= 44
    runs = {(r["method"], r["domain"]) for r in records if r["split"] == "val"}
    assert {(name, domain) for name in able for domain in DOMAINS} <= runs


def test_parameters_of_every_row_are_the_closed_forms(records: list[dict]):
    base = resnet26_shapes(0.25, 32).base
    for record in records:
        (method,) = select(record["method_full"])
        shapes = resnet26_shapes(0.25 * method.width_multiplier, 32)
        if not record["source_cell"]:
            assert method.least_floats(shapes) <= record["floats"] <= method.floats(shapes), method.spec
            assert record["bits"] == method.bits(shapes), method.spec
            floats, bits = record["floats"], record["bits"]
        else:
            floats, bits = method.floats(shapes), method.bits(shapes)
        par = (shapes.base + method.shared_params(shapes) + method.counted_domains * (floats + bits / 32)) / base
        assert record["multiplier"] == pytest.approx(par, rel=1e-12), method.spec


def test_nothing_is_at_chance(records: list[dict]):
    """Every top-1 is at least four standard deviations of guessing above chance."""
    for record in records:
        chance, n = 1 / record["classes"], record["eval_images"]
        above = chance + 4 * (chance * (1 - chance) / n) ** 0.5
        assert record["top1"] / 100 > above, (record["method"], record["domain"])


def test_the_readme_shows_rows_of_the_committed_table():
    table = (ROOT / "README.md").read_text().split("<!-- table: begin -->")[1].split("<!-- table: end -->")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) > 10 and set(rows) <= set((SHIPPED / "table1.md").read_text().splitlines())
    assert f"of {len({r['method'] for r in read_records([SHIPPED])})} methods" in table


def test_the_readme_shows_the_committed_speeds():
    cells = lambda line: [cell.strip() for cell in line.strip("|").split("|")]
    block = (ROOT / "results" / "README.md").read_text().split("<!-- perf: begin -->")[1].split("<!-- perf: end -->")[0]
    shown = [cells(line) for line in block.splitlines() if line.startswith("|")]
    measured = [
        cells(line) for line in (ROOT / "results/perf/perf.md").read_text().splitlines() if line.startswith("|")
    ]
    head = measured[0]
    kept = [i for i, name in enumerate(head) if name != "process MB"]
    parts = {line[0] for line in shown}
    assert shown == [[line[i] for i in kept] for line in measured if line[0] in parts] and len(shown) > 20
    rows = pq.read_table(ROOT / "results/perf/perf.parquet").to_pylist()
    assert len(rows) == len(measured) - 2
    assert {row["part"] for row in rows} == set(PARTS)


def test_the_comparison_of_signs_is_that_of_the_records(records: list[dict]):
    """results/README.md: means, S and paired differences over the seeds, computed here in another way."""
    cells = {(r["method"], r["seed"], r["domain"]): r["top1"] for r in records if r["split"] == "val"}
    frozen = cells["finetune", 0, "imagenet12"]
    targets = [domain for domain in DOMAINS if domain != "imagenet12"]
    seeds = {m: sorted({s for name, s, d in cells if name == m and d == "svhn"}) for m, _, _ in cells}
    largest = {d: 2 * (100 - np.mean([cells["finetune", s, d] for s in seeds["finetune"]])) for d in targets}
    largest["imagenet12"] = 2 * (100 - frozen)

    def mean(method: str, seed: int) -> float:
        return float(np.mean([cells[method, seed, d] for d in targets]))

    def score(method: str, seed: int) -> float:
        errors = {d: 100 - cells.get((method, seed, d), frozen) for d in DOMAINS}
        return sum(points(errors[d], largest[d]) for d in DOMAINS)

    page = (ROOT / "results" / "README.md").read_text(encoding="utf-8").split("### Signs")[1].split("\n### ")[0]
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in page.splitlines() if line.count("|") == 9]
    rows = {row[0].split("`")[1]: row[1:] for row in rows[2:]}
    assert rows.keys() == {"finetune", "joint_signs", "signs", "piggyback", "dora", "res_adapter_finetune_all"}
    for name, front in product(("signs", "joint_signs"), ("piggyback", "dora")):
        above = [score(name, seed) - score(front, seed) for seed in seeds["finetune"]]
        assert cell(above, 0, len(above) ** 0.5) in page, (name, front)
    for name, (par, _, _, average, to_average, s, to_s) in rows.items():
        (method,) = select(name)
        assert par == f"{method.multiplier(resnet26_shapes(0.25, 32)):.2f}"
        assert average == cell([mean(name, seed) for seed in seeds[name]], 1)
        assert s == cell([score(name, seed) for seed in seeds[name]], 0)
        if to_average:
            root = len(seeds[name]) ** 0.5
            pairs = [(mean(name, i) - mean("finetune", i), score(name, i) - score("finetune", i)) for i in seeds[name]]
            means, scores = zip(*pairs, strict=True)
            assert to_average.replace("−", "-").lstrip("+") == cell(means, 1, root).replace("-0.0", "0.0")
            assert to_s.replace("−", "-").lstrip("+") == cell(scores, 0, root)
