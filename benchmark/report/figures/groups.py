"""What tells the groups of one folder apart, in a file's name and in words: groups never share axes."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visual_decathlon.benchmark.report.figures.measures import seeds_text
from visual_decathlon.benchmark.report.sheets import differs, heading
from visual_decathlon.benchmark.tables.table1 import Table

LONGEST = 60  # of a name taken from data, in letters


@dataclass(frozen=True)
class Group:
    """A table with the ending of its files' names ("" where it is alone) and the line that says what it is.

    `histories` has the rows of each training by hash of its run, of all groups.
    """

    table: Table
    suffix: str
    where: str
    histories: Mapping[str, Sequence[dict]]

    @property
    def about(self) -> str:
        """The sentence of every caption: data, split, profile and number of seeds."""
        drawn = " Stand-ins are drawings: no score on them is one of the challenge." * self.table.group["standin"]
        return f"{self.where}.{drawn}"


def grouped(tables: Sequence[Table], histories: Mapping[str, Sequence[dict]]) -> list[Group]:
    """Names are made of what differs, so that one group alone needs none."""
    apart = [_apart(table, tables) for table in tables]
    names = [""] * len(tables)
    if len(tables) > 1:
        keys = [json.dumps(table.group, sort_keys=True, default=str) for table in tables]
        names = [f"-{name}" for name in file_names(["-".join(parts) for parts in apart], keys)]
    out = []
    for table, name, parts in zip(tables, names, apart, strict=True):
        unsaid = [part for part in parts if "=" in part or part.startswith(("training", "other"))]
        where = ", ".join([heading(table), *unsaid])
        out.append(Group(table, name, f"{where}; {seeds_text(table.rows)}", histories))
    return out


def file_names(texts: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Letters, digits, points and dashes; where one is empty, too long or another's, with a hash of its key."""
    short = [re.sub(r"[^\w.]+", "-", text, flags=re.ASCII).strip("-.") for text in texts]
    often = Counter(name.lower() for name in short)  # a disk may not tell A from a
    out = []
    for name, key in zip(short, keys, strict=True):
        if not name or len(name) > LONGEST or often[name.lower()] > 1:
            name = f"{name[:LONGEST]}-{hashlib.sha256(key.encode()).hexdigest()[:6]}".strip("-")
        out.append(name)
    return out


def _apart(table: Table, tables: Sequence[Table]) -> list[str]:
    """What sets the group apart from any of the others; settings of another profile differ all over and go unnamed."""
    found: dict[str, None] = {}
    for other in tables:
        same = other.group["profile"] == table.group["profile"]
        for part in differs(table, other).split("; "):
            if part and (same or "=" not in part):
                found[part] = None
    return list(found)
