"""Scaling studies: each is measured and drawn at tiny values; assertions are independent of the machine's speed."""

import itertools
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.perf import store
from visual_decathlon.benchmark.perf.growth import bench as growth_bench
from visual_decathlon.benchmark.perf.growth import domains, figures, packing, report, step
from visual_decathlon.benchmark.perf.growth.fit import fitted
from visual_decathlon.benchmark.perf.growth.point import Point
from visual_decathlon.benchmark.perf.growth.scaling_studies import STUDIES
from visual_decathlon.benchmark.report.figures import style
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.methods.registry import entries, select

TINY = step.Setting(width=0.125, size=16, batch=4, classes=5)
STEPS = {"width": (0.125, 0.25), "size": (16, 32), "batch": (2, 4), "classes": (3, 7)}
COMMON = {"load": 0.5, "machine": "mine", "cores": 2, "versions": "{}", "commit": "abc"}


@pytest.fixture(autouse=True)
def _style():
    with style.shielded():
        yield


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch):
    # Otherwise rounds would be repeated because of other tests.
    monkeypatch.setattr("visual_decathlon.benchmark.perf.rounds._busy", lambda: 0.0)


def by(points: list[Point], what: str, series: str = "") -> dict[float, float]:
    return {p.at: p.value for p in points if (p.what, p.series) == (what, series)}


@pytest.mark.parametrize("grows", STEPS)
def test_a_step_is_timed_while_one_setting_grows(grows: str, monkeypatch: pytest.MonkeyPatch):
    made = []
    placed = step.net.placed
    monkeypatch.setattr(step.net, "placed", lambda method, *of: made.append((method.name, *of)) or placed(method, *of))
    values = STEPS[grows]
    methods = step.METHODS if grows == "width" else ("bn_adapt", "feature")
    points = step.measured(grows, values, TINY, methods, rounds=2)
    assert [(p.at, p.series) for p in points] == list(itertools.product(values, methods))
    assert all(p.unit == "ms an image" and p.rounds == 2 for p in points)
    assert all(0 < p.least <= p.value <= p.largest for p in points)
    others = {name: getattr(TINY, name) for name in ("width", "size", "classes")}
    wanted = [others | ({grows: value} if grows != "batch" else {}) for value in values for _ in methods]
    assert [dict(zip(others, of)) for _, *of in made] == wanted
    assert TINY.without(grows).count(",") == 2 and TINY.without("size") == "width 0.125, batch 4, 5 classes"


def test_the_time_of_a_step_is_divided_by_its_images(monkeypatch: pytest.MonkeyPatch):
    """Several short steps are timed together; ms an image is their time divided by all of their images."""
    (method,) = select("bn_adapt")
    small = step.Setting(width=0.125, size=16, batch=2, classes=3)
    assert step._variant("", method, small, TINY).work() == 2
    assert step._variant("", method, small, step.Setting(width=0.125, size=64, batch=4, classes=3)).work() == 4 * 2
    (feature,) = select("feature")
    assert step._variant("", feature, small, TINY).work() == 200 * 2
    ticks = itertools.accumulate([0, 0, 1, 0] * 2)  # the steps take 1 s
    monkeypatch.setattr("visual_decathlon.benchmark.perf.rounds.time.perf_counter", lambda: next(ticks))
    (point,) = step.measured("batch", (4,), TINY, ("bn_adapt",), rounds=1)
    assert point.value == 1000 / 4


FIRST = {e.family: e for e in reversed(entries()) if e().trains_per_domain and not e().unsupported_reason("resnet26")}
ALONE = sorted(e.name for e in FIRST.values())  # one of each family
SVD = "par_adapter_svd(rank=2)"  # at this width it stores factors up to that rank
QUICK = ["finetune", "lora", "adalora", "piggyback", "side", SVD]  # one of each kind


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in ALONE if n not in QUICK)])
def test_a_further_domain_takes_no_more_than_its_own_parameters(name: str, tmp_path: Path):
    """All tensors of the process are counted after every domain was used."""
    (method,) = select(name)
    width = 0.125 if method.width_multiplier == 1 else 0.25
    backbone, file, stored = domains.write(method, tmp_path, width)
    net = MultiDomain(backbone)
    net.use(net.load(file))
    (loaded,) = net.held.values()
    # What is not stored but made again: bases and places that are drawn from a seed, counters of the noise.
    kept = loaded.network.state_dict()
    made = sum(t.numel() * t.element_size() for name, t in loaded.tensors.items() if name not in kept)
    net(torch.zeros(1, 3, 64, 64))  # for the allocations that a process makes once
    counts = (1, 3)
    tensors = [mb * 1e6 for mb, _ in domains.memory_of_domains(backbone, file, counts)]
    assert max(tensors[0], (tensors[1] - tensors[0]) / 2) <= stored + made + 1  # the sums are of floats
    header = int.from_bytes(file.read_bytes()[:8], "little")
    assert file.stat().st_size == 8 + header + stored, "the file holds its own parameters and nothing else"
    shapes = shapes_named("resnet26", width * method.width_multiplier, 64)
    assert stored >= 4 * method.floats(shapes) + method.bits(shapes) / 8


