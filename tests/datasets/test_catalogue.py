"""The catalogue and the archives are compared with the same facts, written down here from independent sources.

They were typed from the official release's documents and the code of the authors of residual adapters; nothing here is
computed from the code under test. A number that is changed in one place only makes a test fail.
"""

from pathlib import Path

import pytest

from visual_decathlon.benchmark.tables.score import ceilings, score
from visual_decathlon.datasets.catalogue import (
    BACKBONE_DOMAIN,
    DOMAINS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    SPLITS,
    category_id,
    image_id,
)
from visual_decathlon.datasets.download import BASE_URL, OFFICIAL, RELEASE

# column, number, classes, train, val, test, mean, standard deviation, flipped, cropped at random, "# images"
FACTS = """
imagenet12    ImNet  6 1000 1232167 49000 48238 .485  .456  .406  .229  .224  .225  yes yes 1.3m
aircraft      Airc.  1  100    3334  3333  3333 .4798 .5107 .5344 .2107 .2051 .2373 yes yes 7k
cifar100      C100   2  100   40000 10000 10000 .5071 .4867 .4408 .2675 .2565 .2761 yes yes 50k
daimlerpedcls DPed   3    2   23520  5880 19600 .482  .482  .482  .2361 .2361 .2361 yes yes 30k
dtd           DTD    4   47    1880  1880  1880 .5270 .4703 .4240 .2523 .2409 .2499 yes yes 4k
gtsrb         GTSR   5   43   31367  7842 12630 .3392 .3118 .3205 .2756 .2658 .2709 no  no  40k
vgg-flowers   Flwr  10  102    1020  1020  6149 .4341 .3831 .2971 .2851 .2384 .2640 yes yes 2k
omniglot      OGlt   7 1623   17853  6492  8115 .0810 .0810 .0810 .2705 .2705 .2705 no  no  26k
svhn          SVHN   8   10   47217 26040 26032 .4377 .4438 .4728 .198  .201  .197  no  no  70k
ucf101        UCF    9  101    7585  1952  3783 .4995 .4988 .4998 .1090 .1081 .1068 yes yes 9k
"""
ROWS = [line.split() for line in FACTS.strip().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_domain_is_as_it_was_published(row: list[str]):
    name, column, k, classes, *rest = row
    counts, colours, (flip, crop, images) = rest[:3], rest[3:9], rest[9:]
    domain = DOMAINS[name]
    assert (domain.name, domain.column, domain.k, domain.classes) == (name, column, int(k), int(classes))
    assert domain.counts == tuple(map(int, counts))
    assert domain.mean + domain.std == tuple(map(float, colours))
    assert (domain.flip, domain.crop) == (flip == "yes", crop == "yes")
    assert domain.paper_images == images and domain.official


def test_the_ten_domains_have_the_order_of_the_papers_columns():
    assert list(DOMAINS) == [row[0] for row in ROWS] and BACKBONE_DOMAIN == "imagenet12"
    assert sorted(DOMAINS) == sorted(DOMAINS, key=lambda name: DOMAINS[name].k), "numbers are alphabetical"
    assert sum(domain.classes for domain in DOMAINS.values()) == 3128
    assert sum(domain.counts[2] for domain in DOMAINS.values()) == 139_760, "entries of a submission"
    assert (IMAGENET_MEAN, IMAGENET_STD) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_ids_are_the_official_ones():
    assert SPLITS == ("train", "val", "test")
    assert (
        category_id(8, 0) == 80_000_001 and category_id(10, 101) == 100_000_102 and category_id(7, 1622) == 70_001_623
    )
    assert image_id(1, "train", 1) == 10_000_001 and image_id(4, "val", 1881) == 40_101_881
    assert image_id(9, "test", 13_320) == 90_213_320


def test_the_archives_are_the_official_ones():
    assert {a.name: (a.bytes, a.sha256) for a in OFFICIAL} == {
        "decathlon-1.0-devkit.tar.gz": (
            23_503_205,
            "f86d9e128678434ff2a3a374f00eb3e2ec2267e15e53ddae5f19ff19378b5ff7",
        ),
        "decathlon-1.0-data.tar.gz": (
            406_351_554,
            "8eca928bda025d855c91a78db45b3b18bc322efd7b1462a041e62c27b3c83c25",
        ),
        "decathlon-1.0-data-imagenet.tar": (
            6_535_075_840,
            "93caac18a907266f917136849c1db7bbf88dd595120af1a8eea7177138962e4a",
        ),
    }
    assert [a.by_hand for a in OFFICIAL] == [False, False, True], "ImageNet's needs an account"
    assert BASE_URL == "https://www.robots.ox.ac.uk/~vgg/share/" and RELEASE == "decathlon-1.0"
    assert sorted(piece for a in OFFICIAL for piece in a.gives) == sorted(
        ["annotations", "code", *(f"data/{row[0]}" for row in ROWS)]
    )


def test_the_score_has_the_published_constants():
    """S = Σ 1000 E_max⁻² max(0, E_max - E)² with E_max twice the baseline's error: 2500 for it, 10,000 at most."""
    same = dict.fromkeys(DOMAINS, 60.0)
    assert ceilings(same) == dict.fromkeys(DOMAINS, 80.0)
    assert score(same, ceilings(same)) == pytest.approx(2500)
    assert score(dict.fromkeys(DOMAINS, 100.0), ceilings(same)) == pytest.approx(10_000)
    assert score(dict.fromkeys(DOMAINS, 10.0), ceilings(same)) == 0, "an error above E_max gives 0, not less"


def test_the_facts_here_are_those_of_the_source(shared: Path):
    """If the source is available: every number of its table, in its order."""
    table = (shared / "decathlon.md").read_text().partition("| domain | column |")[2].partition("\n\n")[0]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert len(lines) == 10
    for (name, column, *numbers, mean, std, flip), row in zip(lines, ROWS, strict=True):
        three = lambda text: [text.split()[0]] * 3 if "×3" in text else text.split()
        counts = [number.replace(",", "") for number in numbers]
        source = [name, column, *counts, *three(mean), *three(std), flip.strip("*")]
        assert source == [row[0], row[1], *row[3:13], row[13]]
