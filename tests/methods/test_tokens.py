"""Prompts and prefixes against a vision transformer written out from its formulas; what refuses them says why."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.entries import assert_count, assert_start
from visual_decathlon.benchmark.backbones.library import library_network, library_shapes
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import Network, copied, restore, stored_tensors
from visual_decathlon.methods.layers.packed import hold_stored
from visual_decathlon.methods.layers.prefix import MlpPrefix, PrefixAttention, TrainedPrefix
from visual_decathlon.methods.layers.tokens import PromptedBlock
from visual_decathlon.methods.registry import select

CLASSES, HEADS, DEPTH, DIM = 4, 4, 3, 32
SMALL = f"img_size=32,patch_size=8,depth={DEPTH},embed_dim={DIM},num_heads={HEADS}"
VIT = f"timm/vit_tiny_patch16_224({SMALL})"
NETWORKS = {
    "class token": VIT,
    "mean of tokens": f"timm/vit_tiny_patch16_224({SMALL},class_token=False,global_pool='avg')",
    "mean without class token": f"timm/vit_tiny_patch16_224({SMALL},global_pool='avg')",
    "norms of queries and keys": f"timm/vit_tiny_patch16_224({SMALL},qk_norm=True)",
    "two class tokens": f"timm/deit_tiny_distilled_patch16_224({SMALL})",
}
SPECS = ("prompt(tokens=5)", "prompt(tokens=5, deep=False)", "prefix(tokens=5, hidden=7)")
SPECS += ("prefix(tokens=5, form='direct')", "prefix(tokens=5, form='gated')")


def method_of(spec: str):
    (method,) = select(spec)
    return method


def source_of(name: str = VIT) -> Network:
    """A frozen network in which nothing is at the value of a start that hides it."""
    torch.manual_seed(0)
    network = library_network(name, 3).for_size(32)
    for p in network.parameters():
        nn.init.normal_(p, 0.1, 0.3)
    return network.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def source() -> Network:
    return source_of()


def trained(spec: str, source: Network, seed: int = 1) -> Network:
    """A placed network after two steps."""
    torch.manual_seed(seed)
    method = method_of(spec)
    network = method.place(source, CLASSES).train()
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        loss, _ = method.loss(network, images(), torch.arange(CLASSES), F.cross_entropy)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def images() -> torch.Tensor:
    return torch.randn(CLASSES, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def layer(t: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ t[f"{name}.weight"].flatten(1).T + t[f"{name}.bias"]


def norm(t: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt() * t[f"{name}.weight"] + t[f"{name}.bias"]


def head_of_he(q, k, v, keys, values):
    """Equation 7 of He et al. 2022 for a head, without concatenation: (1 - λ(x)) Attn(x) + λ(x) softmax(q P_kᵀ) P_v."""
    scale = q.shape[-1] ** -0.5
    own, added = (scale * q @ k.T).exp(), (scale * q @ keys.T).exp()
    share = added.sum(-1, keepdim=True) / (added.sum(-1, keepdim=True) + own.sum(-1, keepdim=True))
    return (1 - share) * (own / own.sum(-1, keepdim=True)) @ v + share * (added / added.sum(-1, keepdim=True)) @ values


def head_of_gate(gate):
    """The same with a learned number in place of λ(x)."""

    def head(q, k, v, keys, values):
        h, of_prefix = ((q @ m.T * q.shape[-1] ** -0.5).softmax(-1) @ w for m, w in ((k, v), (keys, values)))
        return h - gate * h + gate * of_prefix

    return head


def plain_vit(t: dict, image: torch.Tensor, prompts=None, head_of=None) -> torch.Tensor:
    """The features of one image (3, 32, 32), from a state dict; loops over layers and heads, no batch.

    `prompts(layer)` gives tokens (p, d), or None where those of the layer before stay. `head_of(layer, head)` gives
    (q, k, v) -> the head's output.
    """
    patches = image.unfold(1, 8, 8).unfold(2, 8, 8).permute(1, 2, 0, 3, 4).reshape(16, -1)
    x = torch.cat([t["cls_token"][0], layer(t, "patch_embed.proj", patches)]) + t["pos_embed"][0]
    count = 0
    for i in range(DEPTH):
        if prompts is not None and prompts(i) is not None:
            x = torch.cat([x[:1], prompts(i), x[1 + count :]])
            count = len(prompts(i))
        q, k, v = layer(t, f"blocks.{i}.attn.qkv", norm(t, f"blocks.{i}.norm1", x)).chunk(3, -1)
        outs = []
        for h in range(HEADS):
            at = slice(h * DIM // HEADS, (h + 1) * DIM // HEADS)
            head = head_of(i, h, at) if head_of else lambda q, k, v: (q @ k.T * q.shape[-1] ** -0.5).softmax(-1) @ v
            outs.append(head(q[:, at], k[:, at], v[:, at]))
        x = x + layer(t, f"blocks.{i}.attn.proj", torch.cat(outs, -1))
        hidden = F.gelu(layer(t, f"blocks.{i}.mlp.fc1", norm(t, f"blocks.{i}.norm2", x)))
        x = x + layer(t, f"blocks.{i}.mlp.fc2", hidden)
    return norm(t, "norm", x)[0]


def close(got, wanted, within=1e-4):
    return float(((got - wanted).abs().max() / wanted.abs().max()).detach()) < within


def features(network: Network) -> torch.Tensor:
    with torch.no_grad():
        return network.body(images())


@pytest.mark.parametrize("deep", [True, False])
def test_prompts_are_the_papers(deep, source):
    network = trained(f"prompt(tokens=5, deep={deep})", source)
    t, blocks = source.body.state_dict(), network.body.blocks
    assert close(features(source), torch.stack([plain_vit(t, image) for image in images()]))
    learned = [blocks[i].prompts if deep else None for i in range(DEPTH)]
    learned[0] = blocks[0].prompts
    wanted = torch.stack([plain_vit(t, image, lambda i: learned[i]) for image in images()])
    assert close(features(network), wanted) and not close(features(source), wanted, 0.01)


@pytest.mark.parametrize("form", ["mlp", "direct", "gated"])
def test_prefixes_are_the_papers(form, source):
    """Concatenation is He's equation with λ(x); the gated form has a learned λ there."""
    network = trained(f"prefix(tokens=5, form={form!r})", source)
    adapters = [block.attn for block in network.body.blocks]

    def head_of(i, h, at):
        keys, values = (x[:, at] for x in adapters[i].prefix())
        head = head_of_gate(adapters[i].gate[h]) if form == "gated" else head_of_he
        return lambda q, k, v: head(q, k, v, keys, values)

    with torch.no_grad():
        t = source.body.state_dict()
        wanted = torch.stack([plain_vit(t, image, head_of=head_of) for image in images()])
    assert close(features(network), wanted) and not close(features(source), wanted, 1e-3)