def test_shared_tensors_are_counted_once():
    before = domains.tensor_bytes()
    a = torch.zeros(1000)
    views = [a[:10], a.view(10, 100), torch.nn.Parameter(a)]
    hidden = {"in": [torch.zeros(50)]}
    assert domains.tensor_bytes() - before == 4 * (1000 + 50)
    del a, views, hidden
    assert domains.tensor_bytes() == before


@pytest.mark.slow
def test_domains_are_measured_in_separate_processes():
    points = domains.measured((1, 3), ("bn_adapt",), width=0.125, rounds=1)
    stored, tensors = by(points, "stored", "bn_adapt"), by(points, "tensors", "bn_adapt")
    assert tensors == pytest.approx(stored) and stored[3] == pytest.approx(3 * stored[1])
    assert by(points, "resident", "bn_adapt").keys() in ({1, 3}, set())  # where the system knows it


@pytest.mark.slow
def test_packing_is_bounded():
    """More than two chunks take no more memory than two, except for names and hashes."""
    points = packing.measured((1100, 2200), rounds=1)
    assert all(seconds > 0 for seconds in by(points, "time").values())
    peak = by(points, "peak")
    pixels = 1100 * packing.LONGER * packing.SHORTER * 3 / 1e6
    assert not peak or abs(peak[2200] - peak[1100]) < pixels / 2


def test_packing_leaves_nothing_and_packs_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "DRAWN", 3)
    packing.draw(tmp_path)
    assert packing.pack_images(tmp_path, 7) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_bench_is_timed_against_its_methods(bench, here, monkeypatch: pytest.MonkeyPatch):
    """In this process, where torch is loaded; as a separate command below."""
    ran = []
    monkeypatch.setattr(growth_bench, "output_of", lambda words: ran.append(words) or main(words[1:]))
    settings = "width=0.125", "epochs=1", "pretrain.epochs=1", "batch=8", "pretrain.batch=8"
    words = ("--data", str(bench.data), "--domains", "dtd", "--device", "cpu", "--set", *settings)
    points = growth_bench.measured((2,), bench.cache, words, rounds=1)
    wall, training = by(points, "bench"), by(points, "training")
    assert wall.keys() == training.keys() == {2} and 0 < training[2] < wall[2]
    assert all(p.rounds == 1 for p in points), "the round that fills the cache is not counted"
    methods = [words[words.index("--method") + 1] for words in ran]
    assert methods == [",".join(growth_bench.METHODS[:2])] * 2
    assert not any(Path(words[words.index("--results") + 1]).exists() for words in ran), (
        "each starts from an empty folder"
    )
    names = [m.name for m in select(",".join(growth_bench.METHODS))]
    assert len(names) == len(set(names)) == 8
    structures = {m.backbone_structure for m in select(",".join(names))}
    assert structures == {"plain"}, "one backbone, pretrained before the rounds that count"


