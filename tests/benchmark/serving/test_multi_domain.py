"""ImagesInMemory domains give the logits of their runs in any process, on shared weights that never change."""

import gc
import json
import sys
import weakref
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.benchmark.shop import CLASSES, Shop, batch
from visual_decathlon.benchmark.backbones.build import build
from visual_decathlon.benchmark.config.identity import TRAINING_VERSION, network_digest
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.config.specs import Backbone
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.runs.user_backbone import read_user_backbone
from visual_decathlon.benchmark.serving.metadata import AdapterMetadata
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.benchmark.training.loader import open_images
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.registry import entries, select

FRESH = """
import json, sys, threading
import torch
from safetensors.torch import load_file, save_file
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
job = json.load(open(sys.argv[1]))
x, out = load_file(job["x"])["x"], {}
for backbone, files in job["files"].items():
    net = MultiDomain(backbone)
    for name, file in files.items():
        assert net.load(file, name) == name
    for name in reversed(net.held):
        net.use(name)
        out[name] = net(x).contiguous()

        # During a forward pass another thread computes other images in the same network.
        other, calls, results = x[:3].flip(3), [], []
        wanted = net(other)
        def hook(*_):
            if threading.current_thread() is threading.main_thread():
                calls.append(1)
                if len(calls) == half:
                    thread = threading.Thread(target=lambda: results.append(net(other, name)))
                    thread.start()
                    thread.join()
        half = 0
        leaves = [m for m in net.held[name].network.modules() if not [*m.children()]]
        hooks = [m.register_forward_hook(hook) for m in leaves]
        net(x)
        half, calls = len(calls) // 2, []
        assert torch.equal(net(x), out[name]), name
        assert half and torch.equal(results[0], wanted), name
        for h in hooks:
            h.remove()
save_file(out, job["out"])
"""


@pytest.mark.slow
def test_every_method_gives_the_same_bits_in_one_fresh_process(shop: Shop, command, tmp_path: Path):
    """All of them loaded at once, with the two domains of a joint training."""
    x, wanted, files = batch(), {}, {}
    save_file({"x": x}, tmp_path / "x.safetensors")
    for method in (entry() for entry in entries()):
        if method.unsupported_reason("resnet26"):
            continue
        made = {"": shop.written(method.name)} if method.trains_per_domain else shop.together(method.name)
        for name, (path, network) in made.items():
            with torch.no_grad():
                wanted[method.name + name] = network(x)
            files.setdefault(str(shop.backbone(method.backbone_structure).path), {})[method.name + name] = str(path)
    job = {"x": str(tmp_path / "x.safetensors"), "files": files, "out": str(tmp_path / "out.safetensors")}
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = command([sys.executable, "-c", FRESH, str(tmp_path / "job.json")])
    assert done.code == 0, done.err
    results = load_file(tmp_path / "out.safetensors")
    assert results.keys() == wanted.keys() and len(results) > 35
    for name, logits in wanted.items():
        assert torch.equal(results[name], logits), name


@pytest.mark.parametrize("specs", [("lora(rank=2)", "bn_adapt"), ("piggyback", "par_adapter_svd(rank=2)")])
def test_switching_leaves_the_shared_weights_as_they_are(specs, shop: Shop, multi: MultiDomain):
    """Every tensor of a loaded domain is the backbone's own storage, or one that its file stores."""
    before = {name: (t.data_ptr(), t.clone()) for name, t in multi.source.state_dict().items()}
    shared = {pointer for pointer, _ in before.values()}
    made = {name: shop.written(spec, name) for name, spec in zip(("dtd", "svhn"), specs, strict=True)}
    x = batch()
    for name, (path, _) in made.items():
        assert multi.load(path) == name
    for name in ("dtd", "svhn", "dtd"):
        multi.use(name)
        logits = multi(x)
        assert logits.shape == (6, CLASSES[name]) and not logits.requires_grad
        with torch.no_grad():
            assert torch.equal(logits, made[name][1](x))
    for name, (path, _) in made.items():
        held = multi.held[name]
        assert held.metadata.domain == name and held.metadata.classes == CLASSES[name]
        stored = load_file(path)
        assert held.tensors.keys() == stored.keys()
        assert all(torch.equal(held.tensors[n], t) for n, t in stored.items())
        for part, t in held.network.state_dict().items():
            assert (t.data_ptr() in shared) == (part not in stored), part
    after = multi.source.state_dict()
    assert all(after[n].data_ptr() == pointer and torch.equal(after[n], t) for n, (pointer, t) in before.items())


