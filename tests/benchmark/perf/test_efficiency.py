"""The command: its files, what stays in them, the figure's points, bad input. Nothing here depends on the time."""

import functools
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.cli.main import main, parse
from visual_decathlon.benchmark.config.folders import SHIPPED, SHIPPED_RECORDS
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.perf.efficiency import (
    accuracy,
    adapter_rows,
    block_rows,
    columns,
    figure,
    measure,
    networks,
    passes,
    report,
)
from visual_decathlon.benchmark.perf.efficiency.accuracy import Point, Points
from visual_decathlon.benchmark.perf.rounds import Rounds, Variant
from visual_decathlon.benchmark.report.figures import style
from visual_decathlon.benchmark.tables.table1 import Spread
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.text import comma_list
from visual_decathlon.methods.registry import select

SMALL, BIG = "timm/resnet18", "torchvision/resnet18"


READ = functools.cache(accuracy.read)


class Tiny(nn.Module):
    """A network of any size of images."""

    def __init__(self, classes: int, channels: int = 4):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, channels, 3, 2), nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(self.stem(x).mean(dim=(2, 3)))


class Fp32(Tiny):
    """A network that runs in fp32 alone."""

    def forward(self, x):
        return super().forward(x + torch.zeros(1, 1, 1, 1).expand_as(x))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("visual_decathlon.benchmark.perf.rounds._busy", lambda: 0.0)
    monkeypatch.setattr(networks, "BATCHES", (1, 3))
    monkeypatch.setattr(passes, "MOST", 3)
    monkeypatch.setattr(measure, "cores", lambda: 1)
    monkeypatch.setattr(accuracy, "read", lambda sources: READ(tuple(sources)))
    made = {SMALL: Tiny, BIG: lambda classes: Tiny(classes, 8), "timm/fp32": Fp32}
    known = networks.library_network
    monkeypatch.setattr(networks, "library_network", lambda name, n: made[name](n) if name in made else known(name, n))
    adapted = adapter_rows.measured
    monkeypatch.setattr(adapter_rows, "measured", lambda name, *rest: [] if name in made else adapted(name, *rest))
    monkeypatch.setattr(adapter_rows, "BATCHES", (1, 3))


def run(folder: Path, *words: str) -> int:
    return main(["efficiency", "--size", "16", "--device", "cpu", "--results", str(folder), *words])


def rows(folder: Path, name: str = "efficiency") -> list[dict]:
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def test_the_command_writes_all_files(tmp_path: Path, capsys):
    assert run(tmp_path, "--network", f"{BIG},{SMALL}", "--from", str(SHIPPED)) == 0
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"efficiency.parquet", "blocks.parquet", "efficiency.md", "efficiency.svg", "efficiency.png"}
    made = rows(tmp_path)
    order = [(r["network"], r["precision"], r["batch"]) for r in made]
    assert order == [(n, p, b) for n in (SMALL, BIG) for p in ("fp32", "bf16", "fp16") for b in (1, 3)]
    for r in made:
        channels = 4 if r["network"] == SMALL else 8
        assert r["macs"] == 49 * 27 * channels + 1000 * channels and r["flops"] == 2 * r["macs"]
        assert r["parameters"] == 28 * channels + 1000 * channels + 1000
        assert r["size"] == 16 and r["classes"] == 1000 and r["layout"] == "channels_last" and r["rounds"] == 3
        width = 4 if r["precision"] == "fp32" else 2
        assert width * r["parameters"] < r["file_bytes"] < width * r["parameters"] + 400
        assert r["activation_bytes"] >= r["batch"] * width * (3 * 256 + channels * 49)
        assert 0 < r["latency_ms_p10"] <= r["latency_ms"] <= r["latency_ms_p90"]
        assert r["img_s"] == pytest.approx(1e3 * r["batch"] / r["latency_ms"])
        assert r["joules"] is None and r["allocated_bytes"] is None and r["reason"] == ""
        assert r["device"] == "cpu" and r["machine"] and json.loads(r["versions"])["torch"]
    page, out = (tmp_path / "efficiency.md").read_text(), capsys.readouterr().out
    for text in (page, out):
        assert BIG in text and "inverted residual" in text and json.loads(made[0]["versions"])["torch"] in text
    assert "1 MAC = 2 FLOPs" in page and made[0]["machine"].partition(",")[0] in page
    assert f"{made[0]['macs'] / 1e6:,.1f}" in page and "Only resnet26 has runs" in page
    ElementTree.parse(tmp_path / "efficiency.svg")


