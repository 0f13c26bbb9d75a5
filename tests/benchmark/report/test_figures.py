"""Figures: functions of the tables, the same bytes twice; readable without colours; nothing drawn where nothing is."""

import json
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from PIL import Image

from tests.benchmark.drawn_records import SETTINGS, record, ten
from visual_decathlon.benchmark.records.store import read_histories, read_records, write_record
from visual_decathlon.benchmark.report import figures
from visual_decathlon.benchmark.report.figures import curves, gap, label_placement, scatter, steps, style, tradeoff
from visual_decathlon.benchmark.report.figures.groups import Group, file_names, grouped
from visual_decathlon.benchmark.report.figures.measures import MOST, front, labels, measured
from visual_decathlon.benchmark.report.figures.style import NotDrawn, luminance
from visual_decathlon.benchmark.tables.published import published, published_baseline
from visual_decathlon.benchmark.tables.table1 import Table, tables
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_all
from visual_decathlon.methods.registry import entries


def made(records: list[dict]) -> list[Table]:
    return tables(pd.DataFrame(records))


def one(records: list[dict]) -> Group:
    (group,) = grouped(made(records), {r["hash"]: HISTORY for r in records})
    return group


HISTORY = [{"epoch": e, "loss": 2.0 / e, "train_top1": 20.0 * e, "seconds": 1.0} for e in (1, 2, 3)]
SOME = [r for m, t in (("finetune", 80.0), ("lora", 82.0), ("feature", 60.0)) for s in (0, 1) for r in ten(m, t + s, s)]


def write(records: list[dict], folder: Path, *only: str, said: list[str] | None = None) -> list[str]:
    """Names of the files, below the folder."""
    histories = lambda hashes: dict.fromkeys(hashes, HISTORY)
    say = [].append if said is None else said.append
    paths = write_all(figures.contents(made(records), histories, folder, only, say))
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def drawn(figure: Figure) -> list[Text]:
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]


@pytest.fixture(autouse=True)
def _look():
    with style.shielded():
        yield


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """All figures of three methods on ten domains with two seeds; nobody writes into the folder."""
    folder = tmp_path_factory.mktemp("figures")
    return folder, write(SOME, folder)


def test_front_is_what_no_other_point_beats():
    rng = np.random.default_rng(0)
    for _ in range(200):
        xs, ys = rng.integers(0, 5, (2, rng.integers(1, 9))).tolist()
        points = list(zip(xs, ys, strict=True))
        beaten = lambda x, y: any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)  # noqa: B023
        free = [i for i, point in enumerate(points) if not beaten(*point)]
        assert sorted(front(xs, ys)) == free


def test_every_kind_is_drawn_as_svg_and_png(everything):
    folder, files = everything
    names = ["gap", "pareto", "steps", "time", "curves/feature", "curves/finetune", "curves/lora"]
    assert files == sorted([f"{name}.{ending}" for name in names for ending in ("svg", "png")] + ["captions.md"])
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == files


def test_made_twice_the_bytes_are_the_same_whatever_the_users_settings(everything, below, tmp_path):
    folder, _ = everything
    mine = {"lines.linewidth": 7, "font.family": ["monospace"], "savefig.bbox": "tight", "svg.hashsalt": None}
    with matplotlib.rc_context(mine):
        write(SOME[::-1], tmp_path)
        assert matplotlib.rcParams["lines.linewidth"] == 7
    content = lambda where: {name: data for name, (_, data) in below(where).items()}
    assert content(tmp_path) == content(folder)


def test_no_date_and_no_version_is_in_a_file(everything):
    folder, _ = everything
    for path in folder.rglob("*.svg"):
        text = path.read_text()
        assert "dc:date" not in text and "dc:creator" not in text
        assert matplotlib.__version__ not in re.sub(r"-?\d+\.\d{4,}", "", text)  # coordinates aside
    for path in folder.rglob("*.png"):
        assert set(Image.open(path).text) == {"Title", "Description"}
    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    assert Path(matplotlib.font_manager.findfont("DejaVu Sans")).samefile(shipped)


def test_each_caption_says_data_split_profile_and_seeds(everything):
    folder, files = everything
    text = (folder / "captions.md").read_text()
    blocks = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len([name for name in files if name.endswith(".svg")])
    for block in blocks:
        name = block.splitlines()[0][3:]
        for said in ("standin-v1-seed0", "split val", "profile standin", "n = 2 seeds", "Stand-ins are drawings"):
            assert said in block
        assert f"]({name}.svg)" in block
        kept = ElementTree.parse(folder / f"{name}.svg").getroot().itertext()
        assert any("standin-v1-seed0, split val" in part for part in kept)  # the caption goes with the file
        assert "split val" in Image.open(folder / f"{name}.png").text["Description"]


