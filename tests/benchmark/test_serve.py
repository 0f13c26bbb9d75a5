"""Adapters out of their files: the same logits elsewhere, shared weights that stay, one sentence for the rest."""

import gc
import json
import shutil
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from benchmark import networks
from benchmark.cell import _write
from benchmark.cells import Backbone, Cell, Images, Joint
from benchmark.checkpoint import write_safetensors
from benchmark.given import read_given
from benchmark.identity import TRAINING_VERSION, network_digest
from benchmark.images import open_images
from benchmark.profiles import profile
from benchmark.records import read_records
from benchmark.serve import MultiDomain
from benchmark.serving.head import Head
from datasets.catalogue import DOMAINS
from datasets.errors import BadInput
from methods.layers.network import Adapter, Network, own_tensors, restore, stored_tensors
from methods.method import Method
from methods.registry import entries, select

SLIM = ("width=0.125",)
CLASSES = {"dtd": 5, "svhn": 7}


def images(name: str) -> Images:
    return Images(DOMAINS[name], (), "all", "", CLASSES[name], None, 1)


def batch() -> torch.Tensor:
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def moved(network: nn.Module) -> None:
    """As training would leave it: every trained tensor and the domain's statistics are others."""
    for p in network.parameters():
        if p.requires_grad:
            p.add_(0.05 * torch.randn_like(p))
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and not getattr(m, "shared", False)):
        norm.running_mean.add_(0.1 * torch.randn_like(norm.running_mean))
        norm.running_var.mul_(1.5)


class Shop:
    """Backbones in a cache as BACKBONE= leaves them, and the files of domains on them, nothing trained."""

    def __init__(self, root: Path):
        self.root, self.cache = root, root / "cache"
        self.backbones: dict[str, Backbone] = {}

    def backbone(self, structure: str) -> Backbone:
        if structure not in self.backbones:
            torch.manual_seed(len(structure))
            network = networks.build(profile("standin", SLIM), structure, 3)
            moved(network)
            save_file(dict(network.state_dict()), self.root / f"{structure}.safetensors")
            given = read_given(self.root / f"{structure}.safetensors", profile("standin", SLIM), SLIM, self.cache)
            self.backbones[structure] = Backbone(
                given.profile, structure, given.name, self.cache / "backbones", content=given.contents[structure]
            )
        return self.backbones[structure]

    def cell(self, method: Method, name: str, joint: Joint | None = None) -> Cell:
        backbone, shown = self.backbone(method.source), images(name)
        return Cell(method.full_spec, backbone, shown, shown, 0, "val", method.lr, False, joint, method.alone)

    def file(self, method: Method, network: Network, source: Network, name: str, joint: Joint | None = None) -> Path:
        cell, stored = self.cell(method, name, joint), stored_tensors(network, source)
        assert restore(network, source, stored) == ""  # as a cell does: what is evaluated is what the file holds
        _write(cell, method, stored, 32, self.root)
        return self.root / "adapters" / f"{cell.hash}.safetensors"

    def written(self, spec: str, name: str = "dtd") -> tuple[Path, Network]:
        """The file of a domain, and the network that it was written from."""
        (method,) = select(spec)
        source, _ = networks.load(self.backbone(method.source), "cpu")
        source.size = 32
        torch.manual_seed(len(spec))
        network = method.place(source, CLASSES[name])
        moved(network)
        return self.file(method, network, source, name), network.eval()

    def together(self) -> dict[str, tuple[Path, Network]]:
        """Of the method that trains the shared weights too: both domains."""
        (method,) = select("res_adapter_finetune_all")
        backbone = self.backbone("series")
        joint = Joint(method.full_spec, backbone, tuple(map(images, CLASSES)), 0, method.lr)
        source, _ = networks.load(backbone, "cpu")
        torch.manual_seed(9)
        module = method.together(source, CLASSES)
        moved(module)
        write_safetensors(joint.path, own_tensors(module, source), {"method": joint.method})
        return {n: (self.file(method, m, module.trunk, n, joint), m.eval()) for n, m in module.networks.items()}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def lora(shop: Shop) -> Path:
    return shop.written("lora(rank=2)")[0]