def test_every_column_has_its_unit_and_nothing_is_null_that_may_not_be(tmp_path: Path):
    assert run(tmp_path, "--network", SMALL) == 0
    for name, of in (("efficiency", columns.NETWORKS), ("blocks", columns.BLOCKS)):
        table = pq.read_table(tmp_path / f"{name}.parquet")
        assert table.column_names == [column.name for column in of]
        for column, field in zip(of, table.schema, strict=True):
            about = {key.decode(): value.decode() for key, value in field.metadata.items()}
            assert about["comment"] and about.get("unit", "") == column.unit, column.name
            assert field.type == column.kind and field.nullable == column.nullable
            assert column.nullable or table[column.name].null_count == 0, column.name
            in_name = {"_ms": "ms", "_bytes": "byte", "img_s": "image/s", "joules": "J/image"}
            assert all(about["unit"] == unit for end, unit in in_name.items() if column.name.endswith(end))


def test_rows_of_other_networks_and_parts_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(style, "as_bytes", lambda drawn: {"svg": b"", "png": b""})
    assert run(tmp_path, "--network", BIG, "--only", "networks") == 0
    assert not (tmp_path / "blocks.parquet").exists()
    first = rows(tmp_path)
    assert run(tmp_path, "--network", SMALL, "--only", "networks") == 0
    assert [r for r in rows(tmp_path) if r["network"] == BIG] == first
    assert run(tmp_path, "--only", "blocks") == 0
    assert len(rows(tmp_path)) == 12 and len(rows(tmp_path, "blocks")) == 8
    page = (tmp_path / "efficiency.md").read_text()
    assert BIG in page and SMALL in page and "fire" in page
    assert run(tmp_path, "--network", BIG, "--only", "networks") == 0
    assert len(rows(tmp_path)) == 12, "the rows of the same network, size and device are replaced"
    assert main(["efficiency", "--network", BIG, "--size", "32", "--device", "cpu", "--results", str(tmp_path)]) == 0
    assert {(r["network"], r["size"]) for r in rows(tmp_path)} == {(BIG, 16), (SMALL, 16), (BIG, 32)}
    assert len(rows(tmp_path)) == 18


VIT = "timm/vit_tiny_patch16_224(depth=2,embed_dim=24,img_size=16,num_heads=2,patch_size=4)"


def test_what_methods_add_to_a_network(tmp_path: Path):
    """On 17 tokens of 24 numbers: prompts lengthen the sequence, prefixes that of the keys, and merging ends it all."""
    assert run(tmp_path, "--network", VIT, "--only", "adapters") == 0
    made = {(r["method"], r["form"], r["batch"]): r for r in rows(tmp_path, "adapters")}
    bare = made[adapter_rows.BARE, "as trained", 1]
    assert (bare["queries"], bare["keys"], bare["floats"], bare["latency_ratio"]) == (17, 17, 0, 1.0)
    assert bare["macs"] == 16 * 48 * 24 + 2 * (17 * 12 * 24**2 + 2 * 17**2 * 24)
    length = {method: made[method, "as trained", 1]["keys"] - 17 for method in ("prompt", "prefix", "houlsby")}
    assert length == {"prompt": 10, "prefix": 10, "houlsby": 0}
    assert made["prompt", "as trained", 1]["queries"] == 27 and made["prefix", "as trained", 1]["queries"] == 17
    merged = [r for (_, form, _), r in made.items() if form == "merged"]
    assert {r["method"] for r in merged} >= {"lora", "dora", "bitfit", "ssf", "ia3", "par_adapter"}
    for r in merged:
        assert all(r[name] == bare[name] for name in ("macs", "queries", "keys")), r["method"]
    for r in made.values():
        (method,) = select(r["method"]) if r["method"] != adapter_rows.BARE else (None,)
        assert r["floats"] == (method.floats(shapes_named(VIT, size=16)) if method else 0)
        assert r["batch"] in (1, 3) and 0 < r["latency_ratio_least"] <= r["latency_ratio"] <= r["latency_ratio_largest"]
    first = rows(tmp_path, "adapters")
    assert run(tmp_path, "--only", "blocks") == 0
    assert rows(tmp_path, "adapters") == first and "## Adapted networks" in (tmp_path / "efficiency.md").read_text()
    table = pq.read_table(tmp_path / "adapters.parquet")
    assert all(c.nullable or table[c.name].null_count == 0 for c in columns.ADAPTERS)


