"""What is on disk of `make gpu`: the rows of every step, written again with each one that comes."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import get_type_hints

from visual_decathlon.benchmark.perf.gpu import report
from visual_decathlon.benchmark.perf.gpu.facts import FACTS, when
from visual_decathlon.benchmark.perf.gpu.plan import PLAN, Step
from visual_decathlon.benchmark.perf.gpu.rows import Row
from visual_decathlon.benchmark.perf.store import COMMON, before


class Record:
    """The rows at `path` by step. Those of an earlier run stay until their step is measured again, or was skipped."""

    def __init__(self, path: Path, facts: dict):
        """`facts` are where the new rows are measured."""
        self.path, self._facts = path, facts
        self._found = before(path, get_type_hints(Row) | COMMON | FACTS, "step", "steps")
        self._new: dict[str, list[dict]] = {}

    def begin(self) -> None:
        """Its rows are of now."""
        self._facts = self._facts | when()

    def keep(self, step: Step, row: dict) -> None:
        """A row of a step, which is on disk at once."""
        new = self._new.setdefault(step.name, [])
        new.append(row | self._facts)
        self._found[step.name] = new
        report.write(self.path, {each.name: self._found[each.name] for each in PLAN if each.name in self._found})

    def note(self, step: Step, end: str) -> None:
        """A row without figures that says how the step ended."""
        self.keep(step, dataclasses.asdict(Row(step.name, step.name, note=end)))

    def rows(self, steps: Iterable[Step]) -> list[dict]:
        """Of these steps, in order."""
        return [row for step in steps for row in self._found.get(step.name, [])]
