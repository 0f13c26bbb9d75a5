"""The READMEs name what there is: short enough, links lead to files, commands are those of the Makefile."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tests.test_rooms import FLOORS, imports
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.methods.registry import GROUPS, entries

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    name: (ROOT / name).read_text()
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGES.md",
        "benchmark/README.md",
        "datasets/README.md",
        "methods/README.md",
        "results/README.md",
        "results/perf.md",
    )
}
SETTINGS = PAGES["benchmark/README.md"]
MAKEFILE = (ROOT / "Makefile").read_text()


def variable(name: str) -> list[str]:
    """The words of a variable of the Makefile, others in it replaced by their words."""
    text = re.search(rf"^{name} =(.*)$", MAKEFILE, re.M)[1]
    return [word for part in text.split() for word in (variable(part[2:-1]) if part.startswith("$(") else [part])]


TARGETS = variable("targets")
READS = {target: {"PYTHON", *variable(f"reads_{target}")} for target in TARGETS}


def blocks(page: str) -> list[str]:
    """The code blocks of a page that are no program or file: those without a language."""
    every = re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], re.M | re.S)
    return [block for language, block in every if not language]


def commands(page: str) -> list[list[str]]:
    """Words of every make command of the page's code blocks."""
    lines = [line for block in blocks(page) for line in block.splitlines() if line.startswith("make ")]
    return [shlex.split(line, comments=True) for line in lines]


