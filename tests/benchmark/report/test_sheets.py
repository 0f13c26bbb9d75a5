"""Tables as text: headings, notes, marks and published rows, in Markdown and LaTeX."""

from tests.benchmark.drawn_records import SETTINGS, ten
from tests.benchmark.drawn_tables import table_of, tables_of
from visual_decathlon.benchmark.report import sheets
from visual_decathlon.benchmark.report.latex import latex
from visual_decathlon.benchmark.report.markdown import markdown
from visual_decathlon.benchmark.tables.published import published
from visual_decathlon.benchmark.tables.ranking import ranks


def test_published_rows_are_separate_and_keep_their_decimals():
    text = markdown([table_of(ten() + ten("ba2", 90.0))], sheets.table1)
    above, below = text.split(sheets.NOT_COMPARABLE)
    assert (
        "| Ba2 |" in above
        and "| BA2 (beta=1) (published) |" in below
        and "| Finetune (published) | 10 | 59.87 |" in below
    )
    row = next(row for row in published() if row.method == "ba2")
    assert sheets.published_cells(row, [])[2:4] == ["56.9", "49.9"] and sheets.published_cells(row, [])[-2:] == [
        "75.7",
        "3199",
    ]


def test_markdown_escapes_characters_that_end_a_cell():
    text = markdown([table_of(ten("f(x='a|b<i>*')"))], sheets.table1)
    line = next(line for line in text.splitlines() if "a\\|b\\<i\\>\\*" in line)
    assert line.replace("\\|", "").count("|") == len(sheets.table1(table_of(ten("f"))).head) + 1


def test_cut_and_standin_data_are_named_in_the_heading():
    assert "CUT to 5 images" in sheets.heading(table_of(ten(limit=5)))
    assert sheets.heading(table_of(ten())).startswith("Stand-in data standin-v1-seed0, split val")


def test_groups_name_their_differences_and_never_share_a_ranking():
    other = SETTINGS.replace("0.25", "0.5")
    tables = tables_of(ten() + ten("f", 90.0) + ten("g", 99.0, settings=other, split="test") + ten("g", 98.0, limit=5))
    text = markdown(tables, sheets.table1)
    reasons = [line for line in text.splitlines() if line.startswith("Not comparable")]
    first, *others = (sheets.heading(table) for table in tables)
    assert len(reasons) == len(others) == 2 and text.index(first) < text.index(others[0])
    assert {sheets.differs(table, tables[0]) for table in tables[1:]} == {
        "splits cut to 5 images",
        "split test; width=0.5",
    }
    marked = {row[0]: marks[-2] for t in tables for s in [sheets.table1(t)] for row, marks in zip(s.rows, s.marks)}
    assert marked == {"Finetune": "second", "F": "best", "G": ""}, "a single row has no best"


def test_best_and_second_are_those_of_the_printed_numbers():
    assert ranks([1.0, 3.0, 2.0, None, 3.004], 2) == ["", "best", "second", "", "best"]
    assert ranks([1.0, 3.0, 2.0], 0, largest=False) == ["best", "", "second"]
    assert ranks([2.0, 2.001], 1) == ranks([None, 1.0], 1) == ["", ""] and ranks([], 1) == []
    sheet = sheets.table1(table_of(ten() + ten("f", 90.0) + ten("g", 85.0)))
    by_name = {row[0]: marks for row, marks in zip(sheet.rows, sheet.marks, strict=True)}
    assert by_name["F"] == ["", "", "", *["best"] * 11] and by_name["G"] == ["", "", "", *["second"] * 11]
    assert by_name["Finetune"] == [""] * 14, "imagenet12 is the backbone's own result and has no best"
    text = markdown([table_of(ten() + ten("f", 90.0) + ten("g", 85.0))], sheets.table1)
    assert "| F | 2.00 | 90.00 | **90.00** |" in text and "| G | 2.00 | 85.00 | <u>85.00</u> |" in text


def test_latex_escapes_and_marks():
    text = latex([table_of(ten() + ten("f(x='a_b&c%')", 90.0))], sheets.table1)
    assert "F(x='a\\_b\\&c\\%')" in text and "\\textbf{90.00}" in text
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 1
    body = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert {line.replace("\\&", "").count("&") for line in body} == {13}
    assert "\\underline{80.00}" in text and "\\toprule" in text


def test_a_note_names_the_seeds_of_mean_and_score():
    table = table_of(ten() + ten(seed=1)[:9])
    (row,) = table.rows
    assert (row.seeds, row.complete) == (2, 1)
    assert "Mean and S are over the seeds that have all ten domains." in sheets.notes(table)
    assert not any("ten domains" in note for note in sheets.notes(table_of(ten() + ten(seed=1))))


def test_headings_and_rows_are_never_markup_or_options():
    tables = tables_of(ten("f", label="[2cm] x") + ten("g", profile="*p*\n\n# H <b>"))
    text = markdown(tables, sheets.table1)
    assert not any(line.startswith("# H") for line in text.splitlines()) and "# H \\<b\\>" in text
    lines = latex(tables, sheets.table1).splitlines()
    assert any(line.startswith("{}[2cm] x") for line in lines) and not any(line.startswith("[") for line in lines)
