"""The leaderboard page: the content of the file; in headless Chromium sorting, filters, details and layout."""

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.benchmark.report.chromium import needs_chromium
from visual_decathlon.benchmark.records.store import read_frame
from visual_decathlon.benchmark.report.leaderboard.page import page
from visual_decathlon.benchmark.tables.published import published
from visual_decathlon.benchmark.tables.table1 import Table, tables
from visual_decathlon.datasets.catalogue import DOMAINS

ROOT = Path(__file__).parents[3]
EVIL = "</script><img src=x onerror=alert(1)>"


def changed(frame: pd.DataFrame, mark: str, **columns) -> pd.DataFrame:
    """Records with other values and hashes of their own."""
    return frame.astype(dict.fromkeys(columns, object)).assign(**columns, hash=mark + frame["hash"].str[1:])


SIX = ("feature", "scratch", "bn_adapt", "res_adapter", "par_adapter", "finetune")


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    """The committed records of six methods over three seeds, as if made by one command."""
    frame = read_frame([ROOT / "results" / "standin"])
    frame = frame[frame["method"].isin(SIX)].reset_index(drop=True)
    same = {name: frame[name].iloc[0] for name in ("command", "commit", "versions", "machine")}
    return frame.astype(dict.fromkeys(same, object)).assign(**same)


@pytest.fixture(scope="module")
def three(shipped: pd.DataFrame) -> list[Table]:
    """Three groups: stand-ins; the same as a release, with a row of nine domains and markup in its names; a cut run."""
    real = changed(shipped, "r", split="test", data="decathlon-1.0", data_id="abc", standin=False, profile="decathlon")
    evil = real[(real["method"] == "res_adapter") & (real["domain"] != "svhn")]
    evil = changed(evil, "e", method=f"res_adapter(x='{EVIL}')", label=EVIL, family=EVIL, command=EVIL)
    cut = changed(shipped[shipped["domain"] == "dtd"], "c", limit=20)
    return tables(pd.concat([shipped, real, evil, cut], ignore_index=True))


def many(shipped: pd.DataFrame, rows: int) -> list[Table]:
    """`rows` rows of ten domains, drawn around those of one method."""
    rng = np.random.default_rng(0)
    base = shipped[(shipped["method"] == "par_adapter") & (shipped["seed"] == 0)]
    row = np.repeat(np.arange(rows), len(base))
    frame = pd.concat([base] * rows, ignore_index=True).assign(
        method=[f"lora(rank={i})" for i in row],
        hash=[f"{i:016x}" for i in range(len(row))],
        family=np.array(["low rank", "masks"])[row % 2],
        multiplier=1 + 10 * rng.random(rows)[row] ** 2,
    )
    frame["top1"] = (frame["top1"] - 10 * rng.random(rows)[row] + rng.normal(0, 1, len(row))).clip(0, 100)
    return tables(pd.concat([frame, shipped[shipped["method"] == "finetune"]], ignore_index=True))


def embedded(text: str) -> dict:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(data)


def test_the_same_tables_give_the_same_bytes(shipped):
    assert page(tables(shipped), published()) == page(tables(shipped.copy()), published())


def test_markup_in_a_name_is_data(three):
    text = page(three, published())
    assert text.count("</script>") == 2 and "<img" not in text
    labels = [row["label"] for group in embedded(text)["groups"] for row in group["rows"]]
    assert any(EVIL in label for label in labels)


def test_the_file_needs_nothing_else(three):
    text = page(three, published())
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert str(ROOT) not in text
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'" in policy


def test_rows_lead_back_to_their_records(shipped):
    data = embedded(page(tables(shipped), published()))
    (group,) = data["groups"]
    assert sum(len(row["runs"]) for row in group["rows"]) == len(shipped)
    by_hash = shipped.set_index("hash")
    for row in group["rows"]:
        for domain, seed, top1, name, created, origin, images in row["runs"]:
            record = by_hash.loc[name]
            assert (row["method"], domain, seed, created) == tuple(record[["method", "domain", "seed", "created"]])
            assert top1 == pytest.approx(record["top1"], abs=1e-4)
            for field, value in data["origins"][origin].items():
                assert value == record[field]
            assert data["images"][images][:2] == list(record[["train_manifest", "eval_manifest"]])


def test_each_group_names_its_differences(three):
    groups = embedded(page(three, published()))["groups"]
    assert [(g["standin"], g["limit"] is not None) for g in groups] == [(False, False), (True, False), (True, True)]
    assert groups[0]["apart"] == "" and "20 images" in groups[2]["apart"]
    for text in ("standin-v1-seed0", "split val", "profile standin"):
        assert text in groups[1]["apart"]


