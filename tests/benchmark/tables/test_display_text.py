"""Names from outside are harmless in every output: the terminal, tables in every form, figures, the page."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from rich.table import Table as RichTable
from rich.text import Text

from tests.benchmark.drawn_records import ten
from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.records.files import Fault, report_left_out
from visual_decathlon.benchmark.report import figures, files
from visual_decathlon.benchmark.report.console import PlainConsole
from visual_decathlon.benchmark.report.leaderboard.page import page
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.tables.compare import compare
from visual_decathlon.benchmark.tables.display_text import printable_frame
from visual_decathlon.benchmark.tables.published import published
from visual_decathlon.benchmark.tables.table1 import tables

HOSTILE = "=1+1\x1b]0;x\x07\x9b2J\n\u202e\ufffe </script>[a](b)`|$\\frac"
AS_SHOWN = r"=1+1\x1b]0;x\x07\x9b2J\n\u202e\ufffe </script>[a](b)`|$\frac"
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def records() -> list[dict]:
    more = {"data": HOSTILE, "device": "@\x1b[31mcpu", "command": "-x\x1b", "label": "[red]A\x1b"}
    more |= dict.fromkeys(("precision", "commit", "backbone", "structure", "lr"), "</script>\u2028")
    more |= dict.fromkeys(("train_manifest", "eval_manifest"), "<!--")
    return [{**r, **more} for m in ("finetune", "lora") for r in ten(m)]


def console(**options) -> tuple[PlainConsole, io.StringIO]:
    out = io.StringIO()
    return PlainConsole(file=out, width=300, **options), out


@pytest.mark.parametrize("categories", [False, True])
def test_a_frames_texts(categories: bool):
    frame = pd.DataFrame({"data": ["b\x1b", None, "a", "b\x1b"], "n": [1, 2, 3, 4], "list": [["x"]] * 4})
    frame = frame.astype({"data": "category"} if categories else {"data": object})
    printed = printable_frame(frame)
    assert printed["data"].tolist()[0] == r"b\x1b" == printed["data"].tolist()[3] and printed["data"].tolist()[2] == "a"
    assert (pd.isna(printed["data"][1]) and printed["data"].dtype == frame["data"].dtype) or categories
    assert isinstance(printed["data"].dtype, pd.CategoricalDtype) == categories
    assert frame["data"][0] == "b\x1b", "the caller's frame is unchanged"
    assert printable_frame(plain := frame[["n", "list"]]) is plain


@pytest.mark.parametrize("terminal", [False, True])
def test_the_screen(terminal: bool):
    shown_on, out = console(force_terminal=terminal, color_system=None)
    screen = Screen(shown_on)
    (table,) = tables(pd.DataFrame(records()))
    screen.table(table)
    screen.say("\x1b[2J" + "[red]")
    screen.files([Path("a\x1b[2J")])
    raw = RichTable("head\x1b")
    raw.add_column(Text("head\x9b"))
    raw.add_row("[b]cell\x1b", Text("cell\u202e"))
    shown_on.print(raw)
    shown_on.print("two\nlines", style="bold")
    text = out.getvalue()
    assert AS_SHOWN in text and "[red]A\\x1b" in text and r"[b]cell\x1b" in text and "two\nlines" in text
    assert not STEERING.search(re.sub(r"\x1b\[[\d;]*m", "", text) if terminal else text)
    edges = {len(line) for line in text.splitlines() if "[b]cell" in line or ("━" in line and "head" in line)}
    assert len(edges) == 1, "widths are measured after escaping"


def test_files(tmp_path: Path):
    groups = tables(pd.DataFrame(records()))
    made = {path.name: content for path, content in files.contents(groups, tmp_path).items()}
    for name, content in made.items():
        if content is not None and not name.endswith(".parquet"):
            text = bytes(content).decode()
            assert not STEERING.search(text), name
    (first, *_) = csv.DictReader(io.StringIO(bytes(made["table1.csv"]).decode()))
    assert first["data"] == "'" + AS_SHOWN and float(first["mean"]) == 80
    (first, *_) = csv.DictReader(io.StringIO(bytes(made["timing.csv"]).decode()))
    assert first["device"] == r"'@\x1b[31mcpu"
    assert r"</script>[a](b)`|" not in bytes(made["table1.md"]).decode()
    assert r"\textbackslash{}x1b" in bytes(made["table1.tex"]).decode()


CELLS = {
    "=1+1": "'=1+1",
    "+cmd": "'+cmd",
    "-a": "'-a",
    "@SUM(A1)": "'@SUM(A1)",
    "\tx": "'\tx",
    "\rx": "'\rx",
    "＝1": "'＝1",
    "-1.5": "-1.5",
    "+2": "+2",
    "-1e-5": "-1e-5",
    "-1+1": "'-1+1",
    "plain": "plain",
    "a=b": "a=b",
    "": "",
    None: "",
}


@pytest.mark.parametrize("cell", CELLS)
def test_no_cell_is_a_formula(cell: str | None):
    table = pa.table({"-own": pa.array([cell], pa.string()), "number": [-1.5]})
    head, row = csv.reader(io.StringIO(bytes(files.csv(table)).decode(), newline=""))
    assert head == ["'-own", "number"] and row == [CELLS[cell], "-1.5"]


def test_figures_and_captions(tmp_path: Path):
    made = figures.contents(tables(pd.DataFrame(records())), lambda hashes: {}, tmp_path, ("gap", "steps"))
    drawings = {path: content for path, content in made.items() if path.suffix == ".svg"}
    assert len(drawings) == 2
    for path, content in drawings.items():
        ElementTree.fromstring(content)  # well-formed
        assert not STEERING.search(content.decode()), path
    captions = made[tmp_path / "captions.md"].decode()
    assert not STEERING.search(captions) and r"\\x1b\]0;x" in captions and "[a](b)" not in captions


def test_the_page():
    text = page(tables(pd.DataFrame(records())), published())
    assert not STEERING.search(text) and text.count("</script>") == page([], published()).count("</script>")
    (data,) = re.findall(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)
    assert json.loads(data)["groups"][0]["data"] == AS_SHOWN


def test_a_comparison():
    ((group, *_),) = compare(pd.DataFrame(records()), "finetune", "lora")
    assert AS_SHOWN in heading_of(group)


def heading_of(group: dict) -> str:
    from visual_decathlon.benchmark.report.sheets import described

    return described(group)


@pytest.mark.parametrize("words", [["run", "--seeds", "\x1b[2J"], ["\x1b[2J"], ["run", "--data", "no\x1b\nsuch"]])
def test_the_command_line(words: list[str], capsys):
    try:
        code = main(words + (["--method", "feature"] if len(words) > 1 else []))
    except SystemExit as end:
        code = end.code
    err = capsys.readouterr().err
    assert code == 2 and r"\x1b" in err and err.count("\n") == 1 and not STEERING.search(err)


def test_records_that_are_left_out(capsys):
    report_left_out([Fault(Path("a\x1b[2J\n.parquet"), " is no record")])
    err = capsys.readouterr().err
    assert r"a\x1b[2J\n.parquet is no record" in err and err.count("\n") == 1


def test_a_full_memory_is_one_sentence(monkeypatch, capsys):
    def full(args) -> int:
        raise MemoryError

    monkeypatch.setattr("visual_decathlon.benchmark.cli.methods.run", full)
    assert main(["methods"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("the memory is full; ") and err.count("\n") == 1
