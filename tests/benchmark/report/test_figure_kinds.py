"""Each kind of figure: its numbers, measures, labels and captions."""

import json
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Annotation, Text

from tests.benchmark.drawn_figures import HISTORY, REAL, SOME, group_of, texts_of
from tests.benchmark.drawn_records import SETTINGS, record, ten
from tests.benchmark.drawn_tables import tables_of
from visual_decathlon.benchmark.report.figures import (
    backbones,
    curves,
    gap,
    label_placement,
    scatter,
    steps,
    style,
    tradeoff,
)
from visual_decathlon.benchmark.report.figures.groups import grouped
from visual_decathlon.benchmark.report.figures.measures import MOST, front, labels, measured
from visual_decathlon.benchmark.report.figures.style import NotDrawn, luminance
from visual_decathlon.benchmark.tables.published import published, published_baseline
from visual_decathlon.datasets.catalogue import DOMAINS

LONG = "adapter(arrangement='parallel', conv='copy_concat', scale='{}', and_more='{}')"


@pytest.fixture(autouse=True)
def _style():
    with style.shielded():
        yield


def test_the_front_has_the_points_that_no_other_beats():
    rng = np.random.default_rng(0)
    for _ in range(200):
        xs, ys = rng.integers(0, 5, (2, rng.integers(1, 9))).tolist()
        points = list(zip(xs, ys, strict=True))
        beaten = lambda x, y: any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)  # noqa: B023
        free = [i for i, point in enumerate(points) if not beaten(*point)]
        assert sorted(front(xs, ys)) == free


def test_gaps_are_the_differences_to_fine_tune_by_domain():
    records = [record("finetune", "dtd", 80.0), record("finetune", "svhn", 60.0), record("finetune", "svhn", 70.0, 1)]
    records += [
        record("lora", "dtd", 85.5),
        record("lora", "svhn", 60.0),
        record("hira", "svhn", 90.0),
        record("hira", "ucf101"),
    ]
    labels, domains, cells = gap.gaps(group_of(records).table)
    assert domains == ["dtd", "svhn"]  # ucf101 has no baseline
    assert labels == ["Lora", "Hira"]  # the whole row first
    np.testing.assert_allclose(cells, [[5.5, -5.0], [np.nan, 25.0]])
    assert [gap.text_of(v) for v in (5.46, -5, 0.04, -0.04)] == ["+5.5", "−5.0", "0.0", "0.0"]
    (figure,) = gap.draw(group_of(records))
    texts = [t.get_text() for t in texts_of(figure.figure)]
    assert {"+5.5", "−5.0", "+25.0", "+0.2"} <= set(texts) and "nan" not in "".join(texts)
    assert "Hatched" in figure.caption


def test_on_the_real_test_split_the_gap_is_to_the_published_row():
    group = group_of([r | {"eval_images": DOMAINS[r["domain"]].counts[2]} for r in ten("lora", 90.0, **REAL)])
    _, domains, cells = gap.gaps(group.table)
    np.testing.assert_allclose(cells[0], [90.0 - published_baseline()[d] for d in domains])


def test_the_heat_map_is_centred_at_0_and_readable_in_grey():
    assert to_rgb(gap.colour_of(0.0)) == pytest.approx((1, 1, 1), abs=0.02)
    light = [luminance(gap.colour_of(v)) for v in np.arange(0, 21)]
    dark = [luminance(gap.colour_of(-v)) for v in np.arange(0, 21)]
    assert light == sorted(light, reverse=True) and dark == sorted(dark, reverse=True)
    assert all(below < above - 0.04 for above, below in zip(light[5:], dark[5:], strict=True))
    for value in np.linspace(-40, 40, 161):
        colour = gap.colour_of(value)
        low, high = sorted((luminance(colour), luminance(style.ink_on(colour))))
        assert (high + 0.05) / (low + 0.05) >= 4.5
    (figure,) = gap.draw(group_of([record(), record("feature", top1=20.0), record("lora", top1=81.0)]))
    inks = {t.get_text(): t.get_color() for t in texts_of(figure.figure)}
    assert inks["−60.0"] == "#FFFFFF" and inks["+1.0"] == "#000000"


