"""What results/README.md says of the runs on real images follows from the records in results/real."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmark.report.over_seeds import cell, points
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.datasets.catalogue import DOMAINS

RESULTS = Path(__file__).parents[3] / "results"
SEEDS = range(5)
NETWORKS = ("resnet26", "timm/vit_tiny_patch16_224", "torchvision/mobilenet_v2")


def on(record: dict, network: str) -> bool:
    """Whether it is of a run on the network of this name, with whatever arguments."""
    return json.loads(record["settings"])["network"].partition("(")[0] == network


@pytest.fixture(scope="module")
def records() -> dict[tuple[str, int, str], dict]:
    """Those of the ResNet-26 whose weights were given; the table of backbones has those that were pretrained here."""
    of_given = [r for r in read_records([RESULTS / "real"]) if r["backbone_source"] != "pretrained"]
    found = {(r["method"], r["seed"], r["domain"]): r for r in of_given}
    assert set(found) == {(m, s, d) for m in ("finetune", "joint_signs") for s in SEEDS for d in DOMAINS}
    assert {(r["data"], r["split"]) for r in found.values()} == {("decathlon-mini", "val")}
    return found


def test_the_sentences_on_real_images(records):
    page = (RESULTS / "README.md").read_text(encoding="utf-8").split("On real images (")[1].split("\n\n")[0]
    page = " ".join(page.split())
    errors = {key: 100 - r["top1"] for key, r in records.items()}
    largest = {d: 2 * np.mean([errors["finetune", s, d] for s in SEEDS]) for d in DOMAINS}
    parts = {key: points(error, largest[key[2]]) for key, error in errors.items()}
    mean = {m: np.array([100 - np.mean([errors[m, s, d] for d in DOMAINS]) for s in SEEDS]) for m, _, _ in records}
    score = {m: np.array([sum(parts[m, s, d] for d in DOMAINS) for s in SEEDS]) for m, _, _ in records}
    for values, digits in ((mean, 1), (score, 0)):
        both = [cell(values[m], digits) for m in ("joint_signs", "finetune")]
        between = cell(values["joint_signs"] - values["finetune"], digits, len(SEEDS) ** 0.5)
        between = between.replace("-", "−") if between.startswith("-") else f"+{between}"
        assert f"{both[0]} where `finetune` has {both[1]} ({between})" in page
    (par,) = {f"{r['multiplier']:.2f}" for (m, _, _), r in records.items() if m == "joint_signs"}
    assert f"at a #par. of {par}" in page
    domain = "daimlerpedcls"
    lost = np.mean([parts["finetune", s, domain] - parts["joint_signs", s, domain] for s in SEEDS])
    total = np.mean(score["finetune"] - score["joint_signs"])
    assert f"{lost:.0f} of the {total:.0f} are lost on pedestrians" in page
    images = records["finetune", 0, domain]["eval_images"]
    wrong = [np.mean([errors[m, s, domain] for s in SEEDS]) * images / 100 for m in ("finetune", "joint_signs")]
    assert f"of whose {images} images `finetune` errs on {wrong[0]:.1f} and `joint_signs` on {wrong[1]:.1f}" in page
    times = {m: sum(r["cpu_seconds"] or 0 for (name, _, _), r in records.items() if name == m) for m in mean}
    assert f"takes {times['joint_signs'] / times['finetune']:.1f} times the processor time" in page


def test_the_table_of_backbones(records):
    """Two methods on ten domains, one seed, and the accuracy of the backbone on the domain it was pretrained on."""
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    rows = [
        "| backbone | parameters | ImNet | `lora` | #par. of `lora` | `finetune` |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for network in NETWORKS:
        found = [r for r in read_records([RESULTS / "real"]) if on(r, network) and r["backbone_source"] == "pretrained"]
        assert {(r["method"], r["domain"]) for r in found} == {(m, d) for m in ("finetune", "lora") for d in DOMAINS}
        assert {(r["data"], r["split"], r["seed"]) for r in found} == {("decathlon-mini", "val", 0)} and len(
            found
        ) == 20
        mean = {m: np.mean([r["top1"] for r in found if r["method"] == m]) for m in ("finetune", "lora")}
        (source,) = {(r["train_images"], r["top1"]) for r in found if r["source_cell"]}
        (base,) = {r["base_floats"] for r in found}
        (par,) = {r["multiplier"] for r in found if r["method"] == "lora"}
        name, of_lora = network.rpartition("/")[2], f"{mean['lora']:.1f} | {par:.2f}"
        rows.append(f"| {name} | {base / 1e3:.0f} k | {source[1]:.1f} | {of_lora} | {mean['finetune']:.1f} |")
        assert source[0] == 1200
    assert "\n".join(rows) == text.split("<!-- real: begin -->\n")[1].split("\n<!-- real: end -->")[0]
    others = np.mean([r["top1"] for (m, _, _), r in records.items() if m == "finetune"])
    assert f"has {others:.1f}.\n\n### Stand-ins" in text