@pytest.fixture
def plain(shop: Shop) -> MultiDomain:
    return MultiDomain(shop.backbone("plain").path)


FRESH = """
import json, sys, threading
import torch
from safetensors.torch import load_file, save_file
from benchmark.serve import MultiDomain
job = json.load(open(sys.argv[1]))
x, out = load_file(job["x"])["x"], {}
for backbone, files in job["files"].items():
    net = MultiDomain(backbone)
    for name, file in files.items():
        assert net.load(file, name) == name
    for name in reversed(net.held):
        net.use(name)
        out[name] = net(x).contiguous()

        # In the midst of a pass another thread's pass of other images runs through the same network.
        other, calls, found = x[:3].flip(3), [], []
        wanted = net(other)
        def hook(*_):
            if threading.current_thread() is threading.main_thread():
                calls.append(1)
                if len(calls) == half:
                    thread = threading.Thread(target=lambda: found.append(net(other, name)))
                    thread.start()
                    thread.join()
        half = 0
        leaves = [m for m in net.held[name].network.modules() if not [*m.children()]]
        hooks = [m.register_forward_hook(hook) for m in leaves]
        net(x)
        half, calls = len(calls) // 2, []
        assert torch.equal(net(x), out[name]), name
        assert half and torch.equal(found[0], wanted), name
        for h in hooks:
            h.remove()
save_file(out, job["out"])
"""


def test_every_method_gives_the_same_bits_in_one_fresh_process(shop: Shop, command, tmp_path: Path):
    """All of them held at once, the two domains of a joint training too."""
    x, wanted, files = batch(), {}, {}
    save_file({"x": x}, tmp_path / "x.safetensors")
    for method in (entry() for entry in entries()):
        if method.refusal("resnet26"):
            continue
        made = {"": shop.written(method.name)} if method.alone else shop.together()
        for name, (path, network) in made.items():
            with torch.no_grad():
                wanted[method.name + name] = network(x)
            files.setdefault(str(shop.backbone(method.source).path), {})[method.name + name] = str(path)
    job = {"x": str(tmp_path / "x.safetensors"), "files": files, "out": str(tmp_path / "out.safetensors")}
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = command([sys.executable, "-c", FRESH, str(tmp_path / "job.json")])
    assert done.code == 0, done.err
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == wanted.keys() and len(found) > 35
    for name, logits in wanted.items():
        assert torch.equal(found[name], logits), name


@pytest.mark.parametrize("specs", [("lora(rank=2)", "bn_adapt"), ("piggyback", "par_adapter_svd(rank=2)")])
def test_switching_leaves_the_shared_weights_as_they_are(specs, shop: Shop, plain: MultiDomain):
    """Every tensor of a held domain is the backbone's own storage, or one of what its file stores."""
    before = {name: (t.data_ptr(), t.clone()) for name, t in plain.source.state_dict().items()}
    theirs = {pointer for pointer, _ in before.values()}
    made = {name: shop.written(spec, name) for name, spec in zip(("dtd", "svhn"), specs, strict=True)}
    x = batch()
    for name, (path, _) in made.items():
        assert plain.load(path) == name
    for name in ("dtd", "svhn", "dtd"):
        plain.use(name)
        logits = plain(x)
        assert logits.shape == (6, CLASSES[name]) and not logits.requires_grad
        with torch.no_grad():
            assert torch.equal(logits, made[name][1](x))
    for name, (path, _) in made.items():
        held = plain.held[name]
        assert held.head.domain == name and held.head.classes == CLASSES[name]
        stored = load_file(path)
        assert held.tensors.keys() == stored.keys()
        assert all(torch.equal(held.tensors[n], t) for n, t in stored.items())
        for part, t in held.network.state_dict().items():
            assert (t.data_ptr() in theirs) == (part not in stored), part
    after = plain.source.state_dict()
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