def test_missing_values_are_empty(three):
    row = next(row for row in embedded(page(three, published()))["groups"][0]["rows"] if EVIL in row["label"])
    assert row["ten"] == 9 and row["mean"] is None and row["S"] is None
    assert row["cells"][list(DOMAINS).index("svhn")] is None


def column(tab, name: str) -> list[str]:
    """The cells of a column, without deviation and mark."""
    heads = [text.split("\n")[0].strip(" ↑↓") for text in tab.locator("#table > thead th").all_inner_texts()]
    cells = tab.locator(f"#table > tbody > tr:not(.detail) > :nth-child({heads.index(name) + 1})")
    return [text.split("\n")[0] for text in cells.all_inner_texts()]


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.replace(",", "")) for cell in cells if cell]


@needs_chromium
def test_every_column_sorts_both_ways(opened, three):
    tab = opened(three)
    for head in tab.locator("#table > thead th").all():
        name = head.inner_text().split("\n")[0].strip(" ↑↓")
        for _ in range(2):
            head.get_by_role("button").click()
            rises = head.get_attribute("aria-sort") == "ascending"
            assert tab.locator("#table > thead th[aria-sort$=ending]").count() == 1
            cells = column(tab, name)
            assert len(cells) == len(three[0].rows)
            if name == "Model":
                assert cells == sorted(cells, key=str.lower, reverse=not rises)
            elif name == "n/10":
                assert cells == sorted(cells, key=lambda c: int(c.split("/")[0]), reverse=not rises)
            else:
                values = numbers(cells)
                assert values == sorted(values, reverse=not rises)
                assert "" not in cells[: len(values)], "missing values come last in both orders"


@needs_chromium
def test_filters_narrow_rows_and_groups(opened, three):
    tab = opened(three)
    whole = len(column(tab, "Model"))
    tab.get_by_label("Search").fill("ADAPT batch")
    assert column(tab, "Model") == ["BN adapt."]
    tab.get_by_role("button", name="Clear the filter").click()
    tab.locator("#table > tbody > tr:not(.detail)").nth(whole - 1).wait_for()  # the form empties first, the rows follow
    assert len(column(tab, "Model")) == whole
    tab.locator("#family").select_option("own network")
    assert sorted(column(tab, "Model")) == ["Finetune", "Scratch"]
    tab.get_by_label("#par. at most").fill("5")
    assert column(tab, "Model") == []
    assert "None of" in tab.locator("#status").inner_text()
    tab.locator("#family").select_option("")
    assert 0 < len(column(tab, "Model")) < whole and max(numbers(column(tab, "#par."))) <= 5
    tab.locator("#data-set").select_option("standin-v1-seed0")
    assert "Stand-in data" in tab.locator("h2").inner_text() and tab.locator("#standin").is_visible()
    assert tab.locator("#groups label:visible").count() == 2
    tab.locator("#profile").select_option("decathlon")
    assert tab.locator("#group").is_hidden() and "No group" in tab.locator("#nothing").inner_text()


@needs_chromium
def test_groups_never_share_a_ranking(opened, three):
    tab = opened(three)
    assert tab.locator("#standin").is_hidden() and tab.locator("#apart").is_visible()
    assert len(column(tab, "Model")) == 7
    tab.get_by_role("radio").nth(2).check()
    assert "not comparable with the first group" in tab.locator("#apart").inner_text()
    assert "CUT" in tab.locator("h2").inner_text() and tab.locator("#cut").is_visible()
    assert set(column(tab, "n/10")) == {"1/10"} and set(column(tab, "S")) == set(column(tab, "mean")) == {""}
    assert "No point" in tab.locator("#plot-caption").inner_text() and tab.locator("#plot svg").count() == 0


@needs_chromium
def test_best_and_second_are_of_the_group_independent_of_filters(opened, shipped):
    (table,) = tables(shipped)
    tab = opened([table])
    scores = sorted({round(row.S.mean) for row in table.rows}, reverse=True)
    for mark, score in zip(("best", "second"), scores):
        cells = tab.locator(f"#table > tbody td:nth-child(2).{mark} > span:first-child")
        assert cells.all_inner_texts() == [f"{score:,.0f}"]
    weight = "e => [getComputedStyle(e).fontWeight, getComputedStyle(e.firstChild).textDecorationLine]"
    assert tab.locator("td.best").first.evaluate(weight) == ["700", "none"]
    assert tab.locator("td.second").first.evaluate(weight) == ["400", "underline"]
    best = max(table.rows, key=lambda row: row.S.mean)
    tab.get_by_label("#par. at most").fill(str(best.multiplier - 1))
    assert tab.locator("#table > tbody td:nth-child(2).best").count() == 0


