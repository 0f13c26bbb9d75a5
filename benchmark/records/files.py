"""Files of records below a folder. Those that cannot be read are reported and moved aside, never deleted."""

import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from visual_decathlon.benchmark.records.folder import DAMAGED, RERUNS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.text import printable


@dataclass(frozen=True)
class Fault:
    """The reason why a file, or a record in it, cannot be read."""

    path: Path
    what: str  # follows the path: " is no readable Parquet file (...)"
    remedy: str = "remove it"
    whole: bool = True  # whether nothing in the file can be read; False: its other records count

    def __str__(self) -> str:
        return f"{self.path}{self.what}"


def describe_faults(faults: Sequence[Fault], then: str = " and run again") -> str:
    """Returns one sentence on all faults with their remedy, which `then` follows."""
    texts = list(dict.fromkeys(map(str, faults)))
    remedies = list(dict.fromkeys(fault.remedy for fault in faults))
    if len(texts) > 1:
        remedies = [remedy.replace("remove it", "remove them") for remedy in remedies]
        texts[0] = f"{len(texts)} records cannot be read: {texts[0]}"
    return f"{', '.join(texts)}; {' or '.join(remedies)}{then}"


def report_left_out(faults: Sequence[Fault]) -> None:
    """Prints one sentence on stderr: these files are left out of everything that is shown."""
    if faults:
        again = "; repeat the original `make bench` to train the missing runs"
        print(f"left out, the rest counts: {printable(describe_faults(faults, again))}", file=sys.stderr)


def record_files(folder: Path, fault: Callable[[Fault], None]) -> list[Path]:
    """Returns the complete Parquet files below a folder, in the order of their paths.

    Links to folders and files are followed; each folder and file is taken once. `fault` is called for what is not a
    regular file or cannot be read.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            why = error.strerror or str(error)
            fault(Fault(Path(error.filename), f" cannot be read ({why})", "see its rights"))

    files: dict[tuple[int, int], Path] = {}
    folders: set[tuple[int, int]] = set()
    for base, below, names in os.walk(folder, onerror=refuse, followlinks=True):
        below[:] = sorted(n for n in below if n not in (RERUNS, DAMAGED) and _new(Path(base, n), folders))
        for path in (Path(base, name) for name in sorted(names) if name.endswith(".parquet") and name[0] != "."):
            try:
                seen = path.stat()
            except OSError as error:
                if path.is_symlink():  # a regular file that is gone by now was moved by another command
                    fault(Fault(path, f" is a link that leads nowhere ({error.strerror})"))
                continue
            if not stat.S_ISREG(seen.st_mode):
                fault(Fault(path, " is no plain file"))
            else:
                files.setdefault((seen.st_dev, seen.st_ino), path)
    return sorted(files.values())


def _new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Whether the folder was not visited before, by this name or another; adds it to `seen`."""
    try:
        about = folder.stat()
    except OSError:
        return True  # visiting it reports the reason
    key = (about.st_dev, about.st_ino)
    return key not in seen and not seen.add(key)


def set_aside(paths: Iterable[Path]) -> list[Path]:
    """Moves files into a folder `damaged` next to them without overwriting any; returns their new paths.

    Raises InputError where one cannot be moved.
    """
    moved = []
    for path in paths:
        place = path.parent / DAMAGED
        try:
            place.mkdir(exist_ok=True)
            to, more = place / path.name, 0
            while os.path.lexists(to):
                more += 1
                to = place / f"{path.stem}.{more}{path.suffix}"
            if path.is_symlink():  # a relative link would point elsewhere from another folder
                to.symlink_to(path.resolve())
                path.unlink()
            else:
                path.rename(to)
            moved.append(to)
        except FileNotFoundError:
            continue  # another command was faster
        except OSError as error:
            raise InputError(
                f"{path} cannot be read, nor moved to {place} ({error.strerror}); see the rights of {path.parent}"
            ) from None
    return moved
