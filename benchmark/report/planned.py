"""The plan of a bench as a table on the screen."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class PlannedMethod:
    """The runs of one method: how many, how many of them are finished, the seconds of the others (None: unknown)."""

    method: str
    runs: int
    finished: int
    seconds: float | None


@dataclass(frozen=True)
class Planned:
    """What a bench would do: its methods, what is made first, and what all of it takes."""

    methods: list[PlannedMethod]
    first: list[str]
    again: int  # finished runs that are evaluated again for their predictions
    workers: int
    seconds: float | None  # on so many workers
    one_after_the_other: float | None
    of_other_machines: bool  # whether the times are those of other machines
    memory_mb: float | None  # of one worker
    disk_bytes: float | None

    def show(self, console: Console) -> None:
        """Print it."""
        table = Table(header_style="bold", title="Plan; nothing is written", title_justify="left")
        for name in ("method", "runs", "finished", "to run", "time of one worker"):
            table.add_column(name, justify="left" if name == "method" else "right", no_wrap=name != "method")
        for row in self.methods:
            left = row.runs - row.finished
            table.add_row(row.method, *map(str, (row.runs, row.finished, left)), duration(row.seconds) if left else "")
        console.print(table)
        if self.first:
            console.print(f"First: {'; '.join(self.first)}.")
        if self.again:
            console.print(f"Evaluated again for their predictions, not trained: {self.again} of the finished runs.")
        if not sum(row.runs - row.finished for row in self.methods):
            if not self.again:
                console.print("Every run is finished: the bench would only make the tables.")
            return
        source = "records of other machines" if self.of_other_machines else "like records of this machine"
        if self.seconds is None:
            console.print("Time of the runs: unknown, as no record has this network on such a device.")
        else:
            workers = f"{self.workers} workers" if self.workers > 1 else "one worker"
            alone = f", {duration(self.one_after_the_other)} with one" if self.workers > 1 else ""
            console.print(f"Time of the runs: {duration(self.seconds)} with {workers}{alone}, by {source}.")
        memory = "unknown" if self.memory_mb is None else f"about {self.workers * self.memory_mb / 1000:.1f} GB"
        disk = "unknown" if self.disk_bytes is None else f"about {self.disk_bytes / 1e6:,.0f} MB"
        console.print(f"Memory: {memory}. Disk: {disk}.")


def duration(seconds: float | None) -> str:
    """`about 40 s`, `about 12 min`, `about 3.5 h`; `unknown`."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