def test_a_precision_that_a_network_does_not_run_in_is_null_with_the_reason():
    made = list(networks.measured([networks.ready("timm/fp32", 16, "cpu")]))
    assert [r["precision"] for r in made if r["reason"] == ""] == ["fp32", "fp32"]
    for r in made:
        assert (r["latency_ms"] is None) == (r["img_s"] is None) == (r["rounds"] == 0) == bool(r["reason"])
    reasons = [r["reason"] for r in made if r["reason"]]
    assert len(reasons) == 4 and all(reason.startswith("torch does not run it: ") for reason in reasons)


def test_a_pass_that_would_take_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(networks, "LONGEST", 0.0)
    made = list(networks.measured([networks.ready(SMALL, 16, "cpu")]))
    assert [bool(r["reason"]) for r in made] == [False, True] * 3
    assert all("left out: a pass would take about" in r["reason"] for r in made if r["batch"] == 3)


def test_images_have_the_layout_of_the_network():
    ready = networks.ready(SMALL, 16, "cpu")
    x = ready.images(2, torch.bfloat16)
    assert x.shape == (2, 3, 16, 16) and x.dtype == torch.bfloat16
    assert x.is_contiguous(memory_format=torch.channels_last)
    weight = ready.module.stem.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.requires_grad


def test_a_network_that_needs_nchw_gets_it(monkeypatch: pytest.MonkeyPatch):
    class Flat(Tiny):
        def forward(self, x):
            return self.head(self.stem(x).view(len(x), -1)[:, :4])

    monkeypatch.setattr(networks, "library_network", lambda name, classes: Flat(classes))
    ready = networks.ready("flat", 16, "cpu")
    assert ready.about["layout"] == "contiguous" and ready.images(2, torch.float32).is_contiguous()


def test_latencies_are_those_of_the_rounds():
    times = passes.times(Rounds({"a": [10.0, 20.0, 40.0]}, 1), batch=2)["a"]
    assert (times.latency_ms, times.img_s, times.rounds) == (100.0, 20.0, 3)
    assert times.latency_ms_p10 == pytest.approx(60) and times.latency_ms_p90 == pytest.approx(180)
    rounds = Rounds({"standard": [10.0, 10.0, 30.0], "a": [20.0, 5.0, 10.0]}, 0)
    assert passes.latency_ratios(rounds, "a", "standard") == (2.0, 0.5, 3.0)


def test_as_many_rounds_as_fit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passes, "MOST", 10)
    variants = [Variant(name, lambda: 1) for name in "ab"]
    counted = lambda seconds: len(passes.take_turns(variants, seconds).speeds["a"])
    assert [counted(s) for s in (0.0, 0.3, 1000.0)] == [10, 6, passes.LEAST]


def test_energy_is_divided_by_the_images(monkeypatch: pytest.MonkeyPatch):
    counter = iter([0, 1000, 7000])
    monkeypatch.setattr(passes, "millijoules", lambda device: next(counter))
    monkeypatch.setattr("visual_decathlon.benchmark.training.timing.millijoules", lambda device: next(counter))
    ticks = iter([0.0, 0.1, 0.2, 0.6])
    monkeypatch.setattr(passes.time, "perf_counter", lambda: next(ticks))
    assert passes.joules(Variant("a", lambda: 3), torch.device("cuda")) == 6.0 / 6
    monkeypatch.undo()
    assert passes.joules(Variant("a", lambda: 3), torch.device("cpu")) is None


