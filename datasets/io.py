"""The one durable writer of files and folders, its temporary names, and the sweeping of what killed commands left.

What is written is first whole under a temporary name beside its place, its bytes are on the disk (fsync) before
the rename, and the rename is on the disk after: neither a reader, nor a killed command, nor a power cut sees half
of it, or an empty file under a final name.
"""

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets.errors import BadInput

LEFT = 24 * 3600  # s without a change: then what a command elsewhere was writing is taken for left behind
_FEW = 64  # files synced one by one; more cost minutes (a commit of the journal each), and the whole disk is synced

# Some network file systems and pipes know no fsync: there is no more to be done for the data.
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS}


def write_bytes(content: Any, path: Path, named: str = "RESULTS") -> Path:
    """Write one file, whole and durable or not at all; `content` is bytes or any buffer, or a list of these.

    `named` is the variable that names the place. Raises BadInput where it cannot be written.
    """
    return write_all({path: content}, named)[0]


def write_all(contents: Mapping[Path, Any], named: str = "RESULTS") -> list[Path]:
    """Write files that belong together, or none: all under other names first; None removes a file of before.

    Returns those that were written. Raises BadInput as `write_bytes`.
    """
    written = {path: temporary_name(path) for path, content in contents.items() if content is not None}
    path = Path()
    try:
        for path, temporary in written.items():
            make_folder(path.parent)
            _fill(temporary, contents[path])
            sync(temporary)
            if path.is_dir():
                raise IsADirectoryError
        for path, temporary in written.items():
            os.replace(temporary, path)
        for gone in contents.keys() - written.keys():
            with contextlib.suppress(OSError):
                gone.unlink()
        for folder in {path.parent for path in written}:
            sync(folder)
    except OSError as error:
        raise _unwritten(path, error, named) from None
    finally:
        for temporary in written.values():
            with contextlib.suppress(OSError):  # renamed, or the folder itself is missing
                temporary.unlink()
    return list(written)


def _fill(path: Path, content: Any) -> None:
    with open(path, "wb") as file:
        file.writelines(content if isinstance(content, list) else [content])


def _unwritten(path: Path, error: OSError, named: str) -> BadInput:
    reason, mend = error.strerror or str(error), "see its rights"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        mend = "free some space"
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason, mend = "a file stands where a folder is needed", "remove that"
    if isinstance(error, IsADirectoryError):
        reason, mend = "a folder stands there", "remove that"
    named = "CACHE" if path.parent.name == "backbones" else named
    return BadInput(f"{path} cannot be written ({reason}); {mend}, or name another place with {named}=")


def move(temporary: Path, path: Path) -> None:
    """Rename a file or folder that was written under another name to its own, durably.

    Raises OSError, also where `path` is a folder with something in it.
    """
    if temporary.is_dir():
        _sync_tree(temporary)
    else:
        sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are not there, durably. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk. Raises OSError where the disk fails."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:  # a folder that may be written, not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    below = [Path(base, name) for base, _, names in os.walk(folder) for name in ("", *names)]
    if len(below) > _FEW:
        os.sync()
        return
    for path in reversed(below):
        sync(path)


# --- temporary names ----------------------------------------------------------------------------


def _place() -> str:
    """Where a process number means something: this machine, and the container on it."""
    host = re.sub(r"\W", "", os.uname().nodename, flags=re.ASCII)[:40]
    try:
        return f"{host}_{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:  # no Linux
        return host


_PLACE = _place()
_OURS = re.compile(r"\..+\.(?P<place>\w+)\.(?P<process>\d+)-\w+", re.DOTALL)
_OF_BEFORE = re.compile(r"\..+\.([0-9a-f]{32}|unpacking)|\.standin-.+\.[a-z0-9_]{8}")  # older versions' names


def temporary_name(path: Path) -> Path:
    """Beside `path`, hidden, never given twice."""
    return path.with_name(f".{path.name[:40]}.{_PLACE}.{os.getpid()}-{os.urandom(4).hex()}")


def clear(*folders: Path) -> None:
    """Remove from the folders what killed commands left half-written: nothing that may still be at work.

    A command of this machine is asked for by its process number. What one elsewhere writes (the folders may be
    shared) goes when it has not changed for LEFT seconds.
    """
    for folder in folders:
        with contextlib.suppress(OSError):  # another command may be at it, too
            for path in folder.iterdir():
                if _left(path):
                    remove(path)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, where it is there and may be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _left(path: Path) -> bool:
    if ours := _OURS.fullmatch(path.name):
        if ours["place"] == _PLACE:
            return not _alive(int(ours["process"]))
    elif not _OF_BEFORE.fullmatch(path.name):
        return False
    oldest = time.time() - LEFT
    return all(changed < oldest for changed in _changes(path))


def _changes(path: Path) -> Iterator[float]:
    """When a file, or anything in a folder, changed last."""
    yield path.lstat().st_mtime
    for base, folders, names in os.walk(path):
        for name in (*folders, *names):
            with contextlib.suppress(FileNotFoundError):
                yield Path(base, name).lstat().st_mtime


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's; or no process number
    return True