def test_domains_of_a_joint_training_share_its_weights(shop: Shop):
    net = MultiDomain(shop.backbone("series").path)
    before = {name: t.clone() for name, t in net.source.state_dict().items()}
    for path, _ in shop.together().values():
        net.load(path)
    net.load(shop.written("res_adapter")[0], "another method's")
    trunk = {t.data_ptr() for n, t in net.held["dtd"].source.state_dict().items() if n.endswith("conv.conv.weight")}
    for name in ("dtd", "svhn", "another method's"):
        held = {t.data_ptr() for n, t in net.held[name].network.state_dict().items() if n.endswith("conv.conv.weight")}
        assert held == trunk if name in CLASSES else held.isdisjoint(trunk)
    assert all(torch.equal(t, before[n]) for n, t in net.source.state_dict().items())


REMADE = ["vera(rank=8)", "randlora", "fourierft(count=50)", "delora", "shira", "filter_atoms", "lora(init='pissa')"]
REMADE += ["quantised(method='fourierft(count=300)', store='1bit', block=8)"]


@pytest.mark.parametrize("spec", [*REMADE[:2], *(pytest.param(s, marks=pytest.mark.slow) for s in REMADE[2:])])
def test_domains_share_what_their_method_computes_again(spec: str, shop: Shop):
    """What no file holds is in memory once for all domains of a method, until the last of them is dropped."""
    net, x = MultiDomain(shop.backbone("plain").path), batch()
    made = {name: shop.written(spec, name) for name in ("dtd", "svhn")}
    alone = MultiDomain(net.path)
    for name, (path, _) in made.items():
        net.load(path)
        alone.load(path)
        with torch.no_grad():
            assert torch.equal(net(x, name), made[name][1](x))
    known = [weakref.ref(t) for t in net._made.values()]
    assert known and len({ref().data_ptr() for ref in known}) == len(known)
    remade = [
        {n: t.data_ptr() for n, t in held.tensors.items() if n not in load_file(made[name][0])}
        for name, held in net.held.items()
    ]
    assert remade[0] == remade[1] and (
        "quantised" in spec or set(remade[0].values()) == {t().data_ptr() for t in known}
    )
    mine = {id(t) for ref in known for t in [ref()]}
    assert not mine & {id(t) for t in alone._made.values()}, "another object shares nothing"
    net.drop("dtd")
    gc.collect()
    assert all(ref() is not None for ref in known)
    net.drop("svhn")
    gc.collect()
    assert all(ref() is None for ref in known)


def test_loading_keeps_nothing_of_training(shop: Shop, multi: MultiDomain):
    """Modules for training are dropped, and the caller's random numbers continue as if nothing had been loaded."""
    path, _ = shop.written("lwf")
    torch.manual_seed(4)
    wanted = torch.rand(3)
    torch.manual_seed(4)
    net = MultiDomain(multi.path)
    net.load(path)
    assert torch.equal(torch.rand(3), wanted)
    assert not net.held["dtd"].network.aids


def test_a_merged_domain_has_no_adapter(shop: Shop, multi: MultiDomain, lora: Path):
    multi.load(lora)
    multi.load(lora, "fast", merge=True)
    multi.use("dtd")
    logits = multi(batch())
    multi.use("fast")
    assert torch.allclose(multi(batch()), logits, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(m, Adapter) for m in multi.held["fast"].network.modules())
    with pytest.raises(InputError, match="houlsby does not merge; load it without merging"):
        multi.load(shop.written("houlsby")[0], merge=True)


def test_a_domain_loaded_under_a_name_is_replaced(shop: Shop, multi: MultiDomain, lora: Path):
    multi.use(multi.load(lora))
    first = multi(batch())
    multi.load(shop.written("dora")[0])
    assert list(multi.held) == ["dtd"] and multi.held["dtd"].metadata.method.startswith("dora(")
    assert not torch.equal(multi(batch()), first)


