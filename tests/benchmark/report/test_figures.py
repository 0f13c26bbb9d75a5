"""The figures of a folder: which files are made, their bytes, captions and messages."""

import json
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path

import matplotlib
import pytest
from matplotlib.text import Text
from PIL import Image

from tests.benchmark.drawn_figures import HISTORY, SOME, group_of
from tests.benchmark.drawn_records import SETTINGS, record, ten
from tests.benchmark.drawn_tables import tables_of
from visual_decathlon.benchmark.records.store import read_histories, read_records, write_record
from visual_decathlon.benchmark.report import figures
from visual_decathlon.benchmark.report.figures import curves, gap, steps, style, tradeoff
from visual_decathlon.benchmark.report.figures.groups import file_names, grouped
from visual_decathlon.benchmark.report.figures.style import NotDrawn, luminance
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_all
from visual_decathlon.methods.registry import entries


@pytest.fixture(autouse=True)
def _style():
    with style.shielded():
        yield


def write(records: list[dict], folder: Path, *only: str, messages: list[str] | None = None) -> list[str]:
    """Names of the files, below the folder."""
    histories = lambda hashes: dict.fromkeys(hashes, HISTORY)
    paths = write_all(
        figures.contents(
            tables_of(records), histories, folder, only, [].append if messages is None else messages.append
        )
    )
    return sorted(path.relative_to(folder).as_posix() for path in paths)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """All figures of three methods on ten domains with two seeds; the folder is read only."""
    folder = tmp_path_factory.mktemp("figures")
    return folder, write(SOME, folder)


def test_every_kind_is_drawn_as_svg_and_png(everything):
    folder, files = everything
    names = ["gap", "pareto", "steps", "time", "curves/feature", "curves/finetune", "curves/lora"]
    assert files == sorted([f"{name}.{ending}" for name in names for ending in ("svg", "png")] + ["captions.md"])
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == files


def test_bytes_are_the_same_twice_and_independent_of_the_users_settings(everything, below, tmp_path):
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


def test_each_caption_has_data_split_profile_and_seeds(everything):
    folder, files = everything
    text = (folder / "captions.md").read_text()
    blocks = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len([name for name in files if name.endswith(".svg")])
    for block in blocks:
        name = block.splitlines()[0][3:]
        for text_part in ("standin-v1-seed0", "split val", "profile standin", "n = 2 seeds", "Stand-ins are drawings"):
            assert text_part in block
        assert f"]({name}.svg)" in block
        kept = ElementTree.parse(folder / f"{name}.svg").getroot().itertext()
        assert any("standin-v1-seed0, split val" in part for part in kept)  # the file contains the caption
        assert "split val" in Image.open(folder / f"{name}.png").text["Description"]


def test_missing_data_give_a_message_in_place_of_a_figure(tmp_path):
    messages = []
    files = write([record("lora"), record("lora", "svhn")], tmp_path, messages=messages)
    assert not [name for name in files if name.startswith("gap")] and not (tmp_path / "gap.svg").exists()
    assert len(messages) == 1 and "gap" in messages[0] and "no fine-tune" in messages[0]
    with pytest.raises(InputError, match=r"^only=gap has nothing to draw: no fine-tune run .*method=finetune") as error:
        write(ten("lora"), tmp_path, "gap")
    assert "\n" not in str(error.value)
    messages.clear()
    files = write(ten("lora"), tmp_path, "pareto", "gap", messages=messages)
    assert any(name.startswith("pareto") for name in files) and len(messages) == 1 and "gap" in messages[0]
    with pytest.raises(InputError, match="only=pie: pie is no figure; there are pareto, time, gap, steps, curves"):
        write(ten("lora"), tmp_path, "pie")
    with pytest.raises(NotDrawn, match="no training time"):
        list(tradeoff.time(group_of([record("feature", "imagenet12")])))
    with pytest.raises(NotDrawn, match="no step time"):
        list(steps.draw(group_of([record(step_ms=None)])))
    with pytest.raises(NotDrawn, match="no history"):
        list(curves.draw(group_of([record("feature", "imagenet12")])))
    with pytest.raises(NotDrawn, match="no method other than"):
        list(gap.draw(group_of([record()])))