def test_the_mlp_is_pefts(source):
    from peft import PrefixTuningConfig
    from peft.tuners.prefix_tuning import PrefixEncoder

    network = trained("prefix(tokens=5, hidden=7)", source)
    config = PrefixTuningConfig(
        prefix_projection=True,
        token_dim=DIM,
        num_layers=DEPTH,
        num_attention_heads=HEADS,
        encoder_hidden_size=7,
        num_virtual_tokens=5,
    )
    theirs = PrefixEncoder(config)
    hidden, outs = network.aids["hidden"], [block.attn.out for block in network.body.blocks]
    with torch.no_grad():
        theirs.embedding.weight.copy_(hidden.embedding.weight)
        theirs.transform[0].load_state_dict(hidden.linear.state_dict())
        theirs.transform[2].weight.copy_(torch.cat([out.weight for out in outs]))
        theirs.transform[2].bias.copy_(torch.cat([out.bias for out in outs]))
        wanted = theirs(torch.arange(5)).view(5, 2 * DEPTH, DIM).unbind(1)
        given = [x for block in network.body.blocks for x in block.attn.prefix()]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(given, wanted, strict=True))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", NETWORKS)
def test_start_count_training_and_file(name, spec):
    """On every kind of pooling. Every trained tensor has a gradient, the source stays, and copies are equal."""
    method, source = method_of(spec), source_of(NETWORKS[name])
    before = {n: t.clone() for n, t in source.state_dict().items()}
    shapes = library_shapes(NETWORKS[name], 32)
    method.check(shapes)
    assert not method.unsupported_reason(NETWORKS[name])
    torch.manual_seed(1)
    fresh = method.place(source, CLASSES).eval()
    assert_count(method, fresh, source, shapes, CLASSES)
    assert_start(method, features(fresh), features(source))
    network = trained(spec, source)
    assert_count(method, network, source, shapes, CLASSES)
    start = dict(fresh.named_parameters())
    for n, p in network.named_parameters():
        assert p.requires_grad == (p.grad is not None and bool(p.grad.any())), n
        assert p.requires_grad or torch.equal(p, start[n]), n
    assert all(torch.equal(t, before[n]) for n, t in source.state_dict().items())
    wanted = features(network)
    for other in (copy.deepcopy(network), copied(network)):
        assert torch.equal(features(other), wanted)
    file = {n: t.clone() for n, t in stored_tensors(network, source).items()}
    other = trained(spec, source, seed=2)
    assert not torch.equal(features(other), wanted)
    assert restore(other, source, file) == "" and torch.equal(features(other), wanted)
    other.aids = nn.ModuleDict()
    hold_stored(other, file)
    assert torch.equal(features(other), wanted)
    for site, module in network.conv_sites():
        assert isinstance(module, nn.Conv2d), site.conv


