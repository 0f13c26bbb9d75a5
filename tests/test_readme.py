"""The README says what there is."""

import re
from pathlib import Path

from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.methods.registry import GROUPS, entries

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_every_method_stands_with_its_family():
    table = README.split("| family |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (.*?) \|.*\| (.*?) \|$", table, re.M)
    listed = sorted((family, name) for family, names in rows for name in re.findall(r"`(\w+)`", names))
    families = {entry.name: entry.family for entry in entries()}
    assert all(families[name] == family for family, name in listed)
    committed = {record["method"] for record in read_records([ROOT / "results" / "standin"])}
    assert committed <= {name for _, name in listed} and len(set(listed)) == len(listed) >= 45


def test_every_word_for_several_methods_is_named():
    section = README.split("## Methods")[1].split("\n## ")[0]
    assert all(f"`{word}`" in section for word in ("all", *GROUPS))


def test_every_variable_of_the_readme_is_one_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    table = README.split("| variable |")[1].split("\n\n")[0]
    names = {name for cell in re.findall(r"^\| (`.*?`) \|", table, re.M) for name in re.findall(r"`([A-Z]+)`", cell)}
    assert names
    named = set(re.findall(r"option,([A-Z]+),", makefile)) | {"METHOD", "OWN", "PREDICTIONS"}
    assert names <= named