def test_gaps_are_the_differences_to_fine_tune_by_domain():
    records = [record("finetune", "dtd", 80.0), record("finetune", "svhn", 60.0), record("finetune", "svhn", 70.0, 1)]
    records += [
        record("lora", "dtd", 85.5),
        record("lora", "svhn", 60.0),
        record("hira", "svhn", 90.0),
        record("hira", "ucf101"),
    ]
    labels, domains, cells = gap.gaps(one(records).table)
    assert domains == ["dtd", "svhn"]  # ucf101 has no baseline
    assert labels == ["Lora", "Hira"]  # the whole row first
    np.testing.assert_allclose(cells, [[5.5, -5.0], [np.nan, 25.0]])
    assert [gap.text_of(v) for v in (5.46, -5, 0.04, -0.04)] == ["+5.5", "−5.0", "0.0", "0.0"]
    (figure,) = gap.draw(one(records))
    texts = [t.get_text() for t in drawn(figure.figure)]
    assert {"+5.5", "−5.0", "+25.0", "+0.2"} <= set(texts) and "nan" not in "".join(texts)
    assert "Hatched" in figure.caption


def test_on_the_real_test_split_the_gap_is_to_the_published_row():
    group = one([r | {"eval_images": DOMAINS[r["domain"]].counts[2]} for r in ten("lora", 90.0, **REAL)])
    _, domains, cells = gap.gaps(group.table)
    np.testing.assert_allclose(cells[0], [90.0 - published_baseline()[d] for d in domains])


REAL = {"split": "test", "standin": False, "data": "decathlon-1.0"}


def test_nothing_is_drawn_where_nothing_is(tmp_path):
    said = []
    files = write([record("lora"), record("lora", "svhn")], tmp_path, said=said)
    assert not [name for name in files if name.startswith("gap")] and not (tmp_path / "gap.svg").exists()
    assert len(said) == 1 and "gap" in said[0] and "no fine-tune" in said[0]
    with pytest.raises(InputError, match=r"^ONLY=gap has nothing to draw: no fine-tune run .*METHOD=finetune") as error:
        write(ten("lora"), tmp_path, "gap")
    assert "\n" not in str(error.value)
    said.clear()
    files = write(ten("lora"), tmp_path, "pareto", "gap", said=said)
    assert any(name.startswith("pareto") for name in files) and len(said) == 1 and "gap" in said[0]
    with pytest.raises(InputError, match="ONLY=pie: pie is no figure; there are pareto, time, gap, steps, curves"):
        write(ten("lora"), tmp_path, "pie")
    with pytest.raises(NotDrawn, match="no training time"):
        list(tradeoff.time(one([record("feature", "imagenet12")])))
    with pytest.raises(NotDrawn, match="no step time"):
        list(steps.draw(one([record(step_ms=None)])))
    with pytest.raises(NotDrawn, match="no history"):
        list(curves.draw(one([record("feature", "imagenet12")])))
    with pytest.raises(NotDrawn, match="no method other than"):
        list(gap.draw(one([record()])))


def test_the_measure_is_s_else_the_mean_else_the_domains_most_rows_share():
    assert measured(one(SOME).table).of == "S"
    whole = measured(one(ten("lora", 82.0) + [record("hira")]).table)
    assert whole.of == "mean" and [p.value.mean for p in whole.points] == [82.0] and whole.left_out == ["Hira"]
    some = [record("lora", "dtd", 50.0), record("lora", "svhn", 70.0), record("hira", "svhn", 90.0)]
    some += [record("lora", "dtd", 60.0, 1), record("lora", "svhn", 80.0, 1), record("lora", "svhn", 99.0, 2)]
    some += [record("dora", "dtd", 1.0), record("dora", "svhn", 3.0)]
    shared = measured(one(some).table)
    assert shared.of == "some" and "DTD, SVHN" in shared.name and shared.left_out == ["Hira"]
    values = {p.label: (p.value.mean, p.value.deviation) for p in shared.points}
    assert values == {"Lora": (65.0, pytest.approx(50**0.5)), "Dora": (2.0, None)}  # seed 2 lacks a domain
    (figure,) = tradeoff.pareto(one(some))
    assert "mean top-1 over DTD, SVHN" in figure.caption.lower().replace("dtd, svhn", "DTD, SVHN")
    assert any("Mean top-1 over DTD, SVHN" in t.get_text() for t in drawn(figure.figure))