def anchors(text: str) -> set[str]:
    """The names by which links reach the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def drawing(page: str) -> list[set[str]]:
    """The names on each floor of the drawing under "Rooms": what stands in the columns before the explanations."""
    block = PAGES[page].split("## Rooms")[1].split("```\n")[1]
    floors = re.split(r"^ \|\n v\n", block, flags=re.M)
    lines = [[re.split(r" {4,}", line.rstrip())[0] for line in floor.splitlines()] for floor in floors]
    return [{name.strip("/") for line in floor for name in line.split()} for floor in lines]


def test_the_readme_is_short():
    assert len(PAGES["README.md"].split()) < 1500


def test_commands_are_read_from_the_pages():
    assert ["make", "bench", "METHOD=res_adapter"] in commands("README.md")
    assert ["make", "test"] in commands("methods/README.md")
    assert all(commands(page) for page in PAGES if page not in ("CHANGES.md", "results/perf.md"))


def test_every_readme_is_checked_here():
    folders = [ROOT / top for top in ("benchmark", "datasets", "methods", "results")]
    files = [file for folder in folders for file in folder.rglob("README.md")]
    kept = {f.relative_to(ROOT).as_posix() for f in files if not f.is_relative_to(ROOT / "results" / "runs")}
    assert kept <= PAGES.keys()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str):
    links = re.findall(r"\]\(([^)\s]+)\)", PAGES[page])
    for link in links:
        path, _, anchor = link.partition("#")
        if path.startswith("https://"):
            continue
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.resolve().is_relative_to(ROOT) and file.exists(), link
        if anchor:
            assert anchor in anchors(file.read_text()), link


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_the_text_are_there(page: str):
    """Those that begin with a folder of the repository and end as a file of it does."""
    for path in re.findall(r"`((?:benchmark|datasets|methods|results|tests)/[\w/.-]+\.(?:py|md|csv))`", PAGES[page]):
        assert (ROOT / path).exists() or path in made_up(page), path


def made_up(page: str) -> set[str]:
    """Files that the commands or the example of a page make."""
    if page == "methods/README.md":
        return {"methods/gain.py", "methods/layers/gain.py"}
    return {"results/perf/gpu.md"}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one_of_the_makefile(page: str):
    inline = [shlex.split(text) for text in re.findall(r"`(make [^`]*)`", PAGES[page])]
    for words in commands(page) + inline:
        named = [word for word in words[1:] if "=" not in word]
        assert named and set(named) <= {*TARGETS, "TARGET"}, words
        reads = set().union(*(READS.get(target, set()) for target in named))
        given = {word.partition("=")[0] for word in words[1:] if "=" in word}
        assert given <= reads, (words, given - reads)


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_is_one_of_the_makefile(page: str):
    names = set(re.findall(r"`([A-Z][A-Z_]*)=", PAGES[page]))
    assert names <= set().union(*READS.values())


@pytest.mark.parametrize("page", PAGES)
def test_make_takes_every_command(page: str):
    """Make itself refuses a target or a variable that it does not know."""
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    # Without what a make around the tests put there.
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    for words in commands(page):
        done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_is_one_of_a_profile(page: str):
    given = [word.removeprefix("SET=") for words in commands(page) for word in words if word.startswith("SET=")]
    inline = re.findall(r"`SET=([\w.]+=\w+)`", PAGES[page])
    for setting in " ".join([*given, *inline]).split():
        profile("standin", [setting])


def test_the_settings_table_has_every_setting():
    table = SETTINGS.split("| setting |")[1].split("\n\n")[0]
    names = {name for cell in re.findall(r"^\| (`.*?`) \|", table, re.M) for name in re.findall(r"`(\w+)`", cell)}
    assert names == set(variable("settings"))


def test_the_drawing_of_the_rooms_of_benchmark():
    assert drawing("benchmark/README.md")[:-1] == [set(floor) for floor in FLOORS[:-2]]
    assert drawing("benchmark/README.md")[-1] == {"../methods", "->", "../datasets"}


def test_the_drawing_of_the_files_of_datasets():
    """It has every file, and none uses one on a floor above."""
    floors = drawing("datasets/README.md")
    floor = {name: number for number, names in enumerate(floors) for name in names}
    there = {f.stem for f in (ROOT / "datasets").glob("*.py")} - {"__init__", "old_names"}
    assert floor.keys() == there | {"standin"}
    for module, others in imports().items():
        parts = [name.split(".")[2] for name in (module, *others) if name.count(".") > 1 and ".datasets." in name]
        if ".datasets." in module and parts[0] in floor:
            assert all(floor[other] >= floor[parts[0]] for other in parts[1:] if other in floor), module


def test_every_method_is_listed_with_its_family():
    table = SETTINGS.split("| family |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (.*?) \|.*\| (.*?) \|$", table, re.M)
    listed = sorted((family, name) for family, names in rows for name in re.findall(r"`(\w+)`", names))
    families = {entry.name: entry.family for entry in entries()}
    assert all(families[name] == family for family, name in listed)
    committed = {record["method"] for record in read_records([ROOT / "results" / "standin"])}
    assert committed <= {name for _, name in listed} and len(set(listed)) == len(listed) >= 45


def test_the_readme_counts_the_methods():
    own = [entry for entry in entries() if entry.__module__.startswith("visual_decathlon.methods.")]
    families = {entry.family for entry in own}
    assert f"has {len(own)} methods in {len(families)} families" in " ".join(PAGES["README.md"].split())


def test_every_word_for_several_methods_is_named():
    section = SETTINGS.split("## Methods")[1].split("\n## ")[0]
    assert all(f"`{word}`" in section for word in ("all", *GROUPS))


def test_every_variable_of_the_table_is_one_of_make_bench():
    table = SETTINGS.split("| variable |")[1].split("\n\n")[0]
    names = {name for cell in re.findall(r"^\| (`.*?`) \|", table, re.M) for name in re.findall(r"`([A-Z_]+)`", cell)}
    assert names | {"RERUN", "PYTHON"} == READS["bench"]


def test_every_target_is_in_the_table_of_commands():
    table = SETTINGS.split("| make |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `make (\w+)", table, re.M)) == set(TARGETS)


def test_the_rank_correlation_with_the_published_rows():
    ours = pd.read_parquet(ROOT / "results" / "standin" / "table1.parquet")[["method", "mean"]]
    published = pd.read_csv(ROOT / "results" / "published" / "published.csv")
    both = ours.merge(published[published["table"] == "table1"][["method", "mean"]], on="method")
    correlation = both["mean_x"].corr(both["mean_y"], method="spearman")
    assert len(both) == 11 and f"rank correlation of {correlation:.2f}" in PAGES["results/README.md"]
