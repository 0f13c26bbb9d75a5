"""Downloads the two public archives of the official release on request, and unpacks them safely.

An archive is accepted only with the length and sha256 given below. An interrupted download is resumed. The folders that
an archive contains appear completely under their final names, or not at all.
"""

import hashlib
import http.client
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, BinaryIO

from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import check_plain, clear, make_folder, move, open_plain, remove, temporary_name

Progress = Callable[[str, int, int], None]
"""`progress(task, done, total)`, in bytes of the archive."""


@dataclass(frozen=True)
class Archive:
    """One archive of the release; `gives` are the folders below decathlon-1.0/ that it contains."""

    name: str
    bytes: int
    sha256: str
    gives: tuple[str, ...]
    by_hand: bool = False  # needs an account: never downloaded, only unpacked if the user has put it there


BASE_URL = "https://www.robots.ox.ac.uk/~vgg/share/"
RELEASE = "decathlon-1.0"
OFFICIAL = (
    Archive(
        "decathlon-1.0-devkit.tar.gz",
        23_503_205,
        "f86d9e128678434ff2a3a374f00eb3e2ec2267e15e53ddae5f19ff19378b5ff7",
        ("annotations", "code"),
    ),
    Archive(
        "decathlon-1.0-data.tar.gz",
        406_351_554,
        "8eca928bda025d855c91a78db45b3b18bc322efd7b1462a041e62c27b3c83c25",
        tuple(f"data/{name}" for name in DOMAINS if name != "imagenet12"),
    ),
    Archive(
        "decathlon-1.0-data-imagenet.tar",
        6_535_075_840,
        "93caac18a907266f917136849c1db7bbf88dd595120af1a8eea7177138962e4a",
        ("data/imagenet12",),
        by_hand=True,
    ),
)

_PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0)  # s before each further try after a lost connection
_TIMEOUT = 60.0  # s without receiving a byte
_CHUNK = 1 << 20
# Far more than the release contains (1.6 million files, 7 GB), far less than what fills a disk.
_MAX_MEMBERS, _MAX_BYTES = 4_000_000, 32 << 30
_FOREIGN = "it is not the release: remove it and fetch the official archive"


def download(
    dest: Path, progress: Progress, base_url: str = BASE_URL, archives: tuple[Archive, ...] = OFFICIAL
) -> list[str]:
    """Downloads and unpacks `archives` into `dest`/decathlon-1.0; returns the steps left to the user, one line each.

    Folders that exist are neither downloaded nor unpacked again. Raises InputError if the network, an archive or the
    disk fails; then nothing incomplete is left, except a `.part` file from which the next call resumes.
    """
    steps: list[str] = []
    with _disk_errors(dest):
        make_folder(dest)
        clear(dest)
        for archive in archives:
            if all(_exists(dest / RELEASE / piece) for piece in archive.gives):
                continue
            path = dest / archive.name
            if archive.by_hand and not path.exists():
                steps.append(_by_hand(dest, archive))
                continue
            if path.exists():
                _verify(path, archive, progress)
            else:
                _fetch(path, archive, base_url, progress)
            _unpack(path, archive, dest, progress)
    if not any((dest / RELEASE / "annotations").glob("*_test.json")):
        steps.append(
            "The test labels have been public since 2020: take labels_test.zip from the residual adapters authors' "
            "repository (srebuffi/residual_adapters) and put its <domain>_test.json into "
            f"{dest / RELEASE / 'annotations'}."
        )
    return steps


def _by_hand(dest: Path, archive: Archive) -> str:
    domains = ", ".join(PurePosixPath(piece).name for piece in archive.gives)
    return (
        f"{domains}: the licence asks for an account at image-net.org; log in there, fetch {archive.name} "
        f"({archive.bytes:,} bytes, sha256 {archive.sha256}), put it into {dest} and run this command again: "
        f"it checks the file and unpacks it to {dest / RELEASE}/{archive.gives[0]}."
    )


def _exists(folder: Path) -> bool:
    """Whether the folder exists and is not empty."""
    return folder.is_dir() and any(folder.iterdir())


@contextmanager
def _disk_errors(dest: Path) -> Iterator[None]:
    """Turns errors of the disk into an InputError; errors of network and archives are handled where they occur."""
    try:
        yield
    except OSError as error:
        place = error.filename or dest
        free = shutil.disk_usage(dest).free if dest.is_dir() else 0
        raise InputError(
            f"download: {place} cannot be written or read ({error.strerror or error}); see that {dest} is a folder of "
            f"yours with room ({free / 1e9:,.1f} GB are free), then run the command again"
        ) from None