def test_seconds_are_summed_over_target_domains_with_what_is_prepared():
    records = [r for s in (0, 1) for r in ten("lora", seed=s, train_seconds=10.0 + s, prepare_seconds=0.5)]
    (point,) = measured(one(records).table).points
    assert point.seconds == pytest.approx(9 * 11.0)  # imagenet12 is the backbone's own
    assert curves.seconds_of(HISTORY, 0.5) == [1.5, 2.5, 3.5] and curves.seconds_of(HISTORY, np.nan) == [1, 2, 3]


def test_times_of_several_machines_stand_against_fine_tune_on_each():
    records = ten() + ten("lora", train_seconds=6.0)
    records += [r | {"machine": "yours", "seed": 1, "hash": "b" + r["hash"]} for r in records]
    (figure,) = tradeoff.time(one(records))
    assert "relative to fine-tune on the same machine" in figure.caption
    (figure,) = tradeoff.time(one(ten() + ten("lora", train_seconds=6.0)))
    assert "measured on mine (cpu)" in figure.caption


def hollow(ax) -> list:
    return [line for line in ax.lines if line.get_markerfacecolor() == "none" and line.get_marker() == "o"]


def test_published_points_share_axes_with_the_real_test_split_alone():
    (figure,) = tradeoff.pareto(one(SOME))
    ours, theirs = figure.figure.axes
    printed = [row for row in published() if row.S is not None and row.params]
    assert not hollow(ours) and len(hollow(theirs)) == len(printed)
    assert "not comparable" in figure.caption and "other data" in theirs.get_title(loc="left")
    (figure,) = tradeoff.pareto(one([r | {"eval_images": DOMAINS[r["domain"]].counts[2]} for r in ten("lora", **REAL)]))
    (ours,) = figure.figure.axes
    assert len(hollow(ours)) == len(printed) and "same test split" in figure.caption
    (figure,) = tradeoff.pareto(one([record("lora", "dtd")]))  # top-1 of one domain: nothing published is of that
    assert len(figure.figure.axes) == 1 and not hollow(figure.figure.axes[0])


def test_groups_never_share_a_figure_and_names_tell_them_apart(tmp_path):
    other = json.dumps(json.loads(SETTINGS) | {"adapt": {"lr": 0.3}})
    records = ten("lora") + ten("lora", settings=other) + ten("lora", split="holdout")
    files = write(records, tmp_path, "steps")
    assert len([name for name in files if name.endswith(".svg")]) == 3
    assert "steps-split-val-lr-0.3.svg" in files and "steps-split-holdout-lr-0.1.svg" in files
    text = (tmp_path / "captions.md").read_text()
    assert "lr=0.3" in text and "split holdout" in text
    assert [group.suffix for group in grouped(made(ten()), {})] == [""]
    names = file_names(["a(b='c')", "A(b=c)", "", "x" * 200, "../../etc"], list("12345"))
    assert len({name.lower() for name in names}) == 5 and all(re.fullmatch(r"[\w.-]{1,70}", name) for name in names)
    assert names[4] == "etc"


def test_what_is_drawn_no_more_is_removed_and_nothing_else(tmp_path):
    write(SOME, tmp_path, "gap", "steps")
    (tmp_path / "mine.svg").write_text("mine")
    (tmp_path / "gap-mine.png").write_text("mine")
    write(ten("lora"), tmp_path, "pareto")
    assert re.findall(r"^## (.*)", (tmp_path / "captions.md").read_text(), re.MULTILINE) == ["pareto", "gap", "steps"]
    all_before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError):
        write(ten("lora"), tmp_path, "gap")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == all_before, "a fault touches nothing"
    write(ten("lora"), tmp_path)  # without a fine-tune no gap, and that of before goes
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted(
        ["captions.md", "curves", "gap-mine.png", "mine.svg"]
        + [f"{n}.{e}" for n in ("pareto", "time", "steps") for e in ("png", "svg")]
    )
    (tmp_path / "captions.md").write_text("## ../mine\n\n## gap/../mine\n")
    write(SOME, tmp_path, "gap")
    assert (tmp_path / "mine.svg").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(ten("lora"), tmp_path / "file" / "figures", "steps")


def test_markup_in_a_name_stays_text(tmp_path):
    label = "<b>&$x_1$ --> | \\frac"
    write([r | {"label": label} for r in ten("lora")] + ten(), tmp_path, "steps", "curves")
    text = (tmp_path / "captions.md").read_text()
    assert "<b>" not in text and "&lt;b&gt;" in text
    assert Text(0, 0, label)._preprocess_math(label) == (label, False)  # a $ is not TeX
    assert any(label in part for part in ElementTree.parse(tmp_path / "curves" / "lora.svg").getroot().itertext())


def test_marks_and_dashes_tell_apart_what_colours_do():
    marks = [mark for mark, _ in style.FAMILIES.values()]
    assert {entry.family for entry in entries()} <= set(style.FAMILIES)
    assert len({*marks[:6]}) == 6
    for (mine, (mark, colour)), (other, (mark2, colour2)) in combinations(style.FAMILIES.items(), 2):
        assert mark != mark2 or abs(luminance(colour) - luminance(colour2)) > 0.3, (mine, other)
    assert style.OTHER[0] not in marks
    assert len({mark for _, _, mark in style.LINES}) == len(style.LINES) > len(DOMAINS)
    grey = lambda *colours: (max(map(luminance, colours)) + 0.05) / (min(map(luminance, colours)) + 0.05)
    assert grey(steps.BLUE, steps.SKY) > 2


def test_the_heat_map_is_centred_at_0_and_reads_in_grey():
    assert to_rgb(gap.colour_of(0.0)) == pytest.approx((1, 1, 1), abs=0.02)
    light = [luminance(gap.colour_of(v)) for v in np.arange(0, 21)]
    dark = [luminance(gap.colour_of(-v)) for v in np.arange(0, 21)]
    assert light == sorted(light, reverse=True) and dark == sorted(dark, reverse=True)
    assert all(below < above - 0.04 for above, below in zip(light[5:], dark[5:], strict=True))
    for value in np.linspace(-40, 40, 161):
        colour = gap.colour_of(value)
        low, high = sorted((luminance(colour), luminance(style.ink_on(colour))))
        assert (high + 0.05) / (low + 0.05) >= 4.5
    (figure,) = gap.draw(one([record(), record("feature", top1=20.0), record("lora", top1=81.0)]))
    inks = {t.get_text(): t.get_color() for t in drawn(figure.figure)}
    assert inks["−60.0"] == "#FFFFFF" and inks["+1.0"] == "#000000"


def test_labels_lie_inside_the_axes_and_touch_nothing():
    rng = np.random.default_rng(1)
    figure = style.canvas(5.0, "title", "where")
    ax = style.axes(figure, 0.7, 0.6, 0.2, 0.6)
    ax.set_xscale("log")
    ax.set_xlim(0.9, 13)
    ax.set_ylim(0, 100)
    some = [
        label_placement.Label(f"Method {i}(rank={i})", 1.05 ** rng.integers(0, 50), float(y), i < 8)
        for i, y in enumerate(rng.normal(60, 12, 48))
    ]
    lost = label_placement.write_labels(ax, some, [[(1, 50), (13, 50)]])
    renderer = figure._get_renderer()
    notes = [n for n in ax.findobj(Annotation) if n.get_text()]
    for note in notes:
        note.update_positions(renderer)
    boxes = [Text.get_window_extent(note, renderer) for note in notes]
    assert len(notes) == 48 - len(lost) and len(lost) < 24 and not any(label.bold for label in lost)
    frame = ax.get_window_extent(renderer)
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes)
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    for x, y in ax.transData.transform([(label.x, label.y) for label in some]):
        assert not any(b.x0 < x < b.x1 and b.y0 < y < b.y1 for b in boxes)


LONG = "adapter(arrangement='parallel', conv='copy_concat', scale='{}', and_more='{}')"


@pytest.mark.parametrize("kind", [tradeoff.pareto, tradeoff.time, gap.draw, steps.draw, curves.draw])
def test_nothing_is_written_outside_the_figure(kind):
    more = {"data": "a-release-with-a-very-long-name-" * 5, "backbone_source": "some file 1234abcd"}
    records = [r | more for m in ("finetune", LONG.format("learned", 1), LONG.format("none", 2)) for r in ten(m, 70.0)]
    records += [record("finetune", "birds_of_the_whole_world", 50.0, k=0, **more)]
    drawn_one = next(iter(kind(one(records))))
    figure = drawn_one.figure
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    assert more["data"] in drawn_one.caption  # whole there