def test_what_a_domain_holds_in_use_has_no_mlp(source):
    network = trained("prefix(tokens=5, hidden=7)", source)
    file = stored_tensors(network, source)
    names = {f"body.blocks.{i}.attn.{part}" for i in range(DEPTH) for part in ("keys", "values")}
    assert file.keys() == names | {"head.weight", "head.bias"}
    hold_stored(network, file)
    held = [m for m in network.modules() if isinstance(m, PrefixAttention)]
    assert len(held) == DEPTH and not any(isinstance(m, MlpPrefix) for m in held)
    assert all(
        adapter.keys.data_ptr() == file[f"body.blocks.{i}.attn.keys"].data_ptr() for i, adapter in enumerate(held)
    )


@pytest.mark.parametrize("spec", SPECS)
def test_threads_share_a_network(spec, source):
    network = trained(spec, source)
    batches = [torch.randn(2, 3, 32, 32) for _ in range(8)]
    with torch.no_grad():
        wanted = [network(x) for x in batches]

    def logits(x):
        with torch.no_grad():
            return network(x)

    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(a, b) for a, b in zip(pool.map(logits, batches), wanted, strict=True))


@pytest.mark.parametrize("spec", ["prompt(tokens=5)", "prefix(tokens=5, hidden=7)"])
def test_compiles_in_one_graph(spec, source):
    network = trained(spec, source)
    with torch.no_grad():
        compiled = torch.compile(network.body, backend="eager", fullgraph=True)
        assert torch.equal(compiled(images()), network.body(images()))


def test_start_of_prompts_and_prefixes(source):
    """VPT's release: uniform within sqrt(6 / (3 patch² + d)). Other seeds draw other numbers."""
    torch.manual_seed(1)
    blocks = method_of("prompt(tokens=500)").place(source, CLASSES).body.blocks
    bound = (6 / (3 * 64 + DIM)) ** 0.5
    for block in blocks:
        assert isinstance(block, PromptedBlock) and bound * 0.99 < float(block.prompts.detach().abs().max()) <= bound
        assert abs(float(block.prompts.detach().std()) / bound - 3**-0.5) < 0.02
    assert not torch.equal(blocks[0].prompts, blocks[1].prompts)
    first = method_of("prefix(tokens=500, form='direct')").place(source, CLASSES).body.blocks[0].attn
    assert isinstance(first, TrainedPrefix) and abs(float(first.keys.detach().std()) - 0.02) < 1e-3