def test_what_serves_needs_nothing_of_training(shop: Shop, plain: MultiDomain):
    """Aids of training are dropped, and the caller's random numbers go on as if nothing had been loaded."""
    path, _ = shop.written("lwf")
    torch.manual_seed(4)
    wanted = torch.rand(3)
    torch.manual_seed(4)
    net = MultiDomain(plain.path)
    net.load(path)
    assert torch.equal(torch.rand(3), wanted)
    assert not net.held["dtd"].network.aids


def test_merged_it_is_a_bare_backbone(shop: Shop, plain: MultiDomain, lora: Path):
    plain.load(lora)
    plain.load(lora, "fast", merge=True)
    plain.use("dtd")
    logits = plain(batch())
    plain.use("fast")
    assert torch.allclose(plain(batch()), logits, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(m, Adapter) for m in plain.held["fast"].network.modules())
    with pytest.raises(BadInput, match="houlsby does not merge; load it without merging"):
        plain.load(shop.written("houlsby")[0], merge=True)


def test_a_domain_held_under_a_name_is_replaced(shop: Shop, plain: MultiDomain, lora: Path):
    plain.use(plain.load(lora))
    first = plain(batch())
    plain.load(shop.written("dora")[0])
    assert list(plain.held) == ["dtd"] and plain.held["dtd"].head.method.startswith("dora(")
    assert not torch.equal(plain(batch()), first)


def test_a_dropped_domain_is_held_no_longer(shop: Shop, plain: MultiDomain, lora: Path):
    for name in ("one", "two"):
        plain.load(lora, name)
    plain.use("one")
    plain.drop("two")
    assert list(plain.held) == ["one"] and plain(batch()).shape == (6, 5)
    plain.drop("one")
    with pytest.raises(BadInput, match="no domain is in use"):
        plain(batch())
    with pytest.raises(BadInput, match="no domain is held as 'one'"):
        plain.drop("one")
    net = MultiDomain(shop.backbone("series").path)
    for path, _ in shop.together().values():
        net.load(path)
    trunk = weakref.ref(net.held["dtd"].source)
    net.drop("dtd")
    assert trunk() is net.held["svhn"].source
    net.drop("svhn")
    gc.collect()
    assert trunk() is None


def test_merged_under_autocast_it_is_the_same(plain: MultiDomain, shop: Shop):
    path, x = shop.written("par_adapter_svd(rank=2)")[0], batch()
    plain.use(plain.load(path, merge=True))
    wanted = plain(x)
    with torch.autocast("cpu", torch.bfloat16):
        plain.load(path, merge=True)
    assert torch.equal(plain(x), wanted)


def test_the_head_says_what_is_needed_to_use_the_file(lora: Path, shop: Shop):
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
    head = Head.of(about, lora)
    assert (head.mean, head.std, head.joint) == (domain.mean, domain.std, None) and head.metadata() == about
    path, _ = shop.together()["dtd"]
    with safe_open(path, "pt") as file:
        assert Head.of(file.metadata(), path).metadata() == file.metadata()
        assert {"joint", "joint_weights"} <= file.metadata().keys()


