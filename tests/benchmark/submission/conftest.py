"""Label files and a submission with planted errors, for all tests of submissions."""

from pathlib import Path

import numpy as np
import pytest

from tests.benchmark.submission.planted import WRONG, write_labels
from visual_decathlon.benchmark.submission.archive import Submission
from visual_decathlon.datasets.catalogue import DOMAINS


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Submission]:
    """Label files of all ten domains, and a shuffled submission with WRONG wrong images per domain."""
    root, images, categories = tmp_path_factory.mktemp("planted"), [], []
    for domain in DOMAINS.values():
        ids, labels = write_labels(root, domain)
        rng = np.random.default_rng(domain.k)
        wrong = rng.permutation(len(ids))[: WRONG[domain.name]]
        predicted = labels.copy()
        predicted[wrong] = (predicted[wrong] + rng.integers(1, domain.classes, size=len(wrong))) % domain.classes
        images.append(ids)
        categories.append(domain.k * 10**7 + 1 + predicted)
    order = np.random.default_rng(0).permutation(sum(map(len, images)))
    return root, Submission("planted", np.concatenate(images)[order], np.concatenate(categories)[order])