def test_a_bench_that_cannot_run_gives_its_own_message(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    words = ("--data", str(tmp_path / "none"))
    measure = lambda cache, progress: growth_bench.measured((1,), cache, words)
    monkeypatch.setitem(STUDIES, "methods", measure)
    assert main(["growth", "--only", "methods", "--results", str(tmp_path / "r"), "--cache", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert str(tmp_path / "none") in err and err.count("\n") == 1
    assert not list((tmp_path / "r").iterdir()), "nothing half-written"


def test_a_line_minimises_relative_distances_and_knows_the_largest():
    line = fitted([1, 2, 4], [5, 7, 11])
    assert (line.start, line.slope, line.off) == pytest.approx((3, 2, 0), abs=1e-9) and line.linear
    bent = fitted([1, 2, 4, 8], [1, 4, 16, 64])
    assert not bent.linear and bent.off > 0.5
    off = fitted([0, 1, 2], [100, 109, 100])
    assert off.linear and 0.02 < off.off < 0.09
    assert fitted([1, 2], [1, 2]) is None and fitted([1, 2, 3], [0, 1, 2]) is None


def points(grows: str, series: tuple[str, ...], whats: dict[str, str], value, at=(1, 2, 4, 8)) -> list[dict]:
    """Rows whose values are `value(what, series, at)`, spread by 1 %."""
    out = []
    for x, name, (what, unit) in itertools.product(at, series, whats.items()):
        y = value(what, name, x)
        about = {"grows": grows, "setting": "this & that", "at": x, "series": name}
        out.append(vars(Point.of(what, unit, [0.99 * y, y, 1.01 * y], **about)) | COMMON)
    return out


def rows() -> list[dict]:
    """Rows of every study, all linear except width."""
    steps = {"step": "ms an image"}
    body = lambda x: lambda what, series, at: x(at) / (1000 if series == "feature" else 1)
    out = points("width", step.METHODS, steps, body(lambda at: 20 * at**2), (0.125, 0.25, 0.5, 1))
    out += points("size", step.METHODS, steps, body(lambda at: 1 + 5 * at**2 / 1000), (16, 32, 64, 96))
    out += points("batch", step.METHODS, steps, body(lambda at: 18 + 30 / at), (4, 32, 128))
    out += points("classes", step.METHODS, steps, lambda w, s, at: 3 + at if s == "feature" else 20, (10, 100, 1623))
    held = {"stored": "MB", "tensors": "MB", "resident": "MB"}
    out += points("domains", domains.METHODS, held, lambda what, s, at: 3 * at + 2 * (what == "resident"))
    out += points("packing", ("",), {"time": "s", "peak": "MB"}, lambda what, s, at: at / 1e3 if what == "time" else 9)
    return out + points("methods", ("",), {"bench": "s", "training": "s"}, lambda w, s, at: 2 * at + 5 * (w == "bench"))


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]


def test_every_study_has_its_figure_with_the_line_where_it_is_linear():
    drawn = {figure.name: figure for figure in figures.draw(rows())}
    assert list(drawn) == [f"growth-{name}" for name in STUDIES]
    texts_by_study = {name.removeprefix("growth-"): "\n".join(texts(figure.figure)) for name, figure in drawn.items()}
    assert "Finetune: ∝ width^2 from 0.5 to 1" in texts_by_study["width"]
    assert "Finetune: 1 + 5 ms per 1,000 px (±" in texts_by_study["size"]
    assert "Feature extractor: 1 + 5 µs per 1,000 px (±" in texts_by_study["size"]
    assert "Finetune: a step 30 + 18 ms an image (±" in texts_by_study["batch"]
    assert "Finetune: 20 ms, no growth" in texts_by_study["classes"]
    assert "a further domain:\n3 MB stored\n3 MB tensors\n3 MB resident" in texts_by_study["domains"]
    assert "time: " in texts_by_study["packing"] and "1 s per 1,000 images" in texts_by_study["packing"]
    assert "peak memory: 9 MB, no growth" in texts_by_study["packing"]
    assert "the command: 5 + 2 s a method (±" in texts_by_study["methods"]
    for name, figure in drawn.items():
        assert "mine, 2 cores; 3 rounds" in figure.caption and "this & that" in figure.caption, name
        assert not any("…" in text for text in texts(figure.figure)), "all of the legend fits"


def test_points_that_are_not_on_a_line_have_none():
    bent = points("methods", ("",), {"bench": "s", "training": "s"}, lambda w, s, at: at**2)
    (figure,) = figures.draw(bent)
    assert figure.caption.endswith("in brackets.")
    assert "the command" in texts(figure.figure) and "a method" not in "".join(texts(figure.figure))
    line = lambda rows: max(len(one.get_xdata()) for ax in next(figures.draw(rows)).figure.axes for one in ax.lines)
    assert line(bent) == 4
    assert line(points("methods", ("",), {"bench": "s", "training": "s"}, lambda w, s, at: at)) > 100


def test_points_are_drawn_at_their_values():
    (figure,) = figures.draw(points("methods", ("",), {"bench": "s", "training": "s"}, lambda w, s, at: 2 * at))
    (ax,) = figure.figure.axes
    marked = [line.get_xydata().tolist() for line in ax.lines if line.get_marker() in ("o", "s")]
    assert marked == [[[1, 2], [2, 4], [4, 8], [8, 16]]] * 2
    assert ax.get_ylim()[0] == 0


@pytest.mark.parametrize("few", [False, True])
def test_nothing_is_written_outside_the_figure_or_over_another(few: bool):
    all_rows = rows()
    if few:  # one point each, as in a first attempt
        least = {row["grows"]: row["at"] for row in reversed(all_rows)}
        all_rows = [row for row in all_rows if row["at"] == least[row["grows"]]]
    for drawn in figures.draw(all_rows):
        figure = drawn.figure
        renderer = figure._get_renderer()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, drawn.name
        (legend,) = figure.legends
        names = legend.get_window_extent(renderer)
        for ax in figure.axes:
            assert not ax.get_tightbbox(renderer).overlaps(names), drawn.name
        for a, b in itertools.combinations(figure.axes, 2):
            assert not a.get_tightbbox(renderer).overlaps(b.get_tightbbox(renderer)), drawn.name


def test_drawn_twice_the_bytes_are_the_same():
    one, other = ([style.as_bytes(drawn) for drawn in figures.draw(rows())] for _ in range(2))
    assert one == other and len(one) == 7
    for made in one:
        assert made["png"].startswith(b"\x89PNG")
        ElementTree.fromstring(made["svg"])


def test_the_table_has_a_column_for_each_value():
    of_study = [row for row in rows() if row["grows"] == "methods"]
    head, *lines = report.table(of_study)
    assert head == ["methods", "", "", "1", "2", "4", "8"]
    assert lines[0] == ["", "bench", "s", "7 (6.93–7.07)", "9 (8.91–9.09)", "13 (12.9–13.1)", "21 (20.8–21.2)"]
    text = report.markdown(of_study, list(figures.draw(of_study)))
    assert "![A bench against number of methods](growth-methods.svg)" in text and "this &amp; that" in text
    assert "|  | training | s | 2 (1.98–2.02) |" in text and "commit abc, load 0.5" in text


def test_the_committed_files_are_made_from_the_committed_rows():
    folder = Path(__file__).parents[3] / "results" / "growth"
    lock = (folder.parents[1] / "requirements.lock").read_text()
    measured = pq.read_table(folder / "growth.parquet").to_pylist()
    drawn = list(figures.draw(measured))
    assert report.markdown(measured, drawn) == (folder / "growth.md").read_text()
    if f"matplotlib=={matplotlib.__version__}\n" not in lock:
        pytest.skip(f"bytes are the same under the locked matplotlib, this is {matplotlib.__version__}")
    made = {f"{figure.name}.{end}": content for figure in drawn for end, content in style.as_bytes(figure).items()}
    assert made == {path.name: path.read_bytes() for path in folder.glob("growth-*")}


def measuring(name: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the measurement of this study by rows with this value."""
    names = Point.__dataclass_fields__
    made = [Point(**{n: row[n] for n in names}) for row in rows() if row["grows"] == name]
    measured = [
        Point.of(p.what, p.unit, [value], **{n: vars(p)[n] for n in ("grows", "setting", "at", "series")}) for p in made
    ]
    monkeypatch.setitem(STUDIES, name, lambda cache, progress: measured)


def test_earlier_studies_stay_when_others_are_measured_again(tmp_path: Path, monkeypatch, capsys):
    command = ["growth", "--results", str(tmp_path), "--cache", str(tmp_path / "cache"), "--only"]
    for name in STUDIES:
        measuring(name, 1.0, monkeypatch)
    assert main([*command, "packing", "methods"]) == 0
    files = {f"growth-{name}.{end}" for name in ("packing", "methods") for end in ("svg", "png")}
    assert {path.name for path in tmp_path.iterdir()} == {*files, "growth.parquet", "growth.md"}
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    measuring("packing", 2.0, monkeypatch)
    assert main([*command, "packing"]) == 0
    kept = pq.read_table(tmp_path / "growth.parquet").to_pylist()
    assert {(row["grows"], row["value"]) for row in kept} == {("packing", 2.0), ("methods", 1.0)}
    assert {"load", "machine", "cores", "versions", "commit"} < kept[0].keys()
    assert (tmp_path / "growth-methods.svg").read_bytes() == before["growth-methods.svg"]
    assert (tmp_path / "growth-packing.svg").read_bytes() != before["growth-packing.svg"]
    assert main(["growth", "--results", str(tmp_path)]) == 0
    assert {row["grows"] for row in pq.read_table(tmp_path / "growth.parquet").to_pylist()} == set(STUDIES)
    text = (tmp_path / "growth.md").read_text()
    assert [line.removeprefix("## growth-") for line in text.splitlines() if line.startswith("## ")] == list(STUDIES)


@pytest.mark.parametrize("only", ["nothing", "width,nothing"])
def test_an_unknown_study_is_refused_in_one_sentence(only: str, tmp_path: Path, capsys):
    assert main(["growth", "--only", only, "--results", str(tmp_path / "none")]) == 2
    err = capsys.readouterr().err
    assert (
        err.startswith("ONLY=nothing: there is no study of this name; choose from width, size, ")
        and err.count("\n") == 1
    )
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_file_with_other_columns_is_set_aside(damage, tmp_path, capsys):
    path = tmp_path / "growth.parquet"
    if damage == "cut":
        path.write_bytes(b"PAR1")
    else:
        pq.write_table(pq.read_table(Path(__file__).parents[1] / "record_1.parquet"), path)
    content = path.read_bytes()
    assert store.load_previous(path, {"x": int}, "x", "growths") == {}
    err = capsys.readouterr().err
    aside = tmp_path / "damaged" / "growth.parquet"
    assert str(path) in err and str(aside) in err and err.count("\n") == 1
    assert not path.exists() and aside.read_bytes() == content, "nothing is lost"
