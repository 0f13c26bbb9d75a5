"""Opens the images of a run: packs, parts and limits -> batches."""

from collections import defaultdict

import numpy as np
import torch

from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.config.specs import HOLDOUT_FOLDS, ImageSet
from visual_decathlon.datasets.batches import Batches
from visual_decathlon.datasets.pack import Pack


def select_indices(pack: Pack, part: str, limit: int | None) -> np.ndarray:
    """Indices (n,) of the images of a part: all, fit (4/5 of each class) or held (the other 1/5).

    In some domains the images of a class form tracks of near-copies, so a holdout takes each class's last fifth in the
    release's order, not every fifth image.
    """
    index = np.arange(len(pack))
    if part != "all":
        of_class = defaultdict(list)
        for i, label in enumerate(pack.labels.tolist()):
            of_class[label].append(i)
        held = [i for images in of_class.values() for i in images[len(images) - len(images) // HOLDOUT_FOLDS :]]
        index = np.setdiff1d(index, held) if part == "fit" else np.array(sorted(held), dtype=int)
    if limit is not None and limit < len(index):
        index = index[np.linspace(0, len(index) - 1, limit).round().astype(int)]
    return index


def open_images(
    images: ImageSet, profile: Profile, batch: int, device: str, layout: torch.memory_format = torch.channels_last
) -> Batches:
    """Batches of `images` on the device; `layout` is the network's, which computes in the layout of its input."""
    domain = images.domain
    uncropped = profile.uncropped_size > 0 and not domain.crop
    packs = [Pack(folder) for folder in images.packs]
    return Batches(
        [(pack, select_indices(pack, images.part, images.limit)) for pack in packs],
        domain,
        profile.uncropped_size if uncropped else profile.crop,
        batch,
        random=not uncropped,
        device=device,
        layout=layout,
    )