@needs_chromium
def test_a_row_opens_to_its_runs_by_keyboard(opened, shipped):
    (table,) = tables(shipped)
    tab = opened([table])
    button = tab.get_by_role("button", name="BN adapt.").last
    button.focus()
    assert button.evaluate("e => e.matches(':focus-visible') && getComputedStyle(e).outlineStyle") == "solid"
    tab.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    sheet = tab.locator(".detail").inner_text()
    mine = table.runs[table.runs["method"] == "bn_adapt"]
    for text in (*mine["hash"], *mine["domain"], *mine["eval_manifest"], *mine["backbone"], *mine["commit"]):
        assert text in sheet
    for text in (*mine["machine"], *mine["command"], f"torch {json.loads(mine['versions'].iloc[0])['torch']}"):
        assert text in sheet
    tab.keyboard.press("Tab")
    tab.keyboard.press("Tab")  # past the table, which scrolls by keyboard
    assert tab.evaluate("document.activeElement.textContent") in set(mine["hash"])
    tab.keyboard.press("Enter")
    tab.locator("#copied", has_text="RERUN=").or_(tab.locator("#copied", has_text="Selected")).wait_for(
        state="attached"
    )
    button.focus()
    tab.keyboard.press("Space")
    assert button.get_attribute("aria-expanded") == "false" and tab.locator(".detail").count() == 0


@needs_chromium
def test_a_method_is_compared_over_backbones(opened, shipped):
    """Each beside fine-tuning on the same backbone; a backbone without the method has no line."""
    settings = json.loads(shipped["settings"].iloc[0]) | {"network": "timm/other", "width": 1.0}
    kept = shipped[shipped["method"].isin(["bn_adapt", "finetune"])]
    other = changed(kept, "b", profile="own", settings=json.dumps(settings))
    worse = other["method"] == "bn_adapt"
    other.loc[worse, "top1"] = other.loc[worse, "top1"] * 0.5
    both = tables(pd.concat([shipped, other], ignore_index=True))
    tab = opened(both)
    tab.get_by_role("button", name="BN adapt.").last.click()
    lines = tab.locator(".detail [aria-label='Backbones of BN adapt.'] tbody tr")
    shown = {cells[0]: cells[1:] for cells in (line.split("\t") for line in lines.all_inner_texts())}
    means = {table.group["profile"]: {row.method: row.mean.mean for row in table.rows if row.mean} for table in both}
    assert {place: cells[-1] for place, cells in shown.items()} == {
        place: f"{means[name]['bn_adapt'] - means[name]['finetune']:+.1f}".replace("-", "−")
        for place, name in (("resnet26, width 0.25, 32 px", "standin"), ("timm/other, 32 px", "own"))
    }
    tab.get_by_role("button", name="Feature extractor").last.click()
    assert tab.locator("[aria-label='Backbones of Feature extractor']").count() == 0
    tab.locator("#backbone").select_option("timm/other, 32 px")
    assert sorted(column(tab, "Model")) == ["BN adapt.", "Finetune"]


@needs_chromium
def test_an_open_row_stays_open_where_it_is_sorted_to(opened, shipped):
    tab = opened(tables(shipped))
    tab.get_by_role("button", name="BN adapt.").last.click()
    tab.locator("#table > thead button").first.click()
    before = tab.locator(".detail").locator("xpath=preceding-sibling::tr[1]")
    assert tab.locator(".detail").count() == 1 and before.inner_text().startswith("BN adapt.")


@needs_chromium
def test_the_plot_follows_the_filter(opened, shipped):
    (table,) = tables(shipped)
    tab = opened([table])
    rows = sorted(table.rows, key=lambda row: (row.multiplier, -row.S.mean))
    front = [r.label for i, r in enumerate(rows) if all(r.S.mean > other.S.mean for other in rows[:i])]
    assert tab.locator("#front button").all_inner_texts() == front
    assert "of 6 rows" in tab.locator("#plot-caption").inner_text()
    assert "never a score of the challenge" in tab.locator("#plot-caption").inner_text()
    assert tab.get_by_role("img").count() == 1
    tab.get_by_label("Search").fill("res. adapt")
    assert "of 2 rows" in tab.locator("#plot-caption").inner_text()
    assert set(tab.locator("#front button").all_inner_texts()) <= {"Res. adapt.", "Parallel res. adapt."}
    tab.locator("#front button").first.click()
    assert tab.locator(".detail").count() == 1
    assert tab.evaluate("document.activeElement.ariaExpanded") == "true"


