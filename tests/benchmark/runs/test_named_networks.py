"""Networks of the libraries from end to end: pretrained, adapted, merged, stored, loaded, counted in closed form."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from visual_decathlon.benchmark.backbones.library import library_network, library_shapes
from visual_decathlon.benchmark.config.backbone_names import canonical
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.benchmark.training.macs import image_macs
from visual_decathlon.methods.registry import select

SIDE = 32
METHODS = {"lora(rank=2)": True, "houlsby(bottleneck=2)": False, "finetune": True, "bitfit": True}  # whether it merges
QUICK = (
    "torchvision/squeezenet1_1",
    "torchvision/mobilenet_v2(width_mult=0.25)",
    "timm/vit_tiny_patch16_224(depth=2,embed_dim=24,img_size=32,num_heads=2,patch_size=8)",
)
SMALL = (  # the whole ones run as well, in minutes: they were run when this test was written
    "torchvision/mobilenet_v3_small",
    "torchvision/shufflenet_v2_x1_0",
    "torchvision/resnet18",
    "torchvision/resnet50(width_per_group=8)",
    "torchvision/resnext50_32x4d",
    "torchvision/densenet121",
    "torchvision/efficientnet_b0",
    "timm/convnext_tiny(depths=(1,1,2,1),dims=(16,24,32,40))",
    "timm/mobilenetv1_100",
    "timm/resnet26",
    "timm/regnetx_002",
    "timm/deit_tiny_patch16_224(depth=2,img_size=32,patch_size=8)",
    "timm/swin_tiny_patch4_window7_224(depths=(1,2),embed_dim=24,img_size=32,num_heads=(2,4),patch_size=2,window_size=4)",
    "timm/mixer_s16_224(img_size=32)",
)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SMALL)])
def test_a_network_from_end_to_end(name: str, here, bench, tmp_path: Path):
    methods = {spec: METHODS[spec] for spec in (METHODS if name in QUICK else [*METHODS][:2])}
    settings = f"network={name} epochs=1 pretrain.epochs=1 batch=8 pretrain.batch=8 lr=0.01 pretrain.lr=0.01"
    words = ("--domains", "dtd", "--predictions", "--cache", tmp_path / "cache")
    done = here(*map(str, words), method=",".join(methods), results=tmp_path, settings=settings)
    assert done.code == 0, done.err
    records = {r["method"]: r for r in read_records([tmp_path / "records"]) if r["domain"] == "dtd"}
    assert records.keys() == methods.keys()
    shapes, macs = library_shapes(canonical(name), SIDE), image_macs(library_network(canonical(name), 3), SIDE)
    for spec, merges in methods.items():
        record, (method,) = records[spec], select(spec)
        assert record["floats"] == method.floats(shapes) and record["bits"] == 0, spec
        par = (shapes.base + 9 * record["floats"]) / shapes.base
        assert record["multiplier"] == pytest.approx(par, rel=1e-12), spec
        assert (record["merge_difference"] is not None) == merges, spec
        assert (record["macs_inference"] == macs) == merges and record["macs_train"] >= macs, spec
        net = MultiDomain(tmp_path / "cache" / "backbones" / f"{record['backbone']}.safetensors")
        loaded = net.load(tmp_path / "adapters" / f"{record['hash']}.safetensors", merge=merges)
        rows = pq.read_table(ResultsFolder(tmp_path).predictions(record["hash"])).to_pylist()
        made = [prediction.label + 1 for prediction in net.predict([bench.data / row["file"] for row in rows], loaded)]
        assert made == [row["category_id"] % 10**7 for row in rows] and len(made) == 12, spec
