"""Writes files and folders atomically and durably, and opens files from outside. All rooms write through this module.

Writing: everything is first written completely under a temporary name in the same folder. Its bytes are synced to disk
(fsync) before the rename, and the rename is synced after it. So neither a reader, nor a killed command, nor a power cut
leaves a partial or an empty file under a final name. `clear` removes the temporary files of killed commands.

Reading: only regular files of bounded size are opened, never pipes or devices.
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

from visual_decathlon.datasets.errors import InputError, Unwritable, option

ABANDONED_AFTER = 24 * 3600  # s without a change, after which another machine's temporary files are removed
_FEW = 64  # up to so many files are synced one by one; more would take minutes, so the whole disk is synced

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a pipe without a writer would block

# Some network file systems and pipes do not support fsync: nothing more can be done for the data.
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS}


def write_bytes(content: Any, path: Path, named: str = "results") -> Path:
    """Writes one file completely and durably, or not at all; `content` is bytes or any buffer, or a list of these.

    `named` is the option with which a user chooses the place, for the message. Raises InputError if the file
    cannot be written.
    """
    return write_all({path: content}, named)[0]


def write_all(contents: Mapping[Path, Any], named: str = "results") -> list[Path]:
    """Writes files that belong together: all of them under temporary names before the first one is renamed.

    A content of None removes an existing file. Returns the paths that were written. Raises InputError as `write_bytes`.
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
        for old in contents.keys() - written.keys():
            with contextlib.suppress(OSError):
                old.unlink()
        for folder in {path.parent for path in written}:
            sync(folder)
    except OSError as error:
        raise _write_error(path, error, named) from None
    finally:
        for temporary in written.values():
            with contextlib.suppress(OSError):  # already renamed, or the folder itself is missing
                temporary.unlink()
    return list(written)


def _fill(path: Path, content: Any) -> None:
    with open(path, "wb") as file:
        file.writelines(content if isinstance(content, list) else [content])


def _write_error(path: Path, error: OSError, named: str) -> InputError:
    kind = Unwritable
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):  # concerns this path only
        kind = InputError
    reason, remedy = error.strerror or str(error), "see its rights"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space"
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason, remedy = "a file is where a folder is needed", "remove that"
    if isinstance(error, IsADirectoryError):
        reason, remedy = "a folder has this name", "remove that"
    named = "cache" if path.parent.name == "backbones" else named
    return kind(f"{path} cannot be written ({reason}); {remedy}, or name another place with {option(named)}")


def move(temporary: Path, path: Path) -> None:
    """Renames a file or folder from its temporary to its final name, durably.

    Raises OSError, also if `path` is a folder that is not empty.
    """
    if temporary.is_dir():
        _sync_tree(temporary)
    else:
        sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder and its missing parents, durably. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Waits until a file's bytes, or a folder's entries, are on the disk. Raises OSError if the disk fails."""
    try:
        descriptor = os.open(path, _FLAGS)
    except PermissionError:  # a folder that may be written but not read
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
    """Opens a file that a user named or that was in a user's folder, of at most `most` bytes (None: any size).

    Raises OSError if the file is missing or may not be read, is a folder, a pipe or a device (which may never end), or
    is too large. Its strerror fits into the sentence "FILE cannot be read (...)".
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except ValueError:  # the path contains a NUL
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from None
    try:
        _refuse(os.fstat(descriptor), path, most)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_plain(path: Path, most: int | None = None) -> None:
    """Makes the checks of `open_plain` for a file that a library will open. Raises OSError."""
    _refuse(os.stat(path), path, most)


def read_plain(path: Path, most: int) -> bytes:
    """The bytes of a file. Raises OSError as `open_plain` does, and if there is not enough memory."""
    with open_plain(path, most) as file:
        size = os.fstat(file.fileno()).st_size  # no more is read if the file grows meanwhile
        try:
            return file.read(size)
        except MemoryError:
            raise OSError(errno.ENOMEM, f"there is no memory for its {size:,} bytes", str(path)) from None


def _refuse(status: os.stat_result, path: Path, most: int | None) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or device, not a plain file", str(path))
    if most is not None and status.st_size > most:
        message = f"it has {status.st_size:,} bytes, more than the {most:,} that such a file may have"
        raise OSError(errno.EFBIG, message, str(path))


# --- temporary names ----------------------------------------------------------------------------


def _place() -> str:
    """Identifies this machine and container: within it a process number is unique."""
    host = re.sub(r"\W", "", platform.node(), flags=re.ASCII)[:40]
    try:
        return f"{host}_{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:  # not Linux
        return host


_PLACE = _place()
_TEMPORARY = re.compile(r"\..+\.(?P<place>\w+)\.(?P<process>\d+)-\w+", re.DOTALL)
_OLD_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{32}|unpacking)|\.standin-.+\.[a-z0-9_]{8}")  # names of older versions


def temporary_name(path: Path) -> Path:
    """A hidden, unique name in the same folder as `path`."""
    return path.with_name(f".{path.name[:40]}.{_PLACE}.{os.getpid()}-{os.urandom(4).hex()}")


def clear(*folders: Path) -> None:
    """Removes temporary files and folders of killed commands from `folders`, and nothing that may still be in use.

    For a command of this machine, its process number shows whether it still runs. Temporary files of other machines
    (the folders may be shared) are removed once they have not changed for ABANDONED_AFTER seconds.
    """
    for folder in folders:
        with contextlib.suppress(OSError):  # another command may be clearing the folder too
            for path in folder.iterdir():
                if _abandoned(path):
                    remove(path)


def remove(path: Path) -> None:
    """Removes a file or a whole folder, if it exists and may be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _abandoned(path: Path) -> bool:
    if name := _TEMPORARY.fullmatch(path.name):
        if name["place"] == _PLACE:
            return not _alive(int(name["process"]))
    elif not _OLD_TEMPORARY.fullmatch(path.name):
        return False
    oldest = time.time() - ABANDONED_AFTER
    return all(changed < oldest for changed in _changes(path))


def _changes(path: Path) -> Iterator[float]:
    """Yields the time of the last change of a file, or of a folder and everything in it."""
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
        pass  # another user's process, or not a process number
    return True
