"""The one durable writer of files and folders, its temporary names, the sweeping of what killed commands left; and
the opening of files from outside: plain ones only, of bounded size.

What is written is first whole under a temporary name beside its place, its bytes are on the disk (fsync) before
the rename, and the rename is on the disk after: neither a reader, nor a killed command, nor a power cut sees half
of it, or an empty file under a final name.
"""

import contextlib
import errno
import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from visual_decathlon.datasets.errors import InputError, Unwritable

LEFT = 24 * 3600  # s without a change: then what a command elsewhere was writing is taken for left behind
_FEW = 64  # files synced one by one; more cost minutes (a commit of the journal each), and the whole disk is synced

_OPENED = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a pipe without a writer would block

# Some network file systems and pipes know no fsync: there is no more to be done for the data.
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS}


def write_bytes(content: Any, path: Path, named: str = "RESULTS") -> Path:
    """Write one file, whole and durable or not at all; `content` is bytes or any buffer, or a list of these.

    `named` is the variable that names the place. Raises InputError where it cannot be written.
    """
    return write_all({path: content}, named)[0]


def write_all(contents: Mapping[Path, Any], named: str = "RESULTS") -> list[Path]:
    """Write files that belong together, or none: all under other names first; None removes a file of before.

    Returns those that were written. Raises InputError as `write_bytes`.
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


def _unwritten(path: Path, error: OSError, named: str) -> InputError:
    kind = Unwritable
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):  # in the way of this one alone
        kind = InputError
    reason, remedy = error.strerror or str(error), "see its rights"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space"
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason, remedy = "a file stands where a folder is needed", "remove that"
    if isinstance(error, IsADirectoryError):
        reason, remedy = "a folder stands there", "remove that"
    named = "CACHE" if path.parent.name == "backbones" else named
    return kind(f"{path} cannot be written ({reason}); {remedy}, or name another place with {named}=")


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
        descriptor = os.open(path, _OPENED)
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


# --- reading ------------------------------------------------------------------------------------


def open_plain(path: Path, most: int | None) -> BinaryIO:
    """Open a file that a user named or a folder brought, of `most` bytes at the most (None: any).

    Raises OSError, whose strerror stands in "FILE cannot be read (...)", where there is no file, or none that may be
    read, or it is a folder, pipe or device (which may never end), or too large.
    """
    try:
        descriptor = os.open(path, _OPENED)
    except ValueError:  # a NUL
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from None
    try:
        _refuse(os.fstat(descriptor), path, most)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_plain(path: Path, most: int | None = None) -> None:
    """As `open_plain`, for a file that a library opens. Raises OSError."""
    _refuse(os.stat(path), path, most)


def read_plain(path: Path, most: int) -> bytes:
    """The bytes of a file. Raises OSError as `open_plain`, and where there is no memory for them."""
    with open_plain(path, most) as file:
        size = os.fstat(file.fileno()).st_size  # no more is read, should it grow meanwhile
        try:
            return file.read(size)
        except MemoryError:
            raise OSError(errno.ENOMEM, f"there is no memory for its {size:,} bytes", str(path)) from None


def _refuse(about: os.stat_result, path: Path, most: int | None) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", str(path))
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or device, not a plain file", str(path))
    if most is not None and about.st_size > most:
        told = f"it has {about.st_size:,} bytes, more than the {most:,} that such a file may have"
        raise OSError(errno.EFBIG, told, str(path))


# --- temporary names ----------------------------------------------------------------------------


def _place() -> str:
    """Where a process number means something: this machine, and the container on it."""
    host = re.sub(r"\W", "", platform.node(), flags=re.ASCII)[:40]
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