@needs_chromium
def test_published_points_are_off_where_they_are_not_comparable(opened, shipped):
    tab = opened(tables(shipped))
    box = tab.locator("#show-published")
    assert not box.is_checked() and tab.locator("#plot .hollow").count() == 0
    assert "not comparable" in tab.locator("#published-label").inner_text()
    box.check()
    shown = [row for row in published() if row.params and row.S is not None]
    assert tab.locator("#plot .hollow").count() == len(shown)
    assert f"{len(shown)} rows as published, on the real test split" in tab.locator("#plot-caption").inner_text()
    tab.get_by_label("#par. at most").fill("1.2")
    assert 0 < tab.locator("#plot .hollow").count() < len(shown)


@needs_chromium
def test_published_points_are_on_where_they_are_comparable(opened, shipped):
    real = changed(shipped, "r", split="test", standin=False, data="decathlon-1.0", data_id="abc")
    real["eval_images"] = [DOMAINS[name].counts[2] for name in real["domain"]]
    tab = opened(tables(real))
    assert tab.locator("#show-published").is_checked() and tab.locator("#plot .hollow").count() > 0
    assert "comparable" not in tab.locator("#pareto").inner_text()


@needs_chromium
def test_without_a_baseline_the_plot_shows_the_mean_with_a_note(opened, shipped):
    others = shipped[shipped["method"] != "finetune"]
    own = changed(others[others["domain"] == "dtd"], "o", domain="birds", column="birds", k=0)
    tab = opened(tables(pd.concat([others, own], ignore_index=True)))
    assert set(column(tab, "S")) == {""} and "" not in column(tab, "mean") and "" not in column(tab, "birds")
    caption = tab.locator("#plot-caption").inner_text()
    assert caption.startswith("Mean top-1 against #par.") and "The mean stands in for S" in caption
    assert tab.locator("#front li").count() > 1


@needs_chromium
def test_markup_in_a_name_stays_text(opened, three):
    tab = opened(three)
    button = tab.locator("#table > tbody th button", has_text=EVIL)
    assert EVIL in button.inner_text()
    button.click()
    assert tab.locator(".command code").inner_text() == EVIL
    tab.locator("#family").select_option(EVIL)
    assert tab.locator("img, b").count() == 0 and len(column(tab, "Model")) == 1


@needs_chromium
def test_dark_by_the_system_and_by_the_button(opened, shipped):
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    groups = tables(shipped)
    light, dark = (opened(groups, color_scheme=scheme) for scheme in ("light", "dark"))
    white, black = light.evaluate(paper), dark.evaluate(paper)
    assert white == "rgb(255, 255, 255)" and white != black
    dark.get_by_role("button", name="Light theme").click()
    assert dark.evaluate(paper) == white
    dark.reload()
    assert dark.evaluate(paper) == white, "it is remembered"
    dark.get_by_role("button", name="Dark theme").click()
    assert dark.evaluate(paper) == black


@needs_chromium
def test_on_a_phone_the_table_scrolls_next_to_its_names(opened, shipped):
    tab = opened(tables(shipped), viewport={"width": 390, "height": 844})
    tab.locator("#table > tbody th button").first.click()
    assert tab.evaluate("document.documentElement.scrollWidth") == 390, "the page itself does not scroll sideways"
    name = tab.locator("#table > tbody > tr > th").nth(1)
    before = name.bounding_box()
    tab.locator("#scroll").evaluate("e => { e.scrollLeft = e.scrollWidth }")
    last = tab.locator("#table > tbody > tr:not(.detail) > td:last-child").nth(1).bounding_box()
    assert name.bounding_box()["x"] == before["x"] and before["x"] >= 0
    assert before["x"] + before["width"] <= last["x"] and last["x"] + last["width"] <= 390
    assert tab.locator(".sheet").bounding_box()["width"] <= 390


@pytest.mark.slow
@needs_chromium
def test_five_thousand_rows_stay_smooth(opened, shipped):
    """The cost of an action grows with the elements it creates: those of one page of rows, not of all."""
    tab = opened(many(shipped, 5000))
    assert "5,001 of 5,001 rows" in tab.locator("#status").inner_text()
    assert tab.locator("*").count() < 6000
    made = tab.evaluate("""async () => {
        let added = 0;
        const watch = new MutationObserver((all) => { for (const one of all) added += one.addedNodes.length; });
        watch.observe(document.body, { childList: true, subtree: true });
        const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        const count = async (act) => { await frame(); added = 0; act(); await frame(); return added; };
        const query = document.getElementById("query");
        const search = (text) => { query.value = text; query.dispatchEvent(new Event("input", { bubbles: true })); };
        const heads = [...document.querySelectorAll("#table > thead button")];
        return {
            sort: await count(() => heads[5].click()), filter: await count(() => search("masks 42")),
            clear: await count(() => search("")), turn: await count(() => document.getElementById("after").click()),
        };
    }""")
    assert all(0 < n < 6000 for n in made.values()), made
    assert column(tab, "Model")[0] not in ("", None) and "101 to 200" in tab.locator("#page").inner_text()