def test_blocks_are_relative_to_the_standard_convolution():
    made = {r["block"]: r for r in block_rows.measured("cpu", channels=32, side=6)}
    assert made["standard"]["latency_ratio"] == made["standard"]["ratio"] == made["standard"]["activation_ratio"] == 1
    for r in made.values():
        assert r["parameters"] == r["parameters_counted"] and r["macs"] == r["macs_counted"]
        assert r["ratio"] == pytest.approx(r["macs_ratio"])
        assert 0 < r["latency_ratio_least"] <= r["latency_ratio"] <= r["latency_ratio_largest"]
    assert made["inverted residual"]["activation_ratio"] == 6.5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--network", "torchvision/resnet9999"], "resnet9999"),
        (["--network", "resnet26,nothing"], "nothing"),
        (["--network", "resnet26", "--size", "20"], "resnet26 does not run on images of 20 × 20 pixels ("),
        (["--only", "figures"], "ONLY=figures: there is no part of this name; choose from networks, adapters, blocks"),
        (["--from", "/nowhere"], "FROM=/nowhere does not exist"),
    ],
)
def test_bad_input_is_one_sentence(words: list[str], sentence: str, tmp_path: Path, capsys):
    assert run(tmp_path, *words) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--network", " , "], ["--size", "0"], ["--size", "big"], ["--device", "tpu"]])
def test_a_wrong_option_is_refused_at_once(words: list[str], capsys):
    with pytest.raises(SystemExit) as end:
        parse(["efficiency", *words])
    assert end.value.code == 2 and words[0] in capsys.readouterr().err


def test_a_size_that_is_too_small_is_refused_with_the_networks_own_reason():
    with pytest.raises(
        InputError, match=r"timm/resnet18 does not run on images of 2 × 2 pixels \(.*Kernel size.*size="
    ):
        networks.ready(SMALL, 2, "cpu")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b", ["a", "b"]),
        (" a , b(x=1, y=(2, 3)),, c ", ["a", "b(x=1, y=(2, 3))", "c"]),
        ("timm/vit_tiny_patch16_224(img_size=64),resnet26", ["timm/vit_tiny_patch16_224(img_size=64)", "resnet26"]),
        ("a(b,c", ["a(b,c"]),
        ("", []),
    ],
)
def test_a_comma_within_parentheses_belongs_to_the_name(text: str, parts: list[str]):
    assert comma_list(text) == parts
    if parts:
        assert parse(["efficiency", "--network", text]).network == parts


def test_the_shipped_records_give_the_points_of_one_network():
    points = accuracy.read([SHIPPED])
    assert {p.network for p in points.points} == {"resnet26"} and points.standin
    table = pq.read_table(SHIPPED / "table1.parquet").to_pylist()
    records = pq.read_table(SHIPPED / "records.parquet").to_pylist()
    for p in points.points:
        (line,) = (r for r in table if r["method"] == p.method)
        assert (p.top1.mean, p.top1.deviation, p.seeds) == (line["mean"], line["mean sd"], line["seeds"])
        of = [r for r in records if r["method"] == p.method and r["split"] == "val"]
        convolutions = {r["macs_inference"] for r in of}
        head = sum({r["domain"]: r["head_floats"] for r in of}.values()) / 10
        assert convolutions == {13_492_224} and abs(p.macs - 13_492_224 - head) < 0.02 * 13_492_224
        assert p.label == "resnet26, width 0.25, 32 px"
    assert {p.method for p in points.points} == {"finetune", "feature"}


def table_of(network: str, data: str, *methods: str, mean: float = 80.0):
    """The fields of a table that points are made of."""
    settings = json.dumps({"network": network, "width": 1.0, "crop": 64})
    group = {"data": data, "data_id": data, "split": "val", "standin": False, "settings": settings}
    made = [SimpleNamespace(method=m, mean=Spread(mean, 1.0), complete=3) for m in methods]
    classes = SimpleNamespace(drop_duplicates=lambda column: {"classes": SimpleNamespace(mean=lambda: 10.4)})
    return SimpleNamespace(group=group, rows=made, runs=classes)


def test_networks_on_other_data_are_not_in_the_same_figure():
    made = [
        table_of("a/one", "x", "finetune", "lora"),
        table_of("a/two", "y", "finetune", "feature"),
        table_of("a/three", "y", "finetune"),
        table_of("a/four", "y", "lora"),
    ]
    points = accuracy.points(made, lambda settings, classes: len(settings["network"]) * 1000 + classes)
    assert points.where == "Data y, split val"
    assert [(p.network, p.method, p.macs) for p in points.points] == [
        ("a/two", "finetune", 5010),
        ("a/two", "feature", 5010),
        ("a/three", "finetune", 7010),
    ]
    assert accuracy.points([table_of("a/four", "y", "lora")], lambda *_: 1).points == []