def test_a_dropped_domain_is_released(shop: Shop, multi: MultiDomain, lora: Path):
    for name in ("one", "two"):
        multi.load(lora, name)
    multi.use("one")
    multi.drop("two")
    assert list(multi.held) == ["one"] and multi(batch()).shape == (6, 5)
    multi.drop("one")
    with pytest.raises(InputError, match="no domain is in use"):
        multi(batch())
    with pytest.raises(InputError, match="no domain is loaded as 'one'"):
        multi.drop("one")
    net = MultiDomain(shop.backbone("series").path)
    for path, _ in shop.together().values():
        net.load(path)
    trunk = weakref.ref(net.held["dtd"].source)
    net.drop("dtd")
    assert trunk() is net.held["svhn"].source
    net.drop("svhn")
    gc.collect()
    assert trunk() is None


def test_merged_under_autocast_it_is_the_same(multi: MultiDomain, shop: Shop):
    path, x = shop.written("par_adapter_svd(rank=2)")[0], batch()
    multi.use(multi.load(path, merge=True))
    wanted = multi(x)
    with torch.autocast("cpu", torch.bfloat16):
        multi.load(path, merge=True)
    assert torch.equal(multi(x), wanted)


def test_the_metadata_of_an_adapter_file(lora: Path, shop: Shop):
    with safe_open(lora, "pt") as file:
        about = file.metadata()
    domain = DOMAINS["dtd"]
    assert about == {
        "method": select("lora(rank=2)")[0].full_spec,
        "backbone": shop.backbone("plain").hash,
        "domain": "dtd",
        "classes": "5",
        "mean": json.dumps(domain.mean),
        "std": json.dumps(domain.std),
        "crop": "32",
        "shorter": "36",
        "training": str(TRAINING_VERSION),
        "weights": network_digest(load_file(shop.backbone("plain").path)),
    }
    head = AdapterMetadata.parse(about, lora)
    assert (head.mean, head.std, head.joint) == (domain.mean, domain.std, None) and head.metadata() == about
    path, _ = shop.together()["dtd"]
    with safe_open(path, "pt") as file:
        assert AdapterMetadata.parse(file.metadata(), path).metadata() == file.metadata()
        assert {"joint", "joint_weights"} <= file.metadata().keys()


def test_a_librarys_backbone(tmp_path: Path):
    """Given by BACKBONE=; its file in the cache has the metadata that serving needs."""
    chosen = profile("standin", ("network=torchvision/resnet18",))
    torch.manual_seed(1)
    network = build(chosen, "plain", 4).eval()
    tensors = {n.removeprefix("body.").replace("head.", "fc."): t for n, t in network.state_dict().items()}
    save_file(tensors, tmp_path / "r18.safetensors", {"image_size": "64"})
    given = read_user_backbone(tmp_path / "r18.safetensors", chosen, (), tmp_path)
    backbone = Backbone(given.profile, "plain", "r18", tmp_path / "backbones", content=given.weight_hashes["plain"])
    with safe_open(backbone.path, "pt") as file:
        about = file.metadata()
    assert about["hash"] == backbone.hash and about["network"] == "torchvision/resnet18"
    assert about["image_size"] == "64" and about["structure"] == "plain" and about["width"] == "1.0"
    net = MultiDomain(backbone.path)
    with torch.no_grad():
        assert torch.equal(net.source(batch()), network(batch()))


def test_the_files_of_a_run_give_its_records(finished: Path, planned):
    """Adapters of several methods on the runs' own backbones: as many images right as in the records."""
    _, _, runs = planned(domains=("dtd",))
    records = {r["hash"]: r for r in read_records([finished / "records"])}
    assert len(runs) == 3
    for run in runs:
        net = MultiDomain(run.backbone.path)
        net.use(net.load(finished / "adapters" / f"{run.hash}.safetensors", merge=True))
        head = net.held["dtd"].metadata
        batches = open_images(run.evaluate, run.profile, 8, "cpu")
        assert (head.crop, head.shorter, head.training) == (batches.crop, 36, TRAINING_VERSION)
        correct = sum(int((net(x).argmax(1) == y).sum()) for x, y in batches.evaluate())
        assert correct == records[run.hash]["correct"]
