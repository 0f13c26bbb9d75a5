"""The results of `make gpu` on disk: the rows of every step, rewritten with each new row."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import get_type_hints

from visual_decathlon.benchmark.perf.gpu import report
from visual_decathlon.benchmark.perf.gpu.facts import FACTS, when
from visual_decathlon.benchmark.perf.gpu.plan import PLAN, Step
from visual_decathlon.benchmark.perf.gpu.rows import Row
from visual_decathlon.benchmark.perf.store import COMMON, load_previous


class Record:
    """The rows at `path` by step. Those of an earlier run stay until their step is measured again or skipped."""

    def __init__(self, path: Path, facts: dict):
        """`facts` are the environment of the new rows."""
        self.path, self._facts = path, facts
        self._rows = load_previous(path, get_type_hints(Row) | COMMON | FACTS, "step", "steps")
        self._new: dict[str, list[dict]] = {}

    def begin(self) -> None:
        """Start a step: its rows get the current load and date."""
        self._facts = self._facts | when()

    def keep(self, step: Step, row: dict) -> None:
        """Add a row of a step and write the files at once."""
        new = self._new.setdefault(step.name, [])
        new.append(row | self._facts)
        self._rows[step.name] = new
        report.write(self.path, {each.name: self._rows[each.name] for each in PLAN if each.name in self._rows})

    def note(self, step: Step, end: str) -> None:
        """Add a row without numbers whose note is the end of the step."""
        self.keep(step, dataclasses.asdict(Row(step.name, step.name, note=end)))

    def rows(self, steps: Iterable[Step]) -> list[dict]:
        """The rows of these steps, in order."""
        return [row for step in steps for row in self._rows.get(step.name, [])]
