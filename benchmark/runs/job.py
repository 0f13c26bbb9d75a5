"""What a bench does, as jobs: pretraining a backbone, training over all domains together, one run.

A job knows what it needs, says what it does, and does it; schedulers and engines know nothing else of it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from visual_decathlon.benchmark.config.specs import Backbone, Cell, Joint
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.runtime.numerics import settle
from visual_decathlon.benchmark.runtime.progress import Report
from visual_decathlon.datasets.errors import BadInput


class Job(Protocol):
    key: str
    needs: frozenset[str]  # keys of the jobs that come before it, where they are to be done at all
    epochs: int
    work: int  # images shown, about: orders jobs and foretells their time

    def describe(self) -> str:
        """What it is doing."""

    def summary(self, result: Any) -> str:
        """What it has done."""

    def execute(self, device: str, report: Report) -> Any:
        """Do it, in this process. Raises BadInput."""


@dataclass(frozen=True)
class Pretraining:
    backbone: Backbone

    @property
    def key(self) -> str:
        return self.backbone.hash

    needs: frozenset[str] = field(default=frozenset(), init=False)

    @property
    def epochs(self) -> int:
        return self.backbone.profile.pretrain.epochs

    @property
    def work(self) -> int:
        return self.backbone.work

    def describe(self) -> str:
        return f"pretraining {self._what()}"

    def summary(self, result: None) -> str:
        return f"pretrained {self._what()}"

    def _what(self) -> str:
        wide = f" of width {self.backbone.network_profile.width:g}" if self.backbone.widen != 1 else ""
        return f"the {self.backbone.structure} backbone{wide}"

    def execute(self, device: str, report: Report) -> None:
        from visual_decathlon.benchmark.training.pretrain import pretrain

        settle(self.backbone.profile, device)
        try:
            pretrain(self.backbone, device, report)
        except BadInput as error:
            what = f"{self.backbone.images.domain.name}: pretraining the {self.backbone.structure} backbone"
            raise type(error)(f"{what}: {str(error).replace('SET=lr=', 'SET=pretrain.lr=')}") from None


@dataclass(frozen=True)
class JointTraining:
    joint: Joint

    @property
    def key(self) -> str:
        return self.joint.hash

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.joint.backbone.hash})

    @property
    def epochs(self) -> int:
        return self.joint.backbone.profile.adapt.epochs

    @property
    def work(self) -> int:
        return self.joint.work

    def describe(self) -> str:
        return f"{self._name()} over all domains"

    def summary(self, result: None) -> str:
        return self.describe()

    def _name(self) -> str:
        return self.joint.method.partition("(")[0]

    def execute(self, device: str, report: Report) -> None:
        from visual_decathlon.benchmark.runs.joint import train_together

        settle(self.joint.backbone.profile, device)
        try:
            train_together(self.joint, device, report)
        except BadInput as error:
            raise type(error)(f"{self._name()}, over all domains: {error}") from None


@dataclass(frozen=True)
class Run:
    cell: Cell
    results: Path
    provenance: Provenance

    @property
    def key(self) -> str:
        return self.cell.hash

    @property
    def needs(self) -> frozenset[str]:
        joint = {self.cell.joint.hash} if self.cell.joint is not None else set()
        return frozenset({self.cell.backbone.hash} | joint)

    @property
    def epochs(self) -> int:
        return self.cell.profile.adapt.epochs

    @property
    def work(self) -> int:
        return self.cell.work

    def describe(self) -> str:
        return f"{self._name()} {self.cell.domain.name}"

    def summary(self, result: dict) -> str:
        what = f"{self._name():12} {self.cell.domain.name:14} seed {self.cell.seed}"
        return f"{what}  predicted" if result["top1"] is None else f"{what}  {result['top1']:6.2f} %"

    def _name(self) -> str:
        return self.cell.method.partition("(")[0]

    def execute(self, device: str, report: Report) -> dict:
        from visual_decathlon.benchmark.runs.execute import run_cell

        settle(self.cell.profile, device)
        return run_cell(self.cell, self.results, self.provenance, device, report)


def jobs_for(todo: list[Cell], results: Path, provenance: Provenance) -> list[Job]:
    """Each backbone and joint training that is missing, once, then the runs that stand on them, the longest first."""
    bases = {c.backbone.hash: c.backbone for c in todo if not c.backbone.path.is_file()}
    joints = {c.joint.hash: c.joint for c in todo if c.joint is not None and not c.joint.path.is_file()}
    runs = {c.hash: c for c in sorted(todo, key=lambda cell: -cell.work)}
    return [
        *map(Pretraining, bases.values()),
        *map(JointTraining, joints.values()),
        *(Run(cell, results, provenance) for cell in runs.values()),
    ]