# --- fetching -----------------------------------------------------------------------------------


class _Interrupted(Exception):
    """The connection failed, and another try may succeed."""


def _fetch(path: Path, archive: Archive, base_url: str, progress: Progress) -> None:
    """Downloads the archive to `path` by way of `path`.part, and resumes from an existing part."""
    url = base_url.rstrip("/") + "/" + archive.name
    part = path.with_name(path.name + ".part")
    if part.exists():
        check_plain(part)
    for pause in (*_PAUSES, None):
        try:
            _fetch_rest(url, part, archive, progress)
            break
        except _Interrupted as cut:
            if pause is None:
                have = part.stat().st_size if part.exists() else 0
                raise InputError(
                    f"download: {url} failed {len(_PAUSES) + 1} times ({cut}); {have:,} of {archive.bytes:,} bytes are "
                    "here: run the command again to go on from there"
                ) from None
            time.sleep(pause)
    _verify(part, archive, progress)
    move(part, path)


def _fetch_rest(url: str, part: Path, archive: Archive, progress: Progress) -> None:
    """Tries once to append the rest of the archive to `part`. Raises _Interrupted if another try may succeed."""
    have = part.stat().st_size if part.exists() else 0
    if have > archive.bytes:
        part.unlink()
        have = 0
    if have == archive.bytes:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            have = _start(answer, have, url, archive)
            _copy(answer, part, have, url, archive, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the server's file is shorter than the part: start again
            part.unlink(missing_ok=True)
        elif error.code < 500 and error.code not in (408, 429):
            raise InputError(
                f"download: {url} answers {error.code} {error.reason}; fetch {archive.name} elsewhere and put it into "
                f"{part.parent}"
            ) from None
        raise _Interrupted(f"{error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _Interrupted(str(error.reason)) from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Interrupted(str(error) or type(error).__name__) from None


def _start(answer: http.client.HTTPResponse, have: int, url: str, archive: Archive) -> int:
    """The position of the answer's first byte: `have` if the server honours the range, else 0."""
    if answer.status == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        start = have if span and int(span[1]) == have else None
        total = int(span[2]) if span and span[2] != "*" else archive.bytes
        if start is None:
            raise _Interrupted("the server answers with another range than the one asked for")
    else:
        start = 0
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else archive.bytes
    if total != archive.bytes:
        raise _wrong_length(url, total, archive)
    return start


def _copy(
    answer: http.client.HTTPResponse, part: Path, have: int, url: str, archive: Archive, progress: Progress
) -> None:
    with open(part, "r+b" if have else "wb") as file:
        file.seek(have)
        progress(archive.name, have, archive.bytes)
        while chunk := _read(answer):
            have += len(chunk)
            if have > archive.bytes:
                break
            file.write(chunk)
            progress(archive.name, have, archive.bytes)
    if have > archive.bytes:
        part.unlink()
        raise _wrong_length(url, have, archive, "at least ")
    if have < archive.bytes:
        raise _Interrupted(f"the connection was cut after {have:,} bytes")


def _read(answer: http.client.HTTPResponse) -> bytes:
    """The next bytes. Network errors are caught here because errors of the disk are OSError too."""
    try:
        return answer.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(str(error) or type(error).__name__) from None


def _wrong_length(url: str, length: int, archive: Archive, about: str = "") -> InputError:
    return InputError(
        f"download: {url} has {about}{length:,} bytes, not the {archive.bytes:,} of the official archive; "
        "something on the way answers in the server's place, or its file has changed: fetch the file elsewhere"
    )


def _verify(path: Path, archive: Archive, progress: Progress) -> None:
    """Raises InputError if length or sha256 is wrong; a downloaded file is removed, a user's own file is renamed."""
    check_plain(path)
    length = path.stat().st_size
    difference = f"{length:,} bytes, not {archive.bytes:,}"
    if length == archive.bytes:
        digest = hashlib.sha256()
        with open_plain(path, archive.bytes) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                progress(f"{archive.name}: sha256", file.tell(), archive.bytes)
        if digest.hexdigest() == archive.sha256:
            return
        difference = f"the sha256 {digest.hexdigest()}, not {archive.sha256}"
    if path.suffix == ".part":
        path.unlink()
        remedy = "it was removed: run the command again, or fetch the file elsewhere"
    elif archive.by_hand:  # it took the user hours, and the download may still be running: keep the file
        remedy = "fetch it again, or wait until it is complete"
    else:
        move(path, path.with_name(path.name + ".wrong"))
        remedy = f"it was renamed to {path.name}.wrong: run the command again to fetch the right one"
    raise InputError(f"download: {path} is not the official {archive.name}, it has {difference}; {remedy}")


# --- unpacking ----------------------------------------------------------------------------------


def _unpack(path: Path, archive: Archive, dest: Path, progress: Progress) -> None:
    """Unpacks into a temporary folder next to decathlon-1.0/, then moves each folder of the archive into place."""
    temporary = temporary_name(dest / archive.name)
    temporary.mkdir()
    try:
        with open_plain(path, archive.bytes) as raw:
            task = f"{archive.name}: unpack"
            unpack(raw, temporary, path, lambda: progress(task, raw.tell(), archive.bytes))
        progress(task, archive.bytes, archive.bytes)
        for piece in archive.gives:
            target = dest / RELEASE / piece
            if _exists(target):
                continue
            make_folder(target.parent)
            move(_locate(temporary, piece, path), target)
    finally:
        remove(temporary)


def _locate(folder: Path, piece: str, path: Path) -> Path:
    """The folder `piece` in an unpacked archive; the archive's names may start at any folder of the piece's path."""
    parts = (RELEASE, *PurePosixPath(piece).parts)
    for i in range(len(parts)):
        if _exists(place := folder.joinpath(*parts[i:])):
            return place
    raise InputError(f"download: {path} does not hold {piece}; fetch the archive again")


def unpack(raw: BinaryIO, folder: Path, path: Path, tick: Callable[[], None]) -> None:
    """Unpacks the tar (plain or compressed) from `raw` into `folder`, and inner <domain>.tar files into `folder`/data.

    Only regular files and folders inside of `folder` are written, with this process's modes and owner. `tick` is called
    for every member. Raises InputError for a path that leads outside, a link, a device, too many files or bytes, or a
    damaged archive; then `folder` is incomplete, and the caller must remove it.
    """
    try:
        _extract(raw, folder, _Budget(path), tick, inner=folder / "data")
    except (tarfile.TarError, EOFError, zlib.error, MemoryError) as error:  # a header may claim any size
        raise InputError(f"download: {path} is damaged ({error}); remove it and fetch it again") from None


def _extract(raw: IO[bytes], folder: Path, budget: "_Budget", tick: Callable[[], None], inner: Path | None) -> None:
    with tarfile.open(fileobj=raw, mode="r|*") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # tarfile would keep every header: a gigabyte for the 1.3 million files of ImageNet
            budget.take(member)
            tick()
            name = _inside(member, budget.path)
            try:
                if member.isdir():
                    (folder / name).mkdir(parents=True, exist_ok=True)
                elif inner is not None and name.suffix == ".tar" and name.stem in DOMAINS:
                    _extract(tar.extractfile(member), inner, budget, tick, inner=None)
                else:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    with open(folder / name, "xb") as file:
                        shutil.copyfileobj(tar.extractfile(member), file, _CHUNK)
            except (FileExistsError, NotADirectoryError):
                raise InputError(f"download: {budget.path} names {member.name!r} twice; fetch it again") from None


def _inside(member: tarfile.TarInfo, path: Path) -> PurePosixPath:
    """The member's path. Raises InputError unless it is a regular file or a folder and stays inside."""
    strict = PureWindowsPath(member.name)  # recognises both kinds of slashes, and drives
    if strict.anchor or ".." in strict.parts or "\0" in member.name:
        raise InputError(f"download: {path} holds the path {member.name!r}, which leads outside; {_FOREIGN}")
    if not (member.isdir() or (member.isreg() and not member.issparse())):
        raise InputError(
            f"download: {path} holds {member.name!r}, a link, device or pipe where files are wanted; {_FOREIGN}"
        )
    return PurePosixPath(member.name)


class _Budget:
    """Counts the members and bytes of an archive and its inner archives."""

    def __init__(self, path: Path):
        self.path, self.members, self.bytes = path, 0, 0

    def take(self, member: tarfile.TarInfo) -> None:
        """Counts a member. Raises InputError if there are too many members or bytes."""
        self.members += 1
        self.bytes += max(0, member.size)
        if self.members > _MAX_MEMBERS or self.bytes > _MAX_BYTES:
            raise InputError(
                f"download: {self.path} unpacks to more than {_MAX_MEMBERS:,} files or {_MAX_BYTES:,} bytes; {_FOREIGN}"
            )
