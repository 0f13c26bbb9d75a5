"""The check of own domains: all faults of all domains in one list, and duplicate images."""

from argparse import Namespace

import pytest
from PIL import Image

from visual_decathlon.benchmark.cli.data import run
from visual_decathlon.datasets.check import check_release
from visual_decathlon.datasets.errors import InputError


def quiet(*_):
    pass


def paint(root, *files):
    """Saves images of different colours."""
    for i, file in enumerate(files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (i, 7 * len(str(root)) % 256, 3)).save(root / file)
    return root


@pytest.fixture
def birds(tmp_path):
    return paint(tmp_path / "my birds", *(f"{s}/{c}/{i}.png" for s in ("train", "val") for c in "ab" for i in range(3)))


@pytest.fixture
def cats(tmp_path):
    return paint(tmp_path / "cats", *(f"{c}/{i}.png" for c in "ab" for i in range(4)))


def test_every_fault_of_every_domain_in_one_list(birds, cats, release, capfd):
    root = release("dtd")
    (root / "data/dtd/val/0001/000010.jpg").write_bytes(b"")
    (birds / "train/a/0.png").write_bytes((birds / "train/a/0.png").read_bytes()[:50])
    (birds / "train/b/1.png").write_text("no image")
    (birds / "val/b/2.png").write_bytes(b"")
    paint(birds, "val/c/9.png")  # a class that train lacks
    (cats / "a/1.png").unlink()
    (cats / "a/1.png").symlink_to("/nowhere/1.png")
    assert run(Namespace(data=root, download=None, sheet=None, own=[("birds", birds), ("cats", cats)])) == 2
    shown = capfd.readouterr()
    starts = [
        f"dtd: {root}/data/dtd/val/0001/000010.jpg is empty",
        f"birds: {birds}/val/c is a class that train lacks",
        f"birds: {birds}/train/a/0.png is truncated",
        f"birds: {birds}/train/b/1.png is not an image",
        f"birds: {birds}/val/b/2.png is empty",
        f"cats: {cats}/a/1.png is a link to /nowhere/1.png, which is missing",
    ]
    lines = shown.err.splitlines()
    assert len(lines) == len(starts)
    assert all(line.startswith(start) and ";" in line for line, start in zip(lines, starts, strict=True))
    assert "6 faults" in shown.out.splitlines()[-1]


def test_own_domains_alone(birds, cats, capfd):
    assert run(Namespace(data=None, download=None, sheet=None, own=[("birds", birds), ("cats", cats)])) == 0
    shown = capfd.readouterr()
    assert shown.err == "" and "20 images of 2 domains are fine; no fault." in shown.out and "note" not in shown.out
    rows = check_release(None, quiet, [("birds", birds), ("cats", cats)])
    assert [(row.domain, row.split, row.classes, row.official) for row in rows] == [
        (name, split, 2, None) for name in ("birds", "cats") for split in ("train", "val")
    ]
    assert [row.images for row in rows[:2]] == [6, 6] and rows[2].images + rows[3].images == 8
    assert rows[0].sizes == ((9, 9), (8, 8))


def test_duplicates_and_skipped_files_are_noted(birds):
    for one, other in (("train/a/0.png", "val/a/0.png"), ("train/a/1.png", "val/b/1.png")):
        (birds / other).write_bytes((birds / one).read_bytes())
    (birds / "train/a/notes.txt").touch()
    rows = check_release(None, quiet, [("birds", birds)])
    assert [fault for row in rows for fault in row.faults] == []
    left, overlap, labels = (note for row in rows for note in row.notes)
    assert left == f"birds: left out of {birds}: 1 file(s) of a kind that is not read (1 .txt)"
    assert "2 of the 6 images of val are in train too" in overlap and "val/b/1.png is train/a/1.png" in overlap
    assert "1 image(s) are in more than one class" in labels


def test_faults_are_bounded_and_counted(cats, monkeypatch, capfd):
    monkeypatch.setattr("visual_decathlon.benchmark.report.release.FAULTS_SHOWN", 3)
    for file in cats.rglob("*.png"):
        file.write_bytes(b"")
    assert run(Namespace(data=None, download=None, sheet=None, own=[("cats", cats)])) == 2
    shown = capfd.readouterr()
    assert len(shown.err.splitlines()) == 4 and shown.err.endswith("and 5 more\n")
    assert "8 faults" in shown.out.splitlines()[-1]


def test_folders_that_are_not_a_domain(cats, tmp_path):
    rows = check_release(None, quiet, [("nothing", tmp_path / "absent"), ("dtd", cats), ("cats", cats)])
    faults = [fault for row in rows for fault in row.faults]
    assert len(faults) == 2 and "is no folder" in faults[0] and "official domain" in faults[1]
    with pytest.raises(InputError, match="given twice"):
        run(Namespace(data=None, download=None, sheet=None, own=[("a", cats), ("a", cats)]))
    with pytest.raises(InputError, match="OWN="):
        run(Namespace(data=None, download=None, sheet=tmp_path / "x.png", own=[("a", cats)]))


def test_duplicates_in_a_release(release):
    root = release("dtd")
    data = root / "data/dtd"
    (data / "test/000016.jpg").write_bytes((data / "val/0001/000010.jpg").read_bytes())
    (data / "train/0001/000002.jpg").write_bytes((data / "train/0001/000001.jpg").read_bytes())
    within, across = (note for row in check_release(root, quiet) for note in row.notes)
    assert "1 image(s) of train repeat another" in within and "1 of the 3 images of test are in train and val" in across