def test_the_measure_is_s_else_the_mean_else_the_domains_most_rows_share():
    assert measured(group_of(SOME).table).of == "S"
    whole = measured(group_of(ten("lora", 82.0) + [record("hira")]).table)
    assert whole.of == "mean" and [p.value.mean for p in whole.points] == [82.0] and whole.left_out == ["Hira"]
    some = [record("lora", "dtd", 50.0), record("lora", "svhn", 70.0), record("hira", "svhn", 90.0)]
    some += [record("lora", "dtd", 60.0, 1), record("lora", "svhn", 80.0, 1), record("lora", "svhn", 99.0, 2)]
    some += [record("dora", "dtd", 1.0), record("dora", "svhn", 3.0)]
    shared = measured(group_of(some).table)
    assert shared.of == "some" and "DTD, SVHN" in shared.name and shared.left_out == ["Hira"]
    values = {p.label: (p.value.mean, p.value.deviation) for p in shared.points}
    assert values == {"Lora": (65.0, pytest.approx(50**0.5)), "Dora": (2.0, None)}  # seed 2 lacks a domain
    (figure,) = tradeoff.pareto(group_of(some))
    assert "mean top-1 over DTD, SVHN" in figure.caption.lower().replace("dtd, svhn", "DTD, SVHN")
    assert any("Mean top-1 over DTD, SVHN" in t.get_text() for t in texts_of(figure.figure))


def test_seconds_are_summed_over_target_domains_with_what_is_prepared():
    records = [r for s in (0, 1) for r in ten("lora", seed=s, train_seconds=10.0 + s, prepare_seconds=0.5)]
    (point,) = measured(group_of(records).table).points
    assert point.seconds == pytest.approx(9 * 11.0)  # imagenet12 is the backbone's own
    assert curves.seconds_of(HISTORY, 0.5) == [1.5, 2.5, 3.5] and curves.seconds_of(HISTORY, np.nan) == [1, 2, 3]


def test_times_of_several_machines_are_relative_to_fine_tune_on_each():
    records = ten() + ten("lora", train_seconds=6.0)
    records += [r | {"machine": "yours", "seed": 1, "hash": "b" + r["hash"]} for r in records]
    (figure,) = tradeoff.time(group_of(records))
    assert "relative to fine-tune on the same machine" in figure.caption
    (figure,) = tradeoff.time(group_of(ten() + ten("lora", train_seconds=6.0)))
    assert "measured on mine (cpu)" in figure.caption


def hollow(ax) -> list:
    return [line for line in ax.lines if line.get_markerfacecolor() == "none" and line.get_marker() == "o"]


def test_published_points_share_axes_only_with_the_real_test_split():
    (figure,) = tradeoff.pareto(group_of(SOME))
    own, separate = figure.figure.axes
    printed = [row for row in published() if row.S is not None and row.params]
    assert not hollow(own) and len(hollow(separate)) == len(printed)
    assert "not comparable" in figure.caption and "other data" in separate.get_title(loc="left")
    (figure,) = tradeoff.pareto(
        group_of([r | {"eval_images": DOMAINS[r["domain"]].counts[2]} for r in ten("lora", **REAL)])
    )
    (own,) = figure.figure.axes
    assert len(hollow(own)) == len(printed) and "same test split" in figure.caption
    (figure,) = tradeoff.pareto(group_of([record("lora", "dtd")]))  # top-1 of one domain: nothing published is of that
    assert len(figure.figure.axes) == 1 and not hollow(figure.figure.axes[0])


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


def test_long_labels_lose_option_names_unless_two_become_equal():
    short = labels(group_of(ten(LONG.format("learned", 1)) + ten(LONG.format("none", 2)) + ten("lora(rank=4)")).table)
    assert list(short.values()) == [
        "Adapter(parallel, copy_concat, learned, 1)",
        "Adapter(parallel, copy_concat, none, 2)",
        "Lora(rank=4)",
    ]
    twins = ["lora(rank=4, another_option=16)", "lora(alpha=4, another_option=16)"]
    assert set(labels(group_of(ten(twins[0]) + ten(twins[1])).table).values()) == {t.capitalize() for t in twins}


def test_very_many_methods_are_cut_with_a_note(monkeypatch):
    monkeypatch.setattr("visual_decathlon.benchmark.report.figures.measures.MOST", 3)
    monkeypatch.setattr("visual_decathlon.benchmark.report.figures.label_placement.MOST", 3)
    group = group_of(ten() + [r for i in range(4) for r in ten(f"lora{i}", 60.0 + i)])
    labels, _, _ = gap.gaps(group.table)
    assert labels == ["Lora3", "Lora2"]
    (figure,) = gap.draw(group)
    assert "The 3 best of 5 methods." in figure.caption
    (figure,) = tradeoff.pareto(group)
    assert "Without a label for want of room: Lora3, Lora2, Lora1, Lora0." in figure.caption  # the front alone has one
    drawn = curves.draw(group)
    assert [next(drawn).name for _ in range(3)] == ["curves/lora2", "curves/lora3", "curves/finetune"]
    with pytest.raises(NotDrawn, match="the best 3 methods of a group are drawn; 2 are left out"):
        next(drawn)
    assert len(curves.hashes(group.table)) == 3 * 9
    assert MOST > 45