def test_groups_never_share_a_figure_and_have_distinct_names(tmp_path):
    other = json.dumps(json.loads(SETTINGS) | {"adapt": {"lr": 0.3}})
    records = ten("lora") + ten("lora", settings=other) + ten("lora", split="holdout")
    files = write(records, tmp_path, "steps")
    assert len([name for name in files if name.endswith(".svg")]) == 3
    assert "steps-split-val-lr-0.3.svg" in files and "steps-split-holdout-lr-0.1.svg" in files
    text = (tmp_path / "captions.md").read_text()
    assert "lr=0.3" in text and "split holdout" in text
    assert [group.suffix for group in grouped(tables_of(ten()), {})] == [""]
    names = file_names(["a(b='c')", "A(b=c)", "", "x" * 200, "../../etc"], list("12345"))
    assert len({name.lower() for name in names}) == 5 and all(re.fullmatch(r"[\w.-]{1,70}", name) for name in names)
    assert names[4] == "etc"


def test_old_figures_are_removed_and_no_other_file(tmp_path):
    write(SOME, tmp_path, "gap", "steps")
    (tmp_path / "mine.svg").write_text("mine")
    (tmp_path / "gap-mine.png").write_text("mine")
    write(ten("lora"), tmp_path, "pareto")
    assert re.findall(r"^## (.*)", (tmp_path / "captions.md").read_text(), re.MULTILINE) == ["pareto", "gap", "steps"]
    all_before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError):
        write(ten("lora"), tmp_path, "gap")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == all_before, "a failed command changes no file"
    write(ten("lora"), tmp_path)  # without a fine-tune run there is no gap, and the old figure is removed
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


def test_marks_and_dashes_distinguish_without_colours():
    marks = [mark for mark, _ in style.FAMILIES.values()]
    assert {entry.family for entry in entries()} <= set(style.FAMILIES)
    assert len({*marks[:6]}) == 6
    for (mine, (mark, colour)), (other, (mark2, colour2)) in combinations(style.FAMILIES.items(), 2):
        assert mark != mark2 or abs(luminance(colour) - luminance(colour2)) > 0.3, (mine, other)
    assert style.OTHER[0] not in marks
    assert len({mark for _, _, mark in style.LINES}) == len(style.LINES) > len(DOMAINS)
    grey = lambda *colours: (max(map(luminance, colours)) + 0.05) / (min(map(luminance, colours)) + 0.05)
    assert grey(steps.BLUE, steps.SKY) > 2


LONG = "adapter(arrangement='parallel', conv='copy_concat', scale='{}', and_more='{}')"


@pytest.mark.parametrize("kind", [tradeoff.pareto, tradeoff.time, gap.draw, steps.draw, curves.draw])
def test_nothing_is_written_outside_the_figure(kind):
    more = {"data": "a-release-with-a-very-long-name-" * 5, "backbone_source": "some file 1234abcd"}
    records = [r | more for m in ("finetune", LONG.format("learned", 1), LONG.format("none", 2)) for r in ten(m, 70.0)]
    records += [record("finetune", "birds_of_the_whole_world", 50.0, k=0, **more)]
    drawn_one = next(iter(kind(group_of(records))))
    figure = drawn_one.figure
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    assert more["data"] in drawn_one.caption  # whole there


def test_histories_are_read_once_and_runs_without_one_left_out(tmp_path):
    requested = []

    def histories(hashes: set[str]) -> dict:
        requested.append(hashes)
        return {name: HISTORY for name in hashes if "feature" in name}

    figures.contents(tables_of(SOME), histories, tmp_path, ["steps"], print)
    assert not requested
    paths = figures.contents(tables_of(SOME), histories, tmp_path, ["curves"], print)
    assert requested == [{r["hash"] for r in SOME if not r["source_cell"]}]
    assert [path.name for path in paths] == ["feature.svg", "feature.png", "captions.md"]


def test_only_requested_histories_are_read(tmp_path):
    shipped = Path(__file__).parents[3] / "results" / "standin"
    records = read_records([shipped])
    wanted = {r["hash"]: r["history"] for r in records[::40]}
    assert read_histories([shipped], wanted.keys()) == wanted
    assert read_histories([tmp_path], {"a"}) == {}
    write_record(records[0] | {"hash": "a", "history": None}, tmp_path)
    assert read_histories([tmp_path], {"a"}) == {}  # null