def test_the_figure_names_the_networks_without_runs():
    def point(network: str, macs: int, method: str = "finetune") -> Point:
        return Point(network, f"{network}, 64 px", macs, method, Spread(70.0, 2.0), 3)

    with style.shielded():
        one = figure.draw(Points("Data x, split val", True, [point("a/one", 10**6)]), ["a/one", "b/two", "resnet26"])
        two = figure.draw(Points("Data x", False, [point("a/one", 10**6), point("b/two", 10**9, "feature")]), ["a/one"])
        labels = {text.get_text() for text in two.figure.axes[0].texts}
        with pytest.raises(style.NotDrawn):
            figure.draw(Points("", False, []), ["a/one"])
    assert "Only a/one has runs. Not drawn, as no runs of them are there yet: b/two, resnet26." in one.caption
    assert "Stand-ins are drawings" in one.caption and "Stand-ins" not in two.caption
    assert "Only" not in two.caption and "Not drawn" not in two.caption and "± one standard deviation" in two.caption
    assert {"a/one, 64 px", "b/two, 64 px"} <= labels


def test_without_records_there_is_no_figure(tmp_path: Path):
    (tmp_path / "none").mkdir()
    (tmp_path / "efficiency.svg").write_text("old")
    assert run(tmp_path, "--only", "blocks", "--from", str(tmp_path / "none")) == 0
    assert not (tmp_path / "efficiency.svg").exists()
    assert "No figure: no network has runs of finetune or feature" in (tmp_path / "efficiency.md").read_text()


def test_one_network_by_several_names_is_measured_once(tmp_path: Path):
    names = ("timm/test_vit(patch_size=8,img_size=16)", "timm/test_vit(img_size=16, patch_size=8)")
    assert run(tmp_path, "--only", "networks", "--network", ",".join(names)) == 0
    assert {r["network"] for r in rows(tmp_path)} == {"timm/test_vit(img_size=16,patch_size=8)"}
    assert len(rows(tmp_path)) == 6


def test_the_figure_has_the_networks_of_all_folders(tmp_path: Path):
    assert run(tmp_path, "--only", "blocks") == 0  # all shipped records
    page = " ".join((tmp_path / "efficiency.md").read_text().split())
    networks_of = {p.network for p in READ(tuple(SHIPPED_RECORDS)).points}
    assert {"resnet26", profile("standin-vit").network} <= networks_of and "Only" not in page
    assert all(name in page for name in networks_of if "(" in name)  # in full, where the figure has (…)
    labels = {p.label for p in READ(tuple(SHIPPED_RECORDS)).points}
    assert {"resnet26, width 0.25, 32 px", "timm/vit_tiny_patch16_224(…), 32 px"} <= labels
    one, other = (tmp_path / name for name in ("one", "other"))
    assert run(one, "--only", "blocks", "--from", f"{SHIPPED} {SHIPPED_RECORDS[1]}") == 0
    assert run(other, "--only", "blocks", "--from", str(SHIPPED)) == 0
    assert "vit_tiny" in (one / "efficiency.md").read_text() and "vit_tiny" not in (other / "efficiency.md").read_text()


def test_the_shipped_page_is_made_of_the_shipped_tables():
    """The tables alone: the caption of the figure follows the records, which may have grown since."""
    folder = SHIPPED.parent / "efficiency"
    of_networks, of_adapters, of_blocks = (rows(folder, name) for name in ("efficiency", "adapters", "blocks"))
    made = report.markdown(of_networks, of_adapters, of_blocks, "none").partition("No figure")[0]
    assert (folder / "efficiency.md").read_text().startswith(made) and len(of_blocks) == 8
    assert {"torchvision/resnet18", "torchvision/resnet50", "timm/resnet50", "resnet26"} <= {
        r["network"] for r in of_networks
    }
    tables = {"efficiency": columns.NETWORKS, "adapters": columns.ADAPTERS, "blocks": columns.BLOCKS}
    for name, of in tables.items():
        assert pq.read_schema(folder / f"{name}.parquet").equals(columns.table([], of).schema, check_metadata=True)