def test_curves_show_every_seed_and_their_mean():
    (figure, *_) = curves.draw(group_of(SOME))
    for ax in figure.figure.axes:
        assert len(ax.lines) == 9 * (2 + 1)
    assert [ax.get_yscale() for ax in figure.figure.axes] == ["log", "log", "linear", "linear"]
    mean = figure.figure.axes[0].lines[2]
    np.testing.assert_allclose(mean.get_xydata(), [[1, 2], [2, 1], [3, 2 / 3]])


def test_bars_begin_at_0_and_are_sorted():
    records = ten() + ten("lora", step_ms=9.0, peak_mb=None) + ten("feature", step_ms=1.0)
    (figure,) = steps.draw(group_of(records))
    time, memory = figure.figure.axes
    assert [bar.get_width() for bar in time.patches] == [1.0, 5.0, 9.0] and time.get_xlim()[0] == 0
    assert len(memory.patches) == 2 and "not measured" in figure.caption
    assert [t.get_text() for t in time.get_yticklabels()] == ["Feature", "Finetune", "Lora"]


def test_a_scatter_shows_every_method_once():
    figure, _ = scatter.empty(measured(group_of(SOME).table), "title", "where", hollow=False)
    ax = style.axes(figure, 0.7, 1, 0.2, 0.7)
    points = measured(group_of(SOME).table).points
    assert scatter.scatter(ax, points, [1.0, 2.0, 10.0], []) == []
    assert sorted(n.get_text() for n in ax.findobj(Annotation) if n.get_text()) == ["Feature", "Finetune", "Lora"]


def on(network: str, **means: float) -> list[dict]:
    """Records of methods on the ten domains of a network."""
    settings = json.dumps(json.loads(SETTINGS) | {"network": network})
    return [r for method, top1 in means.items() for r in ten(method, top1, settings=settings)]


def test_methods_are_compared_over_backbones_each_to_its_own_fine_tuning():
    records = on("resnet26", finetune=80.0, lora=82.0, feature=60.0, hira=70.0)
    records += on("timm/vit(depth=2)", finetune=70.0, lora=75.0, prompt=71.0, hira=71.5)
    records += on("timm/mixer", finetune=50.0, feature=45.0)
    groups = grouped(tables_of(records), {})
    order = [json.loads(group.table.group["settings"])["network"] for group in groups]
    labels, cells = backbones.gaps(groups)
    assert labels == ["Lora", "Hira", "Feature"], "prompt is on one backbone alone"
    wanted = {"resnet26": [2.0, -10.0, -20.0], "timm/vit(depth=2)": [5.0, 1.5, np.nan]}
    wanted["timm/mixer"] = [np.nan, np.nan, -5.0]
    np.testing.assert_allclose(cells, np.array([wanted[name] for name in order]).T)
    (figure,) = backbones.draw(groups)
    texts = {t.get_text() for t in texts_of(figure.figure)}
    ticks = {f"{order.index(n) + 1}. {n.partition('(')[0].rpartition('/')[2]}" for n in order}
    assert {"+5.0", "−10.0"} <= texts and ticks == {t.partition("\n")[0] for t in texts if "\n" in t}
    assert {t.partition("\n")[2] for t in texts if "\n" in t} == {"70.0", "50.0", "80.0"}
    assert figure.name == "backbones"
    assert "Hatched" in figure.caption and "timm/vit(depth=2), 32 px" in figure.caption


def test_another_recipe_is_no_other_backbone_and_other_weights_are():
    records = on("resnet26", finetune=80.0, lora=82.0, feature=60.0)
    other = json.dumps(json.loads(SETTINGS) | {"adapt": {"lr": 0.2}})
    again = [r | {"settings": other} for r in on("resnet26", finetune=70.0, lora=71.0)]
    with pytest.raises(NotDrawn, match="two backbones"):
        [*backbones.draw(grouped(tables_of(records + again), {}))]
    given = [r | {"backbone_source": "dino.safetensors"} for r in on("resnet26", finetune=70.0, lora=75.0)]
    (figure,) = backbones.draw(grouped(tables_of(records + again + given), {}))
    texts = {t.get_text() for t in texts_of(figure.figure)}
    assert {"+2.0", "+5.0"} <= texts and "+1.0" not in texts and "weights dino.safetensors" in figure.caption


def test_other_data_are_no_other_backbone():
    records = on("resnet26", finetune=80.0, lora=82.0)
    other = [r | {"data": "other", "data_id": "other"} for r in on("timm/mixer", finetune=70.0, lora=75.0)]
    with pytest.raises(NotDrawn, match="two backbones"):
        [*backbones.draw(grouped(tables_of(records + other), {}))]