def test_long_names_lose_their_options_names_unless_two_became_one():
    short = labels(one(ten(LONG.format("learned", 1)) + ten(LONG.format("none", 2)) + ten("lora(rank=4)")).table)
    assert list(short.values()) == [
        "Adapter(parallel, copy_concat, learned, 1)",
        "Adapter(parallel, copy_concat, none, 2)",
        "Lora(rank=4)",
    ]
    twins = ["lora(rank=4, another_option=16)", "lora(alpha=4, another_option=16)"]
    assert set(labels(one(ten(twins[0]) + ten(twins[1])).table).values()) == {t.capitalize() for t in twins}


def test_very_many_methods_are_cut_and_said(monkeypatch):
    monkeypatch.setattr("visual_decathlon.benchmark.report.figures.measures.MOST", 3)
    monkeypatch.setattr("visual_decathlon.benchmark.report.figures.label_placement.MOST", 3)
    group = one(ten() + [r for i in range(4) for r in ten(f"lora{i}", 60.0 + i)])
    labels, _, _ = gap.gaps(group.table)
    assert labels == ["Lora3", "Lora2"]
    (figure,) = gap.draw(group)
    assert "The 3 best of 5 methods." in figure.caption
    (figure,) = tradeoff.pareto(group)
    assert "Without a label for want of room: Lora3, Lora2, Lora1, Lora0." in figure.caption  # the front alone has one
    found = curves.draw(group)
    assert [next(found).name for _ in range(3)] == ["curves/lora2", "curves/lora3", "curves/finetune"]
    with pytest.raises(NotDrawn, match="2 worse ones"):
        next(found)
    assert len(curves.hashes(group.table)) == 3 * 9
    assert MOST > 45


def test_histories_are_asked_for_once_and_runs_without_one_are_left_out(tmp_path):
    asked = []

    def histories(hashes: set[str]) -> dict:
        asked.append(hashes)
        return {name: HISTORY for name in hashes if "feature" in name}

    figures.contents(made(SOME), histories, tmp_path, ["steps"], print)
    assert not asked
    paths = figures.contents(made(SOME), histories, tmp_path, ["curves"], print)
    assert asked == [{r["hash"] for r in SOME if not r["source_cell"]}]
    assert [path.name for path in paths] == ["feature.svg", "feature.png", "captions.md"]


def test_histories_are_read_of_the_runs_that_are_asked_for(tmp_path):
    shipped = Path(__file__).parents[3] / "results" / "standin"
    records = read_records([shipped])
    wanted = {r["hash"]: r["history"] for r in records[::40]}
    assert read_histories([shipped], wanted.keys()) == wanted
    assert read_histories([tmp_path], {"a"}) == {}
    write_record(records[0] | {"hash": "a", "history": None}, tmp_path)
    assert read_histories([tmp_path], {"a"}) == {}  # null


def test_curves_show_every_seed_and_their_mean():
    (figure, *_) = curves.draw(one(SOME))
    for ax in figure.figure.axes:
        assert len(ax.lines) == 9 * (2 + 1)
    assert [ax.get_yscale() for ax in figure.figure.axes] == ["log", "log", "linear", "linear"]
    mean = figure.figure.axes[0].lines[2]
    np.testing.assert_allclose(mean.get_xydata(), [[1, 2], [2, 1], [3, 2 / 3]])


def test_bars_begin_at_0_and_are_sorted():
    records = ten() + ten("lora", step_ms=9.0, peak_mb=None) + ten("feature", step_ms=1.0)
    (figure,) = steps.draw(one(records))
    time, memory = figure.figure.axes
    assert [bar.get_width() for bar in time.patches] == [1.0, 5.0, 9.0] and time.get_xlim()[0] == 0
    assert len(memory.patches) == 2 and "not measured" in figure.caption
    assert [t.get_text() for t in time.get_yticklabels()] == ["Feature", "Finetune", "Lora"]


def test_a_scatter_shows_every_method_once():
    figure, _ = scatter.empty(measured(one(SOME).table), "title", "where", hollow=False)
    ax = style.axes(figure, 0.7, 1, 0.2, 0.7)
    points = measured(one(SOME).table).points
    assert scatter.scatter(ax, points, [1.0, 2.0, 10.0], []) == []
    assert sorted(n.get_text() for n in ax.findobj(Annotation) if n.get_text()) == ["Feature", "Finetune", "Lora"]
