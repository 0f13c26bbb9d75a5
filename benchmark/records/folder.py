"""Every path below a results folder, spelled once."""

import re
from dataclasses import dataclass
from pathlib import Path

RERUNS = "reruns"
"""Folder of runs that `make bench RERUN=` repeated: its records are read only where the folder itself is named."""

DAMAGED = "damaged"
"""Folder for files that cannot be read, next to where they were: likewise."""


@dataclass(frozen=True)
class ResultsFolder:
    """A results folder, as RESULTS= names it. Nothing is created or read here: these are paths alone."""

    path: Path

    @property
    def records(self) -> Path:
        """Folder of the records of runs."""
        return self.path / "records"

    def record(self, hash: str) -> Path:
        """Record of the run with this hash."""
        return self.records / record_name(hash)

    def adapters(self, hash: str) -> Path:
        """Tensors that the run stores for its domain: adapters, head, statistics."""
        return self.path / "adapters" / f"{hash}.safetensors"

    @property
    def environments(self) -> Path:
        """Folder of the lists of installed packages."""
        return self.path / "environments"

    def environment(self, digest: str) -> Path:
        """The list of the packages of an environment."""
        return self.environments / f"{digest}.txt"

    @property
    def unfinished(self) -> Path:
        """Folder of the checkpoints of runs that are not finished."""
        return self.path / "unfinished"

    def checkpoint(self, hash: str) -> Path:
        """Checkpoint of a run that is not finished."""
        return self.unfinished / f"{hash}.safetensors"

    @property
    def predictions_folder(self) -> Path:
        """Folder of the predictions of runs."""
        return self.path / "predictions"

    def predictions(self, hash: str) -> Path:
        """Predictions of the run, one row an image."""
        return self.predictions_folder / f"{hash}.parquet"

    @property
    def reruns(self) -> Path:
        """Results folder of runs that were repeated."""
        return self.path / RERUNS

    @property
    def backbones(self) -> Path:
        """Folder of the backbones that are shipped next to records."""
        return self.path / "backbones"

    def table(self, name: str, suffix: str = "parquet") -> Path:
        """A table of all records, or of measurements: `table1.csv`, `sweep.md`, `perf.parquet`."""
        return self.path / f"{name}.{suffix}"

    @property
    def figures(self) -> Path:
        """Folder of the figures and their captions."""
        return self.path / "figures"

    @property
    def leaderboard(self) -> Path:
        """The page with all tables."""
        return self.path / "leaderboard.html"

    @property
    def submission(self) -> Path:
        """The ZIP for the challenge."""
        return self.path / "results.zip"

    @property
    def written_folders(self) -> tuple[Path, ...]:
        """Every folder that a command writes files to: a killed command may leave temporary files in each."""
        names = ("adapters", "figures/curves")
        return (
            self.path,
            self.records,
            self.unfinished,
            self.predictions_folder,
            self.environments,
            self.figures,
            *(self.path / name for name in names),
        )


def record_name(hash: str) -> str:
    """File name of a run's record."""
    return f"{hash}.parquet"


def is_record_path(path: Path) -> bool:
    """Whether a file is where a run's own record is: `records/<hash>.parquet`."""
    return path.parent.name == "records" and re.fullmatch(r"[0-9a-f]{16}\.parquet", path.name) is not None
