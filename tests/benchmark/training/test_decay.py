"""Weight decay by kind of tensor, and under the optimiser that was released in 2018."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.reference_names import to_reference
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.config.profiles import PROFILES, Recipe
from visual_decathlon.benchmark.training.decay import parameter_groups
from visual_decathlon.methods.joint import DomPred, FinetuneAll
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select

PAPER, MEANT, RELEASED = (PROFILES[n].adapt for n in ("decathlon", "decathlon-2018", "decathlon-2018-released"))
LOW, HIGH = 1e-4, 5e-4
PARTS = ("weight", "bias")


def source_for(method: Method):
    source = resnet26(3, 0.125)
    if method.backbone_structure == "series":
        put_series(source)
    return source.requires_grad_(False).for_size(16)


def placed(spec: str):
    (method,) = select(spec)
    return method, method.place(source_for(method), 4)


def decays(network: nn.Module, method: Method, recipe: Recipe, images: int = 20_000) -> dict[str, float]:
    """Name -> decay, measured: what one step of SGD at a rate of 1 without gradient takes of a tensor of ones."""
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for p in named.values():
            p.fill_(1)
            p.grad = torch.zeros_like(p)
    groups = [{**g, "lr": 1.0} for g in parameter_groups(network, method, recipe, images)]
    torch.optim.SGD(groups, 1.0).step()
    return {name: round(1 - p.mean(dtype=torch.float64).item(), 6) for name, p in named.items()}


def released(sizes: dict[str, tuple[int, ...]]) -> dict[str, float]:
    """Name -> decay, by the rule of the released `sgd.py` with `--wd 5. --wd1x1 1. --wd3x3 1.`."""
    given, out = {3: LOW, 1: LOW}, {}
    now = HIGH
    for name, size in sizes.items():
        if len(size) > 3:
            now = given.get(size[2], now)
        out[name] = now
    return out


@pytest.mark.parametrize("spec", ["par_adapter", "res_adapter", "finetune", "scratch", "bn_adapt", "feature", "lora"])
def test_the_leak_is_that_of_the_released_optimiser(spec: str):
    method, network = placed(spec)
    sizes = {name: tuple(p.shape) for name, p in network.named_parameters() if p.requires_grad}
    found = decays(network, method, RELEASED)
    assert found == released(sizes)
    raised = [name for name, decay in found.items() if decay == HIGH]
    if spec in ("bn_adapt", "feature", "lora"):
        assert raised == list(found), "no convolution is trained, so nothing leaks"
    elif spec == "res_adapter":
        assert raised == ["body.stem.conv.norm.weight", "body.stem.conv.norm.bias"]
    else:
        assert not raised


@pytest.mark.parametrize("spec", ["par_adapter", "res_adapter", "finetune"])
def test_our_tensors_are_in_the_order_of_the_released_network(spec: str):
    """In the order of its constructor: convolution, inner norm, 1x1, norm; layer by layer; last norm; head."""
    _, network = placed(spec)
    buffers = {name for name, _ in network.named_buffers()}
    names = [
        theirs
        for own, theirs in zip(network.state_dict(), _translated(network), strict=True)
        if own not in buffers and network.get_parameter(own).requires_grad
    ]
    parts = {"res_adapter": "bns.0.0.conv.0 bns.0.0.conv.1 bns.0.1", "par_adapter": "parallel_conv.0.conv bns.0"}
    places = ["pre_layers_conv"]
    places += [f"layer{s}.{b}.{c}" for s in (1, 2, 3) for b in range(4) for c in ("conv1", "conv2.1")]
    modules = [f"{place}.{part}" for place in places for part in parts.get(spec, "conv bns.0").split()]
    assert list(dict.fromkeys(name.rpartition(".")[0] for name in names)) == [*modules, "end_bns.0.0", "linears.0"]


def _translated(network: nn.Module) -> list[str]:
    state = network.state_dict()
    place = {id(t): name for name, t in to_reference(state).items()}
    return [place[id(t)] for t in state.values()]


@pytest.mark.parametrize(
    "spec", ["par_adapter", "res_adapter", "finetune", "bn_adapt", "feature", "lora", "lwf", "ssf"]
)
def test_the_meant_decay_tells_norms_and_heads_from_the_rest(spec: str):
    method, network = placed(spec)
    found = decays(network, method, MEANT)
    norms = {f"{path}.{part}" for path, m in network.named_modules() for part in ("weight", "bias") if _norm(m)}
    heads = {f"{path}.{part}" for path in ("head", "aids.old_head") for part in ("weight", "bias")}
    assert found == {name: HIGH if name in norms | heads else LOW for name in found}
    others = {p.dim() for name, p in network.named_parameters() if found.get(name) == LOW}
    assert others == {"bn_adapt": set(), "feature": set(), "lora": {2}, "ssf": {1}}.get(spec, {4})


def _norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d)


@pytest.mark.parametrize("spec", ["finetune", "bn_adapt", "bitfit", "ssf"])
def test_layer_norms_of_a_transformer_are_norms(spec: str):
    """As the batch norms of a ResNet; its linear layers, and the change of a shared norm, have the plain decay."""
    (method,) = select(spec)
    name = "timm/vit_tiny_patch16_224(img_size=32,patch_size=8,depth=1,embed_dim=12,num_heads=2)"
    network = method.place(library_network(name, 3).requires_grad_(False), 4)
    found = decays(network, method, MEANT)
    layer_norms = {f"body.{path}.{part}" for path in ("blocks.0.norm1", "blocks.0.norm2", "norm") for part in PARTS}
    raised = {f"head.{part}" for part in PARTS} | (layer_norms if spec in ("finetune", "bn_adapt") else set())
    assert raised == {name for name, decay in found.items() if decay == HIGH}
    assert set(found.values()) == ({HIGH} if spec == "bn_adapt" else {LOW, HIGH})


def test_a_head_that_is_trained_alone_is_a_head():
    method, network = placed("feature")
    _, head = method.split(network)
    assert decays(head, method, MEANT) == {"weight": HIGH, "bias": HIGH}


def test_joint_modules_have_their_kinds_too():
    method = FinetuneAll()
    module = method.build_joint(source_for(method), {"a": 4, "b": 6})
    found = decays(module, method, MEANT)
    assert found["networks.a.head.weight"] == found["networks.b.body.stem.bn.bias"] == HIGH
    assert found["networks.b.body.stem.conv.mix.weight"] == found["trunk.body.stem.conv.conv.weight"] == LOW
    method = DomPred()
    found = decays(method.build_classifier(source_for(method), 2), method, MEANT)
    assert {found[name] for name in ("layers.1.weight", "layers.1.bias", "head.weight", "head.bias")} == {HIGH}
    assert found["layers.0.weight"] == LOW


def test_methods_keep_their_own_decays():
    method, network = placed("piggyback")
    found = decays(network, method, MEANT)
    assert {decay for name, decay in found.items() if name.endswith(".mask")} == {0}
    assert found["body.stem.bn.weight"] == found["head.bias"] == HIGH
    method, network = placed("res_adapter_decay(factor=3.0, domains=('dtd',))")
    listed, other = (decays(network, method.for_domain(name), MEANT) for name in ("dtd", "svhn"))
    assert (listed["body.stem.conv.mix.weight"], other["body.stem.conv.mix.weight"]) == (0.0003, LOW)
    assert listed["body.stem.bn.weight"] == listed["head.weight"] == HIGH
    leaking = decays(network, method.for_domain("dtd"), RELEASED)  # as `--wd1x1 3.`
    assert {leaking[f"{name}.weight"] for name in ("body.stem.conv.mix", "body.stem.bn", "head")} == {0.0003}


@dataclass(frozen=True)
class Apart(Method):
    """A decay of its own and a rate of its own for the head and the first norm."""

    def groups(self, network, decay, images):
        norm, head = network.values()
        return [
            {"params": [*head.parameters(), norm.weight], "weight_decay": 1e-3, "scale": 0.1, "mark": "mine"},
            {"params": [norm.bias], "weight_decay": 2 * decay},
        ]


@dataclass(frozen=True)
class Marked(Method):
    """One group with an entry of its own."""

    def groups(self, network, decay, images):
        return [{"params": [*network.parameters()], "weight_decay": decay, "mark": "mine"}]


def test_groups_keep_their_other_entries_their_order_and_an_absolute_decay():
    layers = {"conv": nn.Conv2d(2, 2, 3), "norm": nn.BatchNorm2d(2), "head": nn.Linear(2, 3)}
    network = nn.ModuleDict(layers)
    ids = [id(p) for p in network.parameters()]
    low, high = parameter_groups(network, Marked(), MEANT, 10)
    assert [id(p) for group in (low, high) for p in group["params"]] == ids and len(low["params"]) == 2
    assert (low["weight_decay"], high["weight_decay"], low["mark"], high["mark"]) == (LOW, HIGH, "mine", "mine")
    del network["conv"]
    first, second = parameter_groups(network, Apart(), MEANT, 10)
    head, norm = layers["head"], layers["norm"]
    assert [id(p) for p in first["params"]] == [*map(id, (head.weight, head.bias, norm.weight))]
    assert {k: v for k, v in first.items() if k != "params"} == {"weight_decay": 1e-3, "scale": 0.1, "mark": "mine"}
    assert second["params"] == [norm.bias] and second["weight_decay"] == 2 * HIGH


@pytest.mark.parametrize("recipe", [PAPER, PROFILES["standin"].adapt], ids=["decathlon", "standin"])
def test_one_decay_leaves_the_methods_groups_alone(recipe: Recipe, monkeypatch):
    given = [{"params": [], "weight_decay": 0.0}]
    monkeypatch.setattr(Method, "groups", lambda self, network, decay, images: given)
    assert parameter_groups(nn.Linear(1, 1), Method(), recipe, 10) is given
    assert parameter_groups(nn.Linear(1, 1), Method(), replace(recipe, norm_head_decay=2.0), 10) == []
