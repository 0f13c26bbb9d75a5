"""The jobs of a bench: pretraining a backbone, a joint training over all domains, one run.

A job has `dependencies`, describes itself and executes itself. Schedulers and engines know nothing else about it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from visual_decathlon.benchmark.config.specs import Backbone, JointTraining, Run
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.runtime.numerics import configure_torch
from visual_decathlon.benchmark.runtime.progress import Report
from visual_decathlon.datasets.errors import InputError


class Job(Protocol):
    """The interface of a job. It is pickled to reach the process that executes it."""

    key: str  # the hash of what it makes
    dependencies: frozenset[str]  # keys of the jobs that must end first; keys of no job are fulfilled already
    epochs: int
    estimated_cost: int  # images shown, approximately: for the order of jobs and the time that is left

    reads: tuple[Path, ...]  # files and folders that must exist before it
    writes: tuple[Path, ...]  # files that it makes, or folders of them, not all always; the last one finishes it
    checkpoint: Path  # of the unfinished work

    def describe(self) -> str:
        """Name the work for the screen and for messages."""

    def summary(self, result: Any) -> str:
        """Name the finished work with its result, in one line."""

    def execute(self, device: str, report: Report) -> Any:
        """Do the work in this process and return its result. Raises InputError."""


@dataclass(frozen=True)
class PretrainingJob:
    """Pretrains one backbone into the cache."""

    backbone: Backbone

    @property
    def key(self) -> str:
        """The backbone's hash."""
        return self.backbone.hash

    dependencies: frozenset[str] = field(default=frozenset(), init=False)

    @property
    def epochs(self) -> int:
        """Epochs of the pretraining."""
        return self.backbone.profile.pretrain.epochs

    @property
    def estimated_cost(self) -> int:
        """Images shown, approximately."""
        return self.backbone.estimated_cost

    @property
    def reads(self) -> tuple[Path, ...]:
        """The images."""
        return self.backbone.images.packs

    @property
    def writes(self) -> tuple[Path, ...]:
        """The backbone."""
        return (self.backbone.path,)

    @property
    def checkpoint(self) -> Path:
        """File of the unfinished pretraining."""
        return self.backbone.checkpoint

    def describe(self) -> str:
        """`pretraining the plain backbone`"""
        return f"pretraining {self._name()}"

    def summary(self, result: None) -> str:
        """`pretrained the plain backbone`"""
        return f"pretrained {self._name()}"

    def _name(self) -> str:
        wide = f" of width {self.backbone.network_profile.width:g}" if self.backbone.width_multiplier != 1 else ""
        return f"the {self.backbone.structure} backbone{wide}"

    def execute(self, device: str, report: Report) -> None:
        """Pretrain the backbone. Raises InputError which names imagenet12 and the backbone."""
        from visual_decathlon.benchmark.training.pretrain import pretrain

        configure_torch(self.backbone.profile, device)
        try:
            pretrain(self.backbone, device, report)
        except InputError as error:
            name = f"{self.backbone.images.domain.name}: pretraining the {self.backbone.structure} backbone"
            raise type(error)(f"{name}: {error}") from None


@dataclass(frozen=True)
class JointTrainingJob:
    """Trains what a method trains over all domains: their networks, or a classifier of domains."""

    joint: JointTraining

    @property
    def key(self) -> str:
        """The joint training's hash."""
        return self.joint.hash

    @property
    def dependencies(self) -> frozenset[str]:
        """The pretraining of its backbone."""
        return frozenset({self.joint.backbone.hash})

    @property
    def epochs(self) -> int:
        """Epochs of the joint training."""
        return self.joint.backbone.profile.adapt.epochs

    @property
    def estimated_cost(self) -> int:
        """Images shown, approximately."""
        return self.joint.estimated_cost

    @property
    def reads(self) -> tuple[Path, ...]:
        """The backbone, and the images of all domains."""
        return (self.joint.backbone.path, *(pack for images in self.joint.images for pack in images.packs))

    @property
    def writes(self) -> tuple[Path, ...]:
        """The weights that the domains share."""
        return (self.joint.path,)

    @property
    def checkpoint(self) -> Path:
        """File of the unfinished training."""
        return self.joint.checkpoint

    def describe(self) -> str:
        """`res_adapter_finetune_all over all domains`"""
        return f"{self._name()} over all domains"

    def summary(self, result: None) -> str:
        """The same as `describe`."""
        return self.describe()

    def _name(self) -> str:
        return self.joint.method.partition("(")[0] + ", its classifier," * self.joint.classifier

    def execute(self, device: str, report: Report) -> None:
        """Train over all domains. Raises InputError which names the method."""
        from visual_decathlon.benchmark.runs.joint import train_joint

        configure_torch(self.joint.backbone.profile, device)
        try:
            train_joint(self.joint, device, report)
        except InputError as error:
            raise type(error)(f"{self._name()}, over all domains: {error}") from None


