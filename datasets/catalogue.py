"""The ten domains of the Visual Decathlon: names, numbers, counts, colour statistics and crop policy.

Sources: the official release's annotation files (classes, counts, ids) and the public code of the authors of residual
adapters (mean, std, flip and crop policy).
"""

import re
from dataclasses import dataclass

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Domain:
    """The fixed properties of one domain; they also hold for its stand-in.

    `counts` are the official numbers of images in train, val and test. `mean` and `std` are RGB in 0..1. `flip` allows
    random flips in training. `crop` is False for domains of digits, characters and signs: training too uses the centre
    crop of the full shorter side. `paper_images` is the "# images" entry of the paper's table (train + val).
    """

    name: str
    column: str  # header in Table 1
    k: int  # official number; ids are k * 10**7 + ...; 0 for a user's own domain
    classes: int
    counts: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    flip: bool
    crop: bool
    paper_images: str

    @property
    def official(self) -> bool:
        """Whether this is one of the ten domains, not a user's own."""
        return self.k > 0


def _grey(value: float) -> tuple[float, float, float]:
    return (value, value, value)


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# In the order of Table 1's columns.
_TEN = (
    Domain(
        "imagenet12", "ImNet", 6, 1000, (1_232_167, 49_000, 48_238), IMAGENET_MEAN, IMAGENET_STD, True, True, "1.3m"
    ),
    Domain(
        "aircraft",
        "Airc.",
        1,
        100,
        (3_334, 3_333, 3_333),
        (0.4798, 0.5107, 0.5344),
        (0.2107, 0.2051, 0.2373),
        True,
        True,
        "7k",
    ),
    Domain(
        "cifar100",
        "C100",
        2,
        100,
        (40_000, 10_000, 10_000),
        (0.5071, 0.4867, 0.4408),
        (0.2675, 0.2565, 0.2761),
        True,
        True,
        "50k",
    ),
    Domain("daimlerpedcls", "DPed", 3, 2, (23_520, 5_880, 19_600), _grey(0.482), _grey(0.2361), True, True, "30k"),
    Domain(
        "dtd", "DTD", 4, 47, (1_880, 1_880, 1_880), (0.5270, 0.4703, 0.4240), (0.2523, 0.2409, 0.2499), True, True, "4k"
    ),
    Domain(
        "gtsrb",
        "GTSR",
        5,
        43,
        (31_367, 7_842, 12_630),
        (0.3392, 0.3118, 0.3205),
        (0.2756, 0.2658, 0.2709),
        False,
        False,
        "40k",
    ),
    Domain(
        "vgg-flowers",
        "Flwr",
        10,
        102,
        (1_020, 1_020, 6_149),
        (0.4341, 0.3831, 0.2971),
        (0.2851, 0.2384, 0.2640),
        True,
        True,
        "2k",
    ),
    Domain("omniglot", "OGlt", 7, 1623, (17_853, 6_492, 8_115), _grey(0.0810), _grey(0.2705), False, False, "26k"),
    Domain(
        "svhn",
        "SVHN",
        8,
        10,
        (47_217, 26_040, 26_032),
        (0.4377, 0.4438, 0.4728),
        (0.198, 0.201, 0.197),
        False,
        False,
        "70k",
    ),
    Domain(
        "ucf101",
        "UCF",
        9,
        101,
        (7_585, 1_952, 3_783),
        (0.4995, 0.4988, 0.4998),
        (0.1090, 0.1081, 0.1068),
        True,
        True,
        "9k",
    ),
)

DOMAINS: dict[str, Domain] = {domain.name: domain for domain in _TEN}
BACKBONE_DOMAIN = "imagenet12"
"""The domain on which the shared backbone is pretrained."""


def is_valid_name(name: str) -> bool:
    """Whether a user's own domain may have this name: it becomes part of file and column names."""
    return re.fullmatch(r"[a-z0-9-]{1,60}", name) is not None


def category_id(k: int, label: int) -> int:
    """Official category id of class index `label` (0-based) in domain number `k`."""
    return k * 10**7 + label + 1


def image_id(k: int, split: str, number: int) -> int:
    """Official image id; `number` counts a domain's images from 1, through train, val and test."""
    return k * 10**7 + SPLITS.index(split) * 10**5 + number
