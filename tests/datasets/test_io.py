"""The atomic writer: the order of syncs and renames, the state after a fault, and the removal of leftovers."""

import ast
import errno
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from visual_decathlon.datasets import io
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import (
    check_plain,
    clear,
    make_folder,
    move,
    open_plain,
    read_plain,
    sync,
    temporary_name,
    write_all,
    write_bytes,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, str]]:
    """The system calls in order: ("fsync" or "replace" or "sync", the file's name without its temporary part)."""
    made = []

    def named(path: str) -> str:
        name = Path(path).name
        return f"temporary {name[1:].partition('.' + io._PLACE)[0]}" if io._PLACE in name else name

    fsync, replace, everything = os.fsync, os.replace, os.sync

    def fsynced(descriptor: int) -> None:
        made.append(("fsync", named(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def replaced(before: Path, after: Path) -> None:
        made.append(("replace", named(after)))
        replace(before, after)

    monkeypatch.setattr(os, "fsync", fsynced)
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(os, "sync", lambda: (made.append(("sync", "")), everything()))
    return made


# --- durable ------------------------------------------------------------------------------------


def test_bytes_are_on_the_disk_before_the_rename_and_the_rename_after(calls, tmp_path: Path):
    """The order that is safe in a power cut: new folders, then files, renames, and the folders of the files."""
    folder = tmp_path / "results" / "records"
    write_all({folder / "a": b"1", folder / "b": b"2"})
    assert calls == [
        ("fsync", tmp_path.name),
        ("fsync", "results"),
        ("fsync", "temporary a"),
        ("fsync", "temporary b"),
        ("replace", "a"),
        ("replace", "b"),
        ("fsync", "records"),
    ]
    assert (folder / "a").read_bytes() == b"1" and sorted(os.listdir(folder)) == ["a", "b"]


@pytest.mark.parametrize("files", [2, io._FEW + 1])
def test_a_folder_is_on_the_disk_before_it_has_its_name(files: int, calls, tmp_path: Path):
    building = temporary_name(tmp_path / "pack")
    (building / "below").mkdir(parents=True)
    for i in range(files):
        (building / "below" / str(i)).touch()
    move(building, tmp_path / "pack")
    renamed = calls.index(("replace", "pack"))
    before, after = calls[:renamed], calls[renamed + 1 :]
    assert after == [("fsync", tmp_path.name)]
    if files > io._FEW:
        assert before == [("sync", "")]
    else:
        assert sorted(before[:3]) == [("fsync", "0"), ("fsync", "1"), ("fsync", "below")]
        assert before[3:] == [("fsync", "temporary pack")]
    assert len(os.listdir(tmp_path / "pack" / "below")) == files


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_fault_between_leaves_the_old_file(call: str, fault: BaseException, tmp_path: Path, monkeypatch):
    def refuse(*_) -> None:
        raise fault

    path = tmp_path / "record"
    write_bytes(b"old", path)
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(InputError if isinstance(fault, OSError) else KeyboardInterrupt) as caught:
        write_bytes(b"new", path, "OUT")
    if isinstance(fault, OSError):
        assert str(caught.value) == (
            f"{path} cannot be written (No space left on device); free some space, or name another place with OUT="
        )
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["record"]


def test_a_file_system_without_fsync_can_be_written(tmp_path: Path, monkeypatch):
    def none(_) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", none)
    assert write_bytes(b"new", tmp_path / "a").read_bytes() == b"new"


def test_a_failing_disk_is_not_a_missing_fsync(tmp_path: Path, monkeypatch):
    def fail(_) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match="Input/output error"):
        write_bytes(b"new", tmp_path / "a")
    with pytest.raises(OSError, match="Input/output error"):
        sync(tmp_path)


def test_nothing_else_renames():
    """There is one writer: a rename elsewhere would not be durable."""
    renames = {"replace", "rename", "renames", "mkstemp", "mkdtemp", "NamedTemporaryFile"}
    calls = []
    for path in sorted(p for room in ("benchmark", "datasets", "methods") for p in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in renames:
                call = ast.unparse(node)
                if call.startswith(("os.", "shutil.", "tempfile.")):
                    calls.append(f"{path.relative_to(ROOT)}: {call}")
    assert calls == ["datasets/io.py: os.replace"] * 2


def test_datasets_writes_directly_in_temporary_folders_only():
    """These modules fill a temporary folder, or the `.part` of a download; then `move` renames it."""
    direct = {"write_bytes", "write_text", "savez", "save", "OSFile"}
    writers = set()
    for path in sorted((ROOT / "datasets").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            attribute = isinstance(node.func, ast.Attribute) and node.func.attr in direct
            modes = [a.value for arg in node.args[1:2] for a in ast.walk(arg) if isinstance(a, ast.Constant)]
            opened = ast.unparse(node.func) == "open" and any(set(str(mode)) & set("wxa+") for mode in modes)
            if attribute or opened:
                writers.add(path.relative_to(ROOT / "datasets").as_posix())
    assert writers == {
        "annotations.py",  # of stand-ins
        "download.py",  # the `.part`, and unpacked files
        "io.py",
        "pack.py",
        "standin/drawn.py",
        "standin/generate.py",
        "standin/sheet.py",  # into memory
    }


def _succeeds(*command: str) -> bool:
    return shutil.which(command[0]) is not None and not subprocess.run(command, capture_output=True).returncode


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """(image of an ext4 disk, folder where it is mounted); the test is skipped if nothing can be mounted."""
    image, place = tmp_path / "disk", tmp_path / "mounted"
    place.mkdir()
    image.write_bytes(b"")
    os.truncate(image, 16 << 20)
    formatted = _succeeds("mkfs.ext4", "-q", "-F", str(image))
    if not (formatted and _succeeds("mount", "-o", "loop", str(image), str(place))):
        pytest.skip("needs mkfs.ext4, and the right to mount a file as a disk")
    try:
        yield image, place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _after_a_power_cut(image: Path, place: Path) -> dict[str, bytes]:
    """The files that would remain if the power failed now: the disk's image is copied and mounted elsewhere."""
    shutil.copyfile(image, copy := image.with_name("copy"))
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(copy), str(place)], check=True)
    try:
        files = (path for path in place.rglob("*") if path.is_file())
        return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_written_files_survive_a_power_cut(disk, tmp_path: Path, monkeypatch):
    image, mounted = disk
    wanted: dict[str, bytes] = {}
    moments: list[dict[str, bytes]] = []
    replace = os.replace

    def replaced(*names) -> None:
        replace(*names)
        moments.append(_after_a_power_cut(image, tmp_path / "again"))

    monkeypatch.setattr(os, "replace", replaced)
    for i in range(4):
        content = os.urandom(100_000)
        write_bytes(content, mounted / "records" / str(i))
        wanted[f"records/{i}"] = content
        assert _after_a_power_cut(image, tmp_path / "again") == wanted
    building = temporary_name(mounted / "pack")
    building.mkdir()
    wanted["pack/pixels"] = content = os.urandom(500_000)
    (building / "pixels").write_bytes(content)
    move(building, mounted / "pack")
    assert _after_a_power_cut(image, tmp_path / "again") == wanted
    assert len(moments) == 5
    for files in moments:  # between the rename and the folder's fsync: a file is complete or does not exist
        named = {name: content for name, content in files.items() if "/." not in f"/{name}"}
        assert named.items() <= wanted.items()


# --- leftovers ----------------------------------------------------------------------------------


def _ended_process() -> int:
    gone = subprocess.Popen(["true"])
    gone.wait()
    return gone.pid


def _make(path: Path, folder: bool, age: float = 0) -> None:
    """Makes a file, or a folder with a file in it, that was changed `age` seconds ago."""
    file = path / "below" / "pixels.arrow" if folder else path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"half")
    for changed in [file, *(file.parents[:2] if folder else [])]:
        past = os.stat(changed).st_mtime - age
        os.utime(changed, (past, past))


@pytest.mark.parametrize("folder", [False, True])
def test_leftovers_of_killed_commands_are_removed(folder: bool, tmp_path: Path):
    """On this machine if the process is gone; of other machines and older versions by age; nothing in use."""
    mine = temporary_name(tmp_path / "a.parquet")
    dead = mine.with_name(mine.name.replace(f".{os.getpid()}-", f".{_ended_process()}-"))
    of_another_machine = mine.with_name(mine.name.replace(io._PLACE, "another"))
    removed = [
        dead,
        of_another_machine,
        tmp_path / f".dtd-train-8-x.{'0' * 32}",
        tmp_path / ".standin-v1-seed0.a_b3c4d5",
    ]
    kept = [mine, tmp_path / ".hidden", tmp_path / ".venv.backup", tmp_path / "a.parquet"]
    for path in (*removed, *kept):
        _make(path, folder, age=2 * io.ABANDONED_AFTER)
    fresh = [path.with_name(path.name.replace(".", ".x", 1)) for path in removed if path != dead]
    for path in fresh:
        _make(path, folder)
    clear(tmp_path, tmp_path / "nowhere")
    assert set(tmp_path.iterdir()) == {*kept, *fresh}


def test_a_folder_with_a_new_file_is_not_removed(tmp_path: Path):
    building = tmp_path / ".pack.another.17-0"
    _make(building, folder=True, age=2 * io.ABANDONED_AFTER)
    os.utime(building / "below" / "pixels.arrow")
    clear(tmp_path)
    assert building.is_dir()


def test_temporary_names(tmp_path: Path):
    """They are unique, and short enough for every file name."""
    longest = tmp_path / ("ü" * 127)
    assert temporary_name(longest) != temporary_name(longest)
    assert write_bytes(b"new", longest).read_bytes() == b"new"


def test_folders_are_made_once(calls, tmp_path: Path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert calls == [("fsync", tmp_path.name), ("fsync", "a")]


# --- reading ------------------------------------------------------------------------------------


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 40_000_000_000)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


KINDS = {
    "a pipe": (os.mkfifo, "it is a pipe or device, not a plain file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it is a pipe or device, not a plain file"),
    "a socket": (_socket, "(it is a pipe or device, not a plain file|No such device or address)"),
    "a folder": (os.mkdir, "it is a folder, not a file"),
    "too large": (_sparse, r"it has 40,000,000,000 bytes, more than the 1,000 that such a file may have"),
    "not there": (lambda path: None, "No such file or directory"),
    "a link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read", [open_plain, read_plain, check_plain])
def test_only_plain_files_of_bounded_size_are_opened(kind: str, read, tmp_path: Path):
    make, message = KINDS[kind]
    make(tmp_path / "x")
    opened = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError) as caught:
        read(tmp_path / "x", 1000)
    assert re.fullmatch(message, caught.value.strerror)
    assert len(os.listdir("/proc/self/fd")) == opened


def test_plain_files_are_read(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"plain")
    (tmp_path / "link").symlink_to("x")
    for name in ("x", "link"):
        assert read_plain(tmp_path / name, 5) == b"plain"
        with open_plain(tmp_path / name, None) as file:
            assert file.read() == b"plain"
    with pytest.raises(OSError) as caught:
        read_plain(tmp_path / "a\0b", 5)
    assert caught.value.strerror == "no file can have this name"


def test_a_pipe_is_replaced(tmp_path: Path):
    """Writing never waits for a reader of the pipe, and neither does `sync`."""
    os.mkfifo(tmp_path / "x")
    sync(tmp_path / "x")
    assert write_bytes(b"new", tmp_path / "x").read_bytes() == b"new"
