"""methods/FIDELITY.md: a row for every entry, with the count that it has and the one that is printed; on a ViT too."""

import csv
import re
from pathlib import Path

from visual_decathlon.benchmark.backbones.library import library_shapes
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import entries, select

ROOT = Path(__file__).parents[1]
NONE = "–"
ON_A_VIT = "\n## On ViT-B/16\n"


def shipped() -> dict[str, Method]:
    """Every entry of this suite with its default options, by name."""
    here = (entry() for entry in entries() if entry.__module__.startswith("visual_decathlon.methods."))
    return {method.name: method for method in here}


def table(section: int = 0, columns: int = 5) -> dict[str, tuple[str, ...]]:
    """The cells of each row of a section, 0 or 1, without the entry, by entry."""
    text = (ROOT / "methods" / "FIDELITY.md").read_text(encoding="utf-8")
    lines = text.split(ON_A_VIT)[section].splitlines()
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line.startswith("| `")]
    assert all(len(row) == columns for row in rows)
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


def test_floats_on_a_vit_b16():
    """Ours anew; and where a row says `equal`, the printed figure is ours with as many digits."""
    shapes, rows = library_shapes("timm/vit_base_patch16_224", 224), table(1, 4)
    methods = {method.spec: method for method in select(",".join(rows))}
    assert methods.keys() == rows.keys()
    wrong = {spec: m.floats(shapes) for spec, m in methods.items() if rows[spec][0] != f"{m.floats(shapes):,}"}
    assert not wrong, wrong
    assert {spec for spec, row in rows.items() if row[2].startswith("equal")} == {
        "bitfit",
        "finetune",
        "lora(where='qv')",
        "ssf",
    }
    own = {spec: methods[spec].floats(shapes) / 1e6 for spec in ("bitfit", "lora(where='qv')")}
    assert {spec: f"{floats:.2f} M" for spec, floats in own.items()} == {spec: rows[spec][1] for spec in own}
    assert rows["finetune"][1] == f"{shapes.base / 1e6:.1f} M"
    with_head = methods["ssf"].floats(shapes) + shapes.head(100)
    assert rows["ssf"][1] == f"{with_head / 1e6:.2f} M" and f"{with_head:,}" in rows["ssf"][2]


def test_figures_in_the_reasons_on_a_vit_b16():
    """What the papers' forms store by their formulas: d = 768, twelve blocks."""
    d, rows = 768, table(1, 4)
    classes = 795 + 62 + 83  # of VTAB-1k's natural, specialised and structured tasks
    head = (d + 1) * classes // 19
    arc = 2 * d * 50 + 24 * (50 + d)
    taps = 16**2 * 16**2 + 16 * 3
    known = {
        "arc(rank=50)": {arc: "", arc + head: "0.13 M", 4 * d * 50: ""},
        "fact": {2 * d * 16 + 144 * 16**2: "", 237_616 - taps: "", taps: ""},
        "fact(rank=32, form='tk')": {2 * d * 32 + 144 * 32 + 32**3: ""},
        "rep_adapter": {24 * 12 * d: "0.22 M"},
        "vera": {24 * (d + 256): "24.6 K"},
    }
    for spec, figures in known.items():
        for figure, printed_as in figures.items():
            assert f"{figure:,}" in rows[spec][2], (spec, figure)
            unit = 1e6 if printed_as.endswith("M") else 1e3
            digits = 2 if printed_as.endswith("M") else 1
            assert not printed_as or f"{figure / unit:.{digits}f}" == printed_as.split()[0] == rows[spec][1].split()[0]
    assert f"{head:,}" in (ROOT / "methods" / "FIDELITY.md").read_text(encoding="utf-8")