@dataclass(frozen=True)
class RunJob:
    """Executes one run and writes its record and adapters below `results`."""

    run: Run
    results: Path
    provenance: Provenance

    @property
    def key(self) -> str:
        """The run's hash."""
        return self.run.hash

    @property
    def dependencies(self) -> frozenset[str]:
        """The pretraining of its backbone, and its trainings over all domains if it has any."""
        return frozenset({self.run.backbone.hash, *(joint.hash for joint in self.run.joint_trainings)})

    @property
    def epochs(self) -> int:
        """Epochs of the training on the domain."""
        return self.run.profile.adapt.epochs

    @property
    def estimated_cost(self) -> int:
        """Images shown, approximately."""
        return self.run.estimated_cost

    @property
    def reads(self) -> tuple[Path, ...]:
        """The backbone, the domain's images, joint trainings, and what a finished run is evaluated again from."""
        folder, run = ResultsFolder(self.results), self.run
        again = (folder.record(run.hash), folder.adapters(run.hash)) if run.finished else ()
        trained = (run.backbone.path, *(joint.path for joint in run.joint_trainings))
        return (*trained, *run.train.packs, *run.evaluate.packs, *again)

    @property
    def writes(self) -> tuple[Path, ...]:
        """The adapters, the predictions where they are asked for, the list of packages, and the record."""
        folder, hash = ResultsFolder(self.results), self.run.hash
        return folder.adapters(hash), folder.predictions(hash), folder.environments, folder.record(hash)

    @property
    def checkpoint(self) -> Path:
        """File of the unfinished run."""
        return ResultsFolder(self.results).checkpoint(self.run.hash)

    def describe(self) -> str:
        """`finetune dtd`"""
        return f"{self._name()} {self.run.domain.name}"

    def summary(self, result: dict) -> str:
        """`finetune     dtd            seed 0   55.53 %`; `result` is the record."""
        name = f"{self._name():12} {self.run.domain.name:14} seed {self.run.seed}"
        name = f"{name}  predicted" if result["top1"] is None else f"{name}  {result['top1']:6.2f} %"
        if result.get("routed") is None:
            return name
        return f"{name}  its domain recognised {100 * result['routed'] / result['eval_images']:6.2f} %"

    def _name(self) -> str:
        return self.run.method.partition("(")[0]

    def execute(self, device: str, report: Report) -> dict:
        """Train and evaluate; returns the record. Raises InputError which names the domain."""
        from visual_decathlon.benchmark.runs.execute import execute_run

        configure_torch(self.run.profile, device)
        return execute_run(self.run, self.results, self.provenance, device, report)


def jobs_for(todo: list[Run], results: Path, provenance: Provenance) -> list[Job]:
    """List the jobs of the runs `todo`.

    First each missing backbone and joint training, once, then the runs that depend on them, the longest first.
    """
    backbones = {run.backbone.hash: run.backbone for run in todo if not run.backbone.path.is_file()}
    joints = {joint.hash: joint for run in todo for joint in run.joint_trainings if not joint.path.is_file()}
    runs = {run.hash: run for run in sorted(todo, key=lambda run: -run.estimated_cost)}
    return [
        *map(PretrainingJob, backbones.values()),
        *map(JointTrainingJob, joints.values()),
        *(RunJob(run, results, provenance) for run in runs.values()),
    ]
