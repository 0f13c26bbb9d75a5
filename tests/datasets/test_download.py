"""The download from a misbehaving server on loopback, and the unpacking of malicious archives."""

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from visual_decathlon.datasets import download as module
from visual_decathlon.datasets.download import OFFICIAL, Archive, download
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import temporary_name


def tar(*members, compress=False):
    """A tar file with members given as (name, bytes) or as TarInfo headers."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return gzip.compress(stream.getvalue()) if compress else stream.getvalue()


NOISE = b"".join(hashlib.sha256(bytes([i % 251, i // 251])).digest() for i in range(10_000))  # 320 kB
DEVKIT = tar(("decathlon-1.0/annotations/dtd_train.json", b"{}"), ("decathlon-1.0/code/a.m", NOISE), compress=True)
DATA = tar(
    ("dtd.tar", tar(("dtd/train/0001/000001.jpg", b"one"), ("dtd/test/000001.jpg", b"two"))),
    ("decathlon-1.0-data/svhn.tar", tar(("./svhn/train/0001/000001.jpg", b"three"))),
    ("README", b"dropped"),
    compress=True,
)
IMAGENET = tar(("imagenet12/train/0001/000001.jpg", b"four"))


def archive(name, content, *gives, by_hand=False):
    return Archive(name, len(content), hashlib.sha256(content).hexdigest(), gives, by_hand)


TABLE = (
    archive("devkit.tar.gz", DEVKIT, "annotations", "code"),
    archive("data.tar.gz", DATA, "data/dtd", "data/svhn"),
    archive("imagenet.tar", IMAGENET, "data/imagenet12", by_hand=True),
)


class Server(ThreadingHTTPServer):
    """Serves `files`; `plan` lists how to misbehave in the next answers."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/devkit.tar.gz": DEVKIT, "/data.tar.gz": DATA}
        self.plan, self.ranges, self.asked = [], [], []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers a request according to the server's plan."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(self.path)
        server.ranges.append(wanted)
        behaviour = server.plan.pop(0) if server.plan else "fair"
        content = server.files.get(self.path)
        if behaviour == "busy":
            return self.send_error(503)
        if content is None:
            return self.send_error(404)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if wanted and start >= len(content):
            return self.send_error(416)
        whole = len(content)
        if behaviour == "ignores range":
            start = 0
        elif behaviour == "other range":
            start += 5
        self.send_response(206 if wanted and behaviour != "ignores range" else 200)
        if wanted and behaviour != "ignores range":
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        lie = {"claims more": 10, "claims less": -10}.get(behaviour, 0)
        if behaviour != "no length":
            self.send_header("Content-Length", str(whole - start + lie))
        self.end_headers()
        rest = content[start:]
        self.wfile.write(rest[: len(rest) // 3] if behaviour == "cuts" else rest)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "_PAUSES", (0.0,) * 3)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def quiet(*_):
    pass


def fetch(server, dest, archives=TABLE):
    return download(dest, quiet, server.url, archives)


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


WHOLE = [
    "annotations/dtd_train.json",
    "code/a.m",
    "data/dtd/test/000001.jpg",
    "data/dtd/train/0001/000001.jpg",
    "data/svhn/train/0001/000001.jpg",
]


def test_a_whole_download(server, tmp_path):
    calls = []
    dest = tmp_path / "new" / "place"
    steps = download(dest, lambda *call: calls.append(call), server.url, TABLE)
    release = dest / "decathlon-1.0"
    assert tree(release) == WHOLE
    assert (release / "code/a.m").read_bytes() == NOISE
    assert ("devkit.tar.gz", len(DEVKIT), len(DEVKIT)) in calls
    assert ("devkit.tar.gz: unpack", len(DEVKIT), len(DEVKIT)) in calls
    assert all(0 <= done <= total for _, done, total in calls)
    assert sorted(p.name for p in dest.iterdir()) == ["data.tar.gz", "decathlon-1.0", "devkit.tar.gz"]
    assert len(steps) == 2
    assert "image-net.org" in steps[0]
    assert TABLE[2].sha256 in steps[0]
    assert str(dest) in steps[0]
    assert "labels_test.zip" in steps[1]


def test_nothing_is_repeated(server, tmp_path):
    fetch(server, tmp_path)
    fetch(server, tmp_path)
    assert server.asked == ["/devkit.tar.gz", "/data.tar.gz"]
    for name in ("devkit.tar.gz", "data.tar.gz"):
        (tmp_path / name).unlink()
    fetch(server, tmp_path)  # the archives are not needed once unpacked
    assert len(server.asked) == 2


def test_an_archive_that_is_there_is_unpacked_without_the_network(server, tmp_path):
    (tmp_path / "devkit.tar.gz").write_bytes(DEVKIT)
    (tmp_path / "data.tar.gz").write_bytes(DATA)
    (tmp_path / "imagenet.tar").write_bytes(IMAGENET)
    (tmp_path / "decathlon-1.0/annotations").mkdir(parents=True)
    (tmp_path / "decathlon-1.0/annotations/dtd_test.json").write_text("mine")
    assert fetch(server, tmp_path) == []
    assert server.asked == []
    assert (tmp_path / "decathlon-1.0/data/imagenet12/train/0001/000001.jpg").read_bytes() == b"four"
    assert tree(tmp_path / "decathlon-1.0/annotations") == ["dtd_test.json"]  # the user's own folder is kept


@pytest.mark.parametrize(
    ("plan", "ranges"),
    [
        (["cuts"], [None, f"bytes={len(DEVKIT) // 3}-"]),
        (["cuts", "ignores range"], [None, f"bytes={len(DEVKIT) // 3}-"]),
        (["cuts", "other range"], [None] + [f"bytes={len(DEVKIT) // 3}-"] * 2),
        (["busy", "busy", "busy"], [None] * 4),
        (["no length"], [None]),
        (["cuts", "busy", "cuts"], None),
    ],
)
def test_it_continues_after_a_network_error(server, tmp_path, plan, ranges):
    server.plan[:] = plan
    fetch(server, tmp_path)
    assert tree(tmp_path / "decathlon-1.0") == WHOLE
    assert ranges is None or server.ranges[: len(ranges)] == ranges


def test_a_later_call_resumes(server, tmp_path):
    server.plan[:] = ["cuts"] * 4
    with pytest.raises(InputError, match=r"failed 4 times .*of .* bytes are here"):
        fetch(server, tmp_path)
    part = tmp_path / "devkit.tar.gz.part"
    length = part.stat().st_size
    assert DEVKIT.startswith(part.read_bytes())
    assert 0 < length < len(DEVKIT)
    assert not (tmp_path / "decathlon-1.0").exists()
    fetch(server, tmp_path)
    assert server.ranges[4] == f"bytes={length}-"
    assert not part.exists()


def test_a_damaged_part_is_noticed_and_removed(server, tmp_path):
    part = tmp_path / "devkit.tar.gz.part"
    part.write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match=r"sha256 .* it was removed"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []
    part.write_bytes(b"x" * (len(DEVKIT) + 1))  # longer than the archive: started again
    fetch(server, tmp_path)


@pytest.mark.parametrize("wrong", [DEVKIT + b"0123456789", DEVKIT[:-10], b"<html>log in</html>"])
@pytest.mark.parametrize("behaviour", ["fair", "no length"])
def test_another_length_is_refused(server, tmp_path, wrong, behaviour):
    server.files["/devkit.tar.gz"] = wrong
    server.plan[:] = [behaviour] * 4
    with pytest.raises(InputError, match=r"^download: .*devkit.tar.gz"):
        fetch(server, tmp_path)
    assert not (tmp_path / "decathlon-1.0").exists()
    assert not (tmp_path / "devkit.tar.gz").exists()


@pytest.mark.parametrize("behaviour", ["claims more", "claims less"])
def test_a_lie_about_the_length_is_refused(server, tmp_path, behaviour):
    server.plan[:] = [behaviour]
    with pytest.raises(InputError, match=f"not the {len(DEVKIT):,} of the official archive"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_of_the_right_length(server, tmp_path):
    server.files["/devkit.tar.gz"] = b"\0" * len(DEVKIT)
    with pytest.raises(InputError, match="sha256") as error:
        fetch(server, tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
    for name, kept in (("devkit.tar.gz", "devkit.tar.gz.wrong"), ("imagenet.tar", "imagenet.tar")):
        folder = tmp_path / name[:3]
        folder.mkdir()
        (folder / name).write_bytes(b"mine")
        with pytest.raises(InputError, match="4 bytes, not"):
            fetch(server, folder, [a for a in TABLE if a.name == name])
        assert [p.name for p in folder.iterdir()] == [kept]  # a user's own file is never deleted


def test_no_server_and_no_file(server, tmp_path):
    server.files.clear()
    with pytest.raises(InputError, match="answers 404"):
        fetch(server, tmp_path)
    assert len(server.asked) == 1  # no second try
    with pytest.raises(InputError, match="failed 4 times"):
        download(tmp_path, quiet, "http://127.0.0.1:1", TABLE)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="folder of yours"):
        download(tmp_path / "file", quiet, server.url, TABLE)


def header(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


MALICIOUS = {
    "climbs": ("../evil", b"x"),
    "climbs later": ("annotations/../../evil", b"x"),
    "climbs with backslashes": ("..\\evil", b"x"),
    "absolute": None,  # set in the test
    "drive": ("C:\\evil", b"x"),
    "symbolic link": header("annotations/link", tarfile.SYMTYPE, "/etc/passwd"),
    "inner symbolic link": header("annotations/link", tarfile.SYMTYPE, "a"),
    "hard link": header("annotations/link", tarfile.LNKTYPE, "annotations/a"),
    "character device": header("annotations/null", tarfile.CHRTYPE),
    "block device": header("annotations/disk", tarfile.BLKTYPE),
    "pipe": header("annotations/pipe", tarfile.FIFOTYPE),
    "twice": ("annotations/a", b"y"),
    "file as folder": ("annotations/a/b", b"y"),
}


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("case", MALICIOUS)
def test_malicious_archives(server, tmp_path, case, inner):
    evil = (f"{tmp_path}/evil", b"x") if case == "absolute" else MALICIOUS[case]
    content = tar(("annotations/a", b"x"), evil, compress=not inner)
    if inner:
        content = tar(("dtd.tar", content), compress=True)
    dest = tmp_path / "dest"
    server.files["/evil.tar.gz"] = content
    with pytest.raises(InputError) as error:
        fetch(server, dest, [archive("evil.tar.gz", content, "annotations")])
    assert str(error.value).startswith(f"download: {dest}/evil.tar.gz ")
    assert "\n" not in str(error.value)
    assert tree(tmp_path) == ["dest/evil.tar.gz"]
    assert [p.name for p in dest.iterdir()] == ["evil.tar.gz"]


def test_modes_of_the_archive_are_ignored(server, tmp_path):
    info = tarfile.TarInfo("annotations/a")
    info.mode, info.uid = 0o6777, 12345
    server.files["/mode.tar"] = content = tar(info)
    fetch(server, tmp_path, [archive("mode.tar", content, "annotations")])
    assert (tmp_path / "decathlon-1.0/annotations/a").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize(("name", "limit"), [("_MAX_MEMBERS", 3), ("_MAX_BYTES", 40)])
def test_bombs(server, tmp_path, monkeypatch, name, limit):
    monkeypatch.setattr(module, name, limit)
    content = tar(*((f"annotations/{i}", b"0123456789") for i in range(5)), compress=True)
    server.files["/bomb.tar.gz"] = content
    with pytest.raises(InputError, match="unpacks to more than"):
        fetch(server, tmp_path, [archive("bomb.tar.gz", content, "annotations")])
    assert tree(tmp_path) == ["bomb.tar.gz"]


@pytest.mark.parametrize(
    "content", [b"no archive", DEVKIT[:-5000], gzip.compress(gzip.decompress(DEVKIT)[:-20_000]), tar(("x", b"x"))]
)
def test_damaged_archives(server, tmp_path, content):
    server.files["/a.tar.gz"] = content
    with pytest.raises(InputError, match=r"damaged|does not hold"):
        fetch(server, tmp_path, [archive("a.tar.gz", content, "annotations")])
    assert tree(tmp_path) == ["a.tar.gz"]


def test_a_killed_unpacking_is_started_again(server, tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    name = temporary_name(tmp_path / "devkit.tar.gz").name.replace(f".{os.getpid()}-", f".{gone.pid}-")
    (tmp_path / name).mkdir()
    (tmp_path / name / "old").touch()
    (tmp_path / "decathlon-1.0/annotations").mkdir(parents=True)  # empty: it counts as missing
    fetch(server, tmp_path)
    assert tree(tmp_path / "decathlon-1.0") == WHOLE
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("ending", ["", ".part"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_device_instead_of_an_archive_is_refused(make, ending: str, server, tmp_path):
    make(place := tmp_path / f"devkit.tar.gz{ending}")
    with pytest.raises(InputError, match=rf"{place} cannot be .* \(it is a pipe or device, not a plain file\); see"):
        fetch(server, tmp_path)
    assert place.exists(), "the user's file is kept"


def test_the_official_table():
    """Lengths and checksums as in the release's own description."""
    devkit, data, imagenet = OFFICIAL
    assert (devkit.bytes, data.bytes, imagenet.bytes) == (23_503_205, 406_351_554, 6_535_075_840)
    assert [a.sha256[:8] for a in OFFICIAL] == ["f86d9e12", "8eca928b", "93caac18"]
    assert [a.by_hand for a in OFFICIAL] == [False, False, True]
    assert len(data.gives) == 9
    assert "data/imagenet12" not in data.gives


def test_a_part_longer_than_the_servers_file_is_started_again(server, tmp_path):
    (tmp_path / "devkit.tar.gz.part").write_bytes(DEVKIT[:1000])
    server.files["/devkit.tar.gz"] = b"short"
    with pytest.raises(InputError, match="has 5 bytes, not the"):
        fetch(server, tmp_path)
    assert server.ranges == ["bytes=1000-", None]
    assert list(tmp_path.iterdir()) == []


def test_a_longer_file_of_unknown_length_is_refused(server, tmp_path):
    server.files["/devkit.tar.gz"] = DEVKIT + b"x"
    server.plan[:] = ["no length"]
    with pytest.raises(InputError, match="has at least"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []
