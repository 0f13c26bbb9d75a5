"""Every entry of the registry runs in a bench: placed, trained, stored, merged, counted, recorded."""

from pathlib import Path

import pytest

from visual_decathlon.benchmark.backbones.library import library_shapes
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.config.backbone_names import canonical
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.report.skipped import misfit
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.methods.registry import select

DOMAIN = "dtd"
SETTINGS = "width=0.25 epochs=1 pretrain.epochs=1 batch=8 pretrain.batch=8 lr=0.01"


@pytest.fixture(scope="module")
def base() -> int:
    return resnet26_shapes(0.25, 32).base


def test_every_entry_runs_and_its_row_has_the_closed_forms(here, tmp_path: Path, base: int):
    done = here("--domains", DOMAIN, method="all,grid", results=tmp_path, settings=SETTINGS)
    assert done.code == 0, done.err
    records = {r["method_full"]: r for r in read_records([tmp_path / "records"]) if r["domain"] == DOMAIN}
    supported = [m for m in select("all,grid") if not m.unsupported_reason("resnet26")]
    assert len(supported) == len({m.full_spec for m in supported}) >= 54
    assert records.keys() == {m.full_spec for m in supported}
    (backbone_macs,) = (r["macs_inference"] for r in records.values() if r["method"] == "feature")
    for method in supported:
        record, shapes = records[method.full_spec], resnet26_shapes(0.25 * method.width_multiplier, 32)
        assert method.least_floats(shapes) <= record["floats"] <= method.floats(shapes), method.spec
        assert record["bits"] == method.bits(shapes), method.spec
        own = record["floats"] + record["bits"] / 32
        par = (shapes.base + method.shared_params(shapes) + method.counted_domains * own) / base
        assert record["multiplier"] == pytest.approx(par, rel=1e-12), method.spec
        assert (record["merge_difference"] is not None) == method.mergeable == record["merged"], method.spec
        assert record["macs_inference"] > 0 and record["macs_train"] > 0, method.spec
        if method.mergeable and not method.has_joint_stage and method.width_multiplier == 1:
            assert record["macs_inference"] == backbone_macs, method.spec
        assert record["history"] and record["bytes"], method.spec


VIT = "timm/vit_tiny_patch16_224(depth=2,embed_dim=48,img_size=32,num_heads=4,patch_size=8)"


@pytest.mark.slow
def test_every_entry_that_fits_runs_on_a_vision_transformer(here, bench, tmp_path: Path):
    settings = f"{SETTINGS} network={canonical(VIT)}".replace("width=0.25", "width=1")
    words = ("--domains", DOMAIN, "--cache", str(tmp_path / "cache"))
    done = here(*words, method="all", results=tmp_path, settings=settings)
    assert done.code == 0, done.err
    records = {r["method_full"]: r for r in read_records([tmp_path / "records"]) if r["domain"] == DOMAIN}
    shapes = library_shapes(canonical(VIT), 32)
    fit = [m for m in select("all") if not misfit(m, canonical(VIT), shapes) and m.width_multiplier == 1]
    assert records.keys() == {m.full_spec for m in fit} and len(fit) >= 60
    (plain,) = (r["macs_inference"] for r in records.values() if r["method"] == "feature")
    for method in fit:
        record = records[method.full_spec]
        assert method.least_floats(shapes) <= record["floats"] <= method.floats(shapes), method.spec
        assert record["bits"] == method.bits(shapes), method.spec
        assert (record["merge_difference"] is not None) == method.mergeable == record["merged"], method.spec
        if method.mergeable and not method.has_joint_stage:
            assert record["macs_inference"] == plain, method.spec
        if not method.has_joint_stage:
            net = MultiDomain(tmp_path / "cache" / "backbones" / f"{record['backbone']}.safetensors")
            name = net.load(tmp_path / "adapters" / f"{record['hash']}.safetensors")
            assert len(net.predict(sorted((bench.data / "data/dtd/val").glob("*.png")), name)) == 12, method.spec