def test_printed_counts():
    """VPT-deep with 50 tokens on ViT-B/16: 0.46 M. Prefix tuning: 2 L d a token."""
    shapes = library_shapes("timm/vit_base_patch16_224", 224)
    assert shapes.base == 85_798_656 and len(shapes.attentions) == 12
    counts = {
        "prompt(tokens=50)": 50 * 12 * 768,
        "prompt(tokens=50,deep=False)": 50 * 768,
        "prefix(tokens=16)": 2 * 12 * 768 * 16,
        "prefix(tokens=16,form='direct')": 2 * 12 * 768 * 16,
        "prefix(tokens=16,form='gated')": 2 * 12 * 768 * 16 + 12 * 12,
    }
    for spec, count in counts.items():
        method_of(spec).check(shapes)
        assert method_of(spec).floats(shapes) == count and method_of(spec).bits(shapes) == 0
    assert f"{counts['prompt(tokens=50)'] / 1e6:.2f}" == "0.46"


SWIN = "img_size=32,window_size=2,patch_size=2,embed_dim=24,depths=(1,1),num_heads=(2,2)"
ONCE = "does not call once in a pass"
REFUSED = {
    "timm/resnet18": (224, "for self-attention, and this backbone has none", "for self-attention, and this backbone"),
    f"timm/swin_tiny_patch4_window7_224({SWIN})": (32, "any number of tokens", ""),
    "timm/mixer_s32_224": (224, "any number of tokens", "which this backbone does not call"),
    "timm/beit_base_patch16_224(img_size=32,depth=2,embed_dim=32,num_heads=4)": (32, "any number", ""),
    f"timm/vit_tiny_patch16_224({SMALL},attn_layer='diff')": (32, "", f"which body.blocks.0.attn {ONCE}"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_its_shapes(name):
    """In one sentence that names a network which takes it."""
    size, of_prompt, of_prefix = REFUSED[name]
    shapes = library_shapes(name, size)
    for method, reason in ((method_of("prompt"), of_prompt), (method_of("prefix"), of_prefix)):
        assert not method.unsupported_reason(name)
        if not reason:
            method.check(shapes)
            continue
        with pytest.raises(InputError) as caught:
            method.check(shapes)
        sentence = str(caught.value)
        assert sentence.startswith(method.name) and reason in sentence and "vision transformer" in sentence
        assert "network=timm/vit_tiny_patch16_224(img_size=32,patch_size=8)" in sentence and "\n" not in sentence


@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_refused_on_the_resnet(name):
    method, source = method_of(name), resnet26(3, 0.125)
    sentence = method.unsupported_reason("resnet26")
    assert sentence.startswith(f"{name} learns ") and "self-attention, and resnet26 has none" in sentence
    assert "vision transformer (ViT)" in sentence
    before = {n: t.clone() for n, t in source.state_dict().items()}
    with pytest.raises(InputError, match=rf"^{name} learns .* self-attention"):
        method.place(source, 3)
    assert all((t == before[n]).all() for n, t in source.state_dict().items())
    assert all(p.requires_grad for p in source.parameters())


@pytest.mark.parametrize(
    "spec",
    ["prompt(tokens=0)", "prompt(tokens=1001)", "prefix(tokens=0)", "prefix(tokens=1001)", "prefix(hidden=0)"]
    + ["prefix(hidden=8193)", "prefix(form='direct', hidden=7)", "prefix(form='beside')"],
)
def test_options(spec):
    with pytest.raises(InputError, match=r"^(prompt|prefix)\("):
        select(spec)
