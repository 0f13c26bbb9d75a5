"""The trial of networks by name: a line for each that runs, and the reason of each other one."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.perf.networks import DEFAULT
from visual_decathlon.benchmark.training.evaluate import TOLERANCE

WRONG = "timm/resnet10t(nothing=1)"
SMALL = "timm/vit_tiny_patch16_224(depth=2,embed_dim=24,img_size=16,patch_size=8)"


def test_which_networks_run(tmp_path: Path, capsys):
    assert main(["networks", "--network", f"{SMALL},{WRONG}", "--results", str(tmp_path)]) == 0
    fails, runs = pq.read_table(tmp_path / "networks.parquet").to_pylist()
    assert (runs["network"], runs["runs"], runs["reason"], runs["size"]) == (SMALL, True, "", 16)
    assert (runs["layers"], runs["batch_norms"], runs["other_norms"], runs["blocks"]) == (9, 0, 5, "2")
    assert runs["parameters"] == 2 * 12 * 24**2 + 2 * 13 * 24 + 3 * 64 * 24 + 24 + 2 * 24 + 6 * 24
    assert runs["difference"] < 1e-5 and "depthwise" in json.loads(runs["refused"])
    assert (fails["runs"], fails["size"]) == (False, None) and "timm does not build it" in fails["reason"]
    text = (tmp_path / "networks.md").read_text()
    assert "1 of 2 networks run" in text and "- timm/resnet10t(nothing=1): timm does not build it" in text


def test_the_tables_keep_other_networks(tmp_path: Path):
    for name in (SMALL, WRONG, SMALL):
        assert main(["networks", "--network", name, "--results", str(tmp_path)]) == 0
    names = [row["network"] for row in pq.read_table(tmp_path / "networks.parquet").to_pylist()]
    assert names == [WRONG, SMALL]


def test_a_network_without_a_layer_that_can_be_adapted(tmp_path: Path):
    """The convolutions of NF-ResNets compute their weights themselves."""
    name = "timm/nf_resnet26"
    assert main(["networks", "--network", name, "--results", str(tmp_path)]) == 0
    (row,) = pq.read_table(tmp_path / "networks.parquet").to_pylist()
    assert row["runs"] and row["layers"] == 0
    refused = json.loads(row["refused"])
    assert all(
        "of this backbone: it calls none as a module" in refused[name] for name in ("lora", "dora", "par_adapter")
    )


def test_the_committed_table_has_every_network_of_the_default():
    folder = Path(__file__).parents[3] / "results" / "networks"
    rows, text = pq.read_table(folder / "networks.parquet").to_pylist(), (folder / "networks.md").read_text()
    assert {row["network"] for row in rows} >= set(DEFAULT) and len(DEFAULT) >= 40 + 17
    for row in rows:
        assert row["runs"] == (not row["reason"]) and row["network"] in text
        if row["runs"]:
            assert row["methods"] > 0 and row["tried"] and 0 <= row["difference"] <= TOLERANCE
    assert f"{sum(row['runs'] for row in rows)} of {len(rows)} networks run" in text


def test_a_name_of_no_form(tmp_path: Path, capsys):
    assert main(["networks", "--network", "vit", "--results", str(tmp_path)]) == 2
    assert "name its library too" in capsys.readouterr().err and not [*tmp_path.iterdir()]


def test_a_name_that_no_library_lists(tmp_path: Path, capsys):
    """It is refused before anything is tried."""
    assert main(["networks", "--network", "timm/resnet10t,timm/vit_tinny", "--results", str(tmp_path)]) == 2
    assert "timm has no classifier of that name; did you mean timm/" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
