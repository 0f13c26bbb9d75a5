"""What a bench does, as jobs: pretraining a backbone, training over all domains together, one run.

A job knows what it needs, says what it does, and does it; schedulers and engines know nothing else of it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from visual_decathlon.benchmark.config.specs import Backbone, JointTraining, Run
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.runtime.numerics import configure_torch
from visual_decathlon.benchmark.runtime.progress import Report
from visual_decathlon.datasets.errors import InputError


class Job(Protocol):
    key: str
    dependencies: frozenset[str]  # keys of the jobs that come before it, where they are to be done at all
    epochs: int
    estimated_cost: int  # images shown, about: orders jobs and foretells their time

    def describe(self) -> str:
        """What it is doing."""

    def summary(self, result: Any) -> str:
        """What it has done."""

    def execute(self, device: str, report: Report) -> Any:
        """Do it, in this process. Raises InputError."""


@dataclass(frozen=True)
class PretrainingJob:
    backbone: Backbone

    @property
    def key(self) -> str:
        return self.backbone.hash

    dependencies: frozenset[str] = field(default=frozenset(), init=False)

    @property
    def epochs(self) -> int:
        return self.backbone.profile.pretrain.epochs

    @property
    def estimated_cost(self) -> int:
        return self.backbone.estimated_cost

    def describe(self) -> str:
        return f"pretraining {self._what()}"

    def summary(self, result: None) -> str:
        return f"pretrained {self._what()}"

    def _what(self) -> str:
        wide = f" of width {self.backbone.network_profile.width:g}" if self.backbone.width_multiplier != 1 else ""
        return f"the {self.backbone.structure} backbone{wide}"

    def execute(self, device: str, report: Report) -> None:
        from visual_decathlon.benchmark.training.pretrain import pretrain

        configure_torch(self.backbone.profile, device)
        try:
            pretrain(self.backbone, device, report)
        except InputError as error:
            what = f"{self.backbone.images.domain.name}: pretraining the {self.backbone.structure} backbone"
            raise type(error)(f"{what}: {str(error).replace('SET=lr=', 'SET=pretrain.lr=')}") from None


@dataclass(frozen=True)
class JointTrainingJob:
    joint: JointTraining

    @property
    def key(self) -> str:
        return self.joint.hash

    @property
    def dependencies(self) -> frozenset[str]:
        return frozenset({self.joint.backbone.hash})

    @property
    def epochs(self) -> int:
        return self.joint.backbone.profile.adapt.epochs

    @property
    def estimated_cost(self) -> int:
        return self.joint.estimated_cost

    def describe(self) -> str:
        return f"{self._name()} over all domains"

    def summary(self, result: None) -> str:
        return self.describe()

    def _name(self) -> str:
        return self.joint.method.partition("(")[0]

    def execute(self, device: str, report: Report) -> None:
        from visual_decathlon.benchmark.runs.joint import train_joint

        configure_torch(self.joint.backbone.profile, device)
        try:
            train_joint(self.joint, device, report)
        except InputError as error:
            raise type(error)(f"{self._name()}, over all domains: {error}") from None


@dataclass(frozen=True)
class RunJob:
    run: Run
    results: Path
    provenance: Provenance

    @property
    def key(self) -> str:
        return self.run.hash

    @property
    def dependencies(self) -> frozenset[str]:
        joint = {self.run.joint.hash} if self.run.joint is not None else set()
        return frozenset({self.run.backbone.hash} | joint)

    @property
    def epochs(self) -> int:
        return self.run.profile.adapt.epochs

    @property
    def estimated_cost(self) -> int:
        return self.run.estimated_cost

    def describe(self) -> str:
        return f"{self._name()} {self.run.domain.name}"

    def summary(self, result: dict) -> str:
        what = f"{self._name():12} {self.run.domain.name:14} seed {self.run.seed}"
        return f"{what}  predicted" if result["top1"] is None else f"{what}  {result['top1']:6.2f} %"

    def _name(self) -> str:
        return self.run.method.partition("(")[0]

    def execute(self, device: str, report: Report) -> dict:
        from visual_decathlon.benchmark.runs.execute import execute_run

        configure_torch(self.run.profile, device)
        return execute_run(self.run, self.results, self.provenance, device, report)


def jobs_for(todo: list[Run], results: Path, provenance: Provenance) -> list[Job]:
    """Each backbone and joint training that is missing, once, then the runs that stand on them, the longest first."""
    bases = {c.backbone.hash: c.backbone for c in todo if not c.backbone.path.is_file()}
    joints = {c.joint.hash: c.joint for c in todo if c.joint is not None and not c.joint.path.is_file()}
    runs = {c.hash: c for c in sorted(todo, key=lambda run: -run.estimated_cost)}
    return [
        *map(PretrainingJob, bases.values()),
        *map(JointTrainingJob, joints.values()),
        *(RunJob(run, results, provenance) for run in runs.values()),
    ]