def test_a_librarys_backbone(tmp_path: Path):
    """Given by BACKBONE=, its file in the cache says what it is."""
    chosen = profile("standin", ("network=torchvision/resnet18",))
    torch.manual_seed(1)
    network = networks.build(chosen, "plain", 4).eval()
    tensors = {n.removeprefix("body.").replace("head.", "fc."): t for n, t in network.state_dict().items()}
    save_file(tensors, tmp_path / "r18.safetensors", {"image_size": "64"})
    given = read_given(tmp_path / "r18.safetensors", chosen, (), tmp_path)
    backbone = Backbone(given.profile, "plain", "r18", tmp_path / "backbones", content=given.contents["plain"])
    with safe_open(backbone.path, "pt") as file:
        about = file.metadata()
    assert about["hash"] == backbone.hash and about["network"] == "torchvision/resnet18"
    assert about["image_size"] == "64" and about["structure"] == "plain" and about["width"] == "0.25"
    net = MultiDomain(backbone.path)
    with torch.no_grad():
        assert torch.equal(net.source(batch()), network(batch()))


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.fixture
def altered(lora: Path, tmp_path: Path) -> Callable[..., Path]:
    """`altered(about, tensors)`: the file of lora with these metadata and tensors in place; None takes one out."""

    def make(about: dict | None = None, tensors: dict | None = None) -> Path:
        with safe_open(lora, "pt") as file:
            heads = file.metadata() | (about or {})
        held = load_file(lora) | (tensors or {})
        path = tmp_path / "altered.safetensors"
        kept = [{k: v for k, v in part.items() if v is not None} for part in (held, heads)]
        save_file(kept[0], path, kept[1])
        return path

    return make


