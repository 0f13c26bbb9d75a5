"""Helpers for tests of submissions: planted label files, and commands with their printed tables."""

import contextlib
import io
from pathlib import Path

import msgspec
import numpy as np

from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.submission.archive import Submission
from visual_decathlon.datasets.annotations import write_annotations
from visual_decathlon.datasets.catalogue import DOMAINS

METHOD = "finetune"  # learns something in two epochs
WRONG = {name: 100 * (i + 1) for i, name in enumerate(DOMAINS)}  # planted images of each domain


def write_labels(root: Path, domain, description: str = "labels of the real shape") -> tuple[np.ndarray, np.ndarray]:
    """A label file with the official ids and drawn labels, the images in another order; (ids, labels)."""
    train, val, test = domain.counts
    labels = np.random.default_rng(domain.k).integers(domain.classes, size=test)
    rows = [(f"data/{domain.name}/test/{i + 1:06}.jpg", 72, 72, int(label)) for i, label in enumerate(labels)]
    names = map(str, range(domain.classes))
    path = write_annotations(root, domain, "test", rows, names, description, train + val + 1)
    content = msgspec.json.decode(path.read_bytes())
    content["images"].reverse()
    path.write_bytes(msgspec.json.encode(content))
    return domain.k * 10**7 + 200_000 + train + val + 1 + np.arange(test), labels


def entries_of(entries: Submission) -> list[dict]:
    """The entries as results.json has them."""
    pairs = zip(entries.images.tolist(), entries.categories.tolist(), strict=True)
    return [{"image_id": image, "category_id": category} for image, category in pairs]


def run_command(*words: str | Path) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


def error_line(*words: str | Path) -> str:
    """The one line on stderr of a command that must end with 2."""
    code, _, err = run_command(*words)
    assert code == 2 and err.count("\n") == 1 and len(err) > 20 and "Traceback" not in err, err
    return err.strip()


def printed_rows(out: str) -> dict[str, list[str]]:
    """The rows of a printed table by their first cell."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line[:1] == "│"]
    return {row[0]: row[1:] for row in rows}
