"""Names the groups of one folder, in file names and in words: groups never share axes."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visual_decathlon.benchmark.report.figures.measures import seeds_text
from visual_decathlon.benchmark.report.sheets import differences, heading
from visual_decathlon.benchmark.tables.table1 import Table

LONGEST = 60  # characters of a file name taken from data
_NOT_IN_HEADING = ("settings", "training", "data_id")  # fields of a group


@dataclass(frozen=True)
class Group:
    """A table with the suffix of its file names ("" where it is the only one) and the line that describes it.

    `histories` has the epochs of each training by the hash of its run, of all groups.
    """

    table: Table
    suffix: str
    where: str
    histories: Mapping[str, Sequence[dict]]

    @property
    def about(self) -> str:
        """The sentence of every caption: data, split, profile and number of seeds."""
        return f"{self.where}.{drawn_text(self.table.group['standin'])}"


def drawn_text(standin: bool) -> str:
    """What captions say of stand-in data, with a blank before it; "" for real images."""
    return " Stand-ins are drawings: no score on them is one of the challenge." if standin else ""


def grouped(tables: Sequence[Table], histories: Mapping[str, Sequence[dict]]) -> list[Group]:
    """The tables as groups. File names are made of the differences, so that a single group needs none."""
    differing = [_differing(table, tables) for table in tables]
    names = [""] * len(tables)
    if len(tables) > 1:
        keys = [json.dumps(table.group, sort_keys=True, default=str) for table in tables]
        texts = ["-".join(text for _, text in parts) for parts in differing]
        names = [f"-{name}" for name in file_names(texts, keys)]
    out = []
    for table, name, parts in zip(tables, names, differing, strict=True):
        where = ", ".join([heading(table), *(text for field, text in parts if field in _NOT_IN_HEADING)])
        out.append(Group(table, name, f"{where}; {seeds_text(table.rows)}", histories))
    return out


def file_names(texts: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The texts as file names of letters, digits, points and dashes.

    An empty, too long or repeated name gets a hash of its key.
    """
    short = [re.sub(r"[^\w.]+", "-", text, flags=re.ASCII).strip("-.") for text in texts]
    count = Counter(name.lower() for name in short)  # some disks do not distinguish A from a
    out = []
    for name, key in zip(short, keys, strict=True):
        if not name or len(name) > LONGEST or count[name.lower()] > 1:
            name = f"{name[:LONGEST]}-{hashlib.sha256(key.encode()).hexdigest()[:6]}".strip("-")
        out.append(name)
    return out


def _differing(table: Table, tables: Sequence[Table]) -> list[tuple[str, str]]:
    """(field, text) of all differences from the other groups, each once.

    Settings of groups with another profile are left out: they differ everywhere.
    """
    parts: dict[tuple[str, str], None] = {}
    for other in tables:
        same_profile = other.group["profile"] == table.group["profile"]
        for field, text in differences(table, other):
            if same_profile or field != "settings":
                parts[field, text] = None
    return list(parts)
