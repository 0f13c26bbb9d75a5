"""methods/FIDELITY.md: a row for every entry, with the count that it has and the one that is printed."""

import csv
import re
from pathlib import Path

from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import entries

ROOT = Path(__file__).parents[1]
NONE = "–"


def shipped() -> dict[str, Method]:
    """Every entry of this suite with its default options, by name."""
    here = (entry() for entry in entries() if entry.__module__.startswith("visual_decathlon.methods."))
    return {method.name: method for method in here}


def table() -> dict[str, tuple[str, ...]]:
    """The cells of each row, without the entry, by entry."""
    lines = (ROOT / "methods" / "FIDELITY.md").read_text(encoding="utf-8").splitlines()
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line.startswith("| `")]
    assert all(len(row) == 5 for row in rows)
    names = [row[0].strip("`") for row in rows]
    assert names == sorted(set(names)), "one row for each entry, in order"
    return {name: row[1:] for name, row in zip(names, rows, strict=True)}


def count(method: Method) -> str:
    """#par. at width 1 as the table prints it."""
    if method.unsupported_reason("resnet26"):
        return NONE
    return f"{method.multiplier(resnet26_shapes(method.width_multiplier), resnet26_shapes().base):.2f}"


def printed() -> dict[str, str]:
    """The printed #par. by entry, of the first row that names it: the paper's own before later ones."""
    with (ROOT / "results" / "published" / "published.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["params"]]
    return {row["method"]: row["params"] for row in reversed(rows)}


def test_every_entry_has_a_row():
    rows, methods = table(), shipped()
    lacking = [f"| `{name}` | {m.fidelity} | {count(m)} | ? | ? |" for name, m in methods.items() if name not in rows]
    assert not lacking, "add to methods/FIDELITY.md, with the printed count and the reason:\n" + "\n".join(lacking)
    assert not rows.keys() - methods.keys(), "rows of no entry"


def test_every_row_says_what_its_entry_says():
    wrong = [
        f"{name}: {row[:2]} should be {wanted}"
        for name, row in table().items()
        if name in (methods := shipped()) and row[:2] != (wanted := (methods[name].fidelity, count(methods[name])))
    ]
    assert not wrong, "\n".join(wrong)


def test_every_printed_count_is_the_published_one():
    known = printed()
    for name, (_, _, cell, reason) in table().items():
        assert cell == known.get(name, NONE), name
        assert reason and reason != "?", name


def test_figures_in_the_reasons():
    """What the reasons claim of other ways to count."""
    shapes, methods, rows = resnet26_shapes(), shipped(), table()
    heads = 257 * 2128  # of nine domains: all but ImageNet's 1,000 of 3,128 classes
    assert heads == 803_896 - 257_000
    assert f"{methods['dan'].multiplier(shapes) + heads / shapes.base:.2f}" == "2.17" == rows["dan"][2]
    switches = sum(conv.cin for conv in shapes.convs)
    assert f"{1 + 9 * (2 * shapes.affine + switches) / shapes.base:.2f}" == "1.03" == rows["ba2"][2]
    assert f"{1 + 9 / 32:.2f}" == "1.28" == rows["piggyback"][2]
    for name, number in (("dan", "2.17"), ("ba2", "1.03"), ("par_adapter_svd", "1.50")):
        assert re.search(rf"\b{number}\b", rows[name][3]), name