def refused(action: Callable, *words) -> str:
    with pytest.raises(BadInput) as caught:
        action(*words)
    sentence = str(caught.value)
    assert "\n" not in sentence and 20 < len(sentence) < 900, sentence
    return sentence


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"backbone": "0123456789abcdef"}, "holds adapters of the backbone 0123456789abcdef, and "),
        ({"backbone": None}, "is no file of a domain's adapters (Object missing required field `backbone`)"),
        ({"method": "nothing_like_it()"}, "no method is called 'nothing_like_it'"),
        ({"method": "lora(rank=2, alpha='x')"}, "alpha"),
        ({"method": "lora(rank=0)"}, "rank must be 1 or more"),
        ({"method": "lora(rank=100000)"}, "larger than every matrix"),
        ({"method": "lora*"}, "methods are named"),
        ({"method": "prefix"}, "self-attention"),
        ({"method": "res_adapter"}, "res_adapter needs a series backbone, this one is plain"),
        ({"method": "lora(rank=2)\nand more"}, "is not of the form name"),
        ({"method": "(" * 500}, "is not of the form name"),
        ({"method": "lora" * 500}, "at `$.method`"),
        ({"method": "bn_adapt"}, "so it is not what bn_adapt stores"),
        ({"method": "dora"}, "holds fewer numbers than dora stores"),
        ({"method": "par_adapter"}, "holds fewer numbers than par_adapter stores"),
        ({"method": "res_adapter_finetune_all"}, "needs a series backbone"),
        ({"classes": "6"}, "says that it has 6 classes, its head.weight is of shape (5, 32)"),
        ({"classes": "1000000000"}, "says that it has 1000000000 classes"),
        ({"classes": "five"}, "Expected `int`, got `str` - at `$.classes`"),
        ({"classes": "0"}, "at `$.classes`"),
        ({"crop": None}, "missing required field `crop`"),
        ({"mean": "[0.1, 0.2]"}, "at `$.mean`"),
        ({"mean": "["}, "Input data was truncated"),
        ({"mean": "[" * 100_000}, "is no file of a domain's adapters"),
        ({"std": "[0.2, 0, 0.2]"}, "at `$.std[1]`"),
        ({"joint": "../../secret"}, "at `$.joint`"),
        ({"domain": ""}, "at `$.domain`"),
        ({"domain": "dtd\nand more"}, "at `$.domain`"),
        ({"domain": "d" * 1000}, "at `$.domain`"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_head_that_is_not_the_files(about: dict, told: str, altered, plain: MultiDomain):
    path = altered(about)
    sentence = refused(plain.load, path)
    assert told in sentence and sentence.startswith(str(path))
    assert not plain.held


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"head.bias": None}, "lacks head.bias"),
        ({"extra": torch.ones(1)}, "has the unknown extra"),
        ({"head.weight": None}, "its head.weight is of shape (0,)"),
        ({"head.weight": torch.ones(4, 32)}, "says that it has 5 classes, its head.weight is of shape (4, 32)"),
        ({"head.weight": torch.tensor(1.0)}, "is of shape ()"),
        ({"head.bias": torch.ones(6)}, "has head.bias of shape (6,) in float32 where (5,) in float32 belongs"),
        ({"head.bias": torch.ones(5, dtype=torch.float64)}, "has head.bias"),
        ({"head.bias": torch.full((5,), float("nan"))}, "holds NaN or infinity in head.bias"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_tensors_that_are_not_the_methods(tensors: dict, told: str, altered, plain: MultiDomain):
    path = altered(None, tensors)
    sentence = refused(plain.load, path)
    assert told in sentence and str(path) in sentence and "get" in sentence
    assert not plain.held


def test_code_in_the_method_string_is_not_run(altered, plain: MultiDomain, tmp_path: Path):
    target = tmp_path / "made"
    for code in (
        f"lora(rank=open({str(target)!r}, 'w').write('x'))",
        f"__import__('pathlib').Path({str(target)!r}).touch()",
        f"(lambda: open({str(target)!r}, 'w'))()",
    ):
        assert "is not of the form name" in refused(plain.load, altered({"method": code}))
        assert not target.exists()


def test_damaged_and_foreign_files(lora: Path, plain: MultiDomain, tmp_path: Path):
    content, path = lora.read_bytes(), tmp_path / "broken.safetensors"
    assert "check the path" in refused(plain.load, path)
    for damaged in (content[: len(content) // 2], content[:100], b"", b"not a file of weights"):
        path.write_bytes(damaged)
        assert str(path) in refused(plain.load, path)
    torch.save({"head.weight": torch.ones(5, 32)}, path)
    assert "is no file of a domain's adapters" in refused(plain.load, path)
    assert "is no file of a domain's adapters" in refused(plain.load, plain.path)
    assert not plain.held


def test_a_domain_that_is_not_held(plain: MultiDomain, lora: Path):
    assert "no domain is held as 'dtd' (held: none)" in refused(plain.use, "dtd")
    plain.load(lora)
    assert "no domain is held as 'svhn' (held: dtd)" in refused(plain.use, "svhn")
    assert "no domain is in use (held: dtd)" in refused(plain, batch())


def test_a_joint_training_whose_weights_are_not_there(shop: Shop):
    path, _ = shop.together()["dtd"]
    net = MultiDomain(shop.backbone("series").path)
    joint = net.path.with_name(f"{Head.of(safe_open(path, 'pt').metadata(), path).joint}.safetensors")
    whole, tensors = joint.read_bytes(), load_file(joint)
    joint.unlink()
    assert f"put their file {joint.name} beside {net.path}" in refused(net.load, path)
    joint.write_bytes(whole[:1000])
    assert f"{joint} is cut off or damaged" in refused(net.load, path)
    save_file({n: t for n, t in tensors.items() if "stem" not in n}, joint)
    assert f"{joint} lacks trunk.body.stem.conv.conv.weight" in refused(net.load, path)
    joint.write_bytes(whole)
    with safe_open(path, "pt") as file:
        about = file.metadata()
    save_file(load_file(path), path, {k: v for k, v in about.items() if k != "joint"})
    assert "does not say of which joint training" in refused(net.load, path)
    assert not net.held


@pytest.mark.parametrize(
    ("about", "tensors", "told"),
    [
        ({"hash": None}, {}, "missing required field `hash`"),
        ({"width": "wide"}, {}, "at `$.width`"),
        ({"width": "0.1"}, {}, "must be a multiple of 1/32"),
        ({"width": "nan"}, {}, "is no backbone of this suite"),
        ({"width": "30"}, {}, "says width 30, which has 7680 features, and its head reads 32"),
        ({"network": "resnet27"}, {}, "no backbone is called 'resnet27'"),
        ({"network": "torchvision/resnet18"}, {}, "lacks body.conv1.weight"),
        ({"structure": "odd"}, {}, "at `$.structure`"),
        ({"structure": "series"}, {}, "lacks body.stem.conv.conv.weight"),
        ({}, {"head.weight": None}, "has no head.weight"),
        ({}, {"head.bias": torch.full((3,), torch.inf)}, "holds NaN or infinity in head.bias"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_backbone_that_is_none(about: dict, tensors: dict, told: str, plain: MultiDomain, tmp_path: Path):
    with safe_open(plain.path, "pt") as file:
        heads = file.metadata() | about
    kept = [{k: v for k, v in p.items() if v is not None} for p in (load_file(plain.path) | tensors, heads)]
    save_file(kept[0], tmp_path / "odd.safetensors", kept[1])
    sentence = refused(MultiDomain, tmp_path / "odd.safetensors")
    assert told in sentence and str(tmp_path / "odd.safetensors") in sentence


def with_other_weights(path: Path, out: Path) -> None:
    """The same file as another processor would have trained it: the last bits of a weight are others."""
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    name = next(n for n in tensors if n.endswith("stem.conv.conv.weight") or n.endswith("stem.conv.weight"))
    save_file(tensors | {name: tensors[name] * 1.0000002}, out, about)


def test_weights_of_the_same_recipe_that_are_others(shop: Shop, lora: Path, altered, tmp_path: Path):
    """A backbone is named by how it was made, and two processors make two of one name."""
    (tmp_path / "cache").mkdir()
    backbone = tmp_path / "cache" / shop.backbone("plain").path.name
    with_other_weights(shop.backbone("plain").path, backbone)
    net = MultiDomain(backbone)
    assert f"{lora} was trained on other weights than {backbone} holds" in refused(net.load, lora)
    net.load(altered({"weights": None}))  # an older file does not say of which
    path, _ = shop.together()["dtd"]
    with safe_open(path, "pt") as file:
        joint = f"{file.metadata()['joint']}.safetensors"
    series = shop.backbone("series").path
    shutil.copy(series, tmp_path / "cache")
    with_other_weights(series.with_name(joint), tmp_path / "cache" / joint)
    net = MultiDomain(tmp_path / "cache" / series.name)
    assert f"was trained on other weights than {tmp_path / 'cache' / joint} holds" in refused(net.load, path)
    assert not net.held
    MultiDomain(series).load(path)


def test_a_header_that_says_nothing_of_itself(plain: MultiDomain, lora: Path, tmp_path: Path):
    """`"__metadata__": null`, which safetensors reads."""
    content = lora.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]) | {"__metadata__": None}).encode()
    file = tmp_path / "null.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    assert load_file(file).keys() == load_file(lora).keys()
    assert "missing required field" in refused(plain.load, file)
    assert "missing required field" in refused(MultiDomain, file)


def test_a_path_that_no_system_has(plain: MultiDomain):
    assert "cannot be read (embedded null byte)" in refused(plain.load, "a\0b.safetensors")


# --- out of a finished run ----------------------------------------------------------------------------------------


def test_the_files_of_a_run_give_its_records(finished: Path, planned):
    """Adapters of several methods on the run's own backbones: as many images right as the record says."""
    _, _, cells = planned(domains=("dtd",))
    records = {r["hash"]: r for r in read_records([finished / "records"])}
    assert len(cells) == 3
    for cell in cells:
        net = MultiDomain(cell.backbone.path)
        net.use(net.load(finished / "adapters" / f"{cell.hash}.safetensors", merge=True))
        head = net.held["dtd"].head
        batches = open_images(cell.evaluate, cell.profile, 8, "cpu")
        assert (head.crop, head.shorter, head.training) == (batches.crop, 36, TRAINING_VERSION)
        correct = sum(int((net(x).argmax(1) == y).sum()) for x, y in batches.evaluate())
        assert correct == records[cell.hash]["correct"]
