"""Prefixes and prompts in attention with rotations, biases and windows, and in torch's own, against formulas."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import VisionTransformer

from tests.entries import assert_count
from visual_decathlon.benchmark.backbones.library import library_network, library_shapes, make_adaptable
from visual_decathlon.benchmark.backbones.structure import shapes_of_body
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import Network
from visual_decathlon.methods.layers.prefix import GatedPrefix, PrefixAttention, new_prefix
from visual_decathlon.methods.layers.sdpa import ReplacedSdpa, use_sdpa
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import SdpaShape

SMALL = "img_size=32,patch_size=8,depth=2,embed_dim=32,num_heads=4"
SWIN = "img_size=32,window_size=2,patch_size=2,embed_dim=24,depths=(2,2),num_heads=(2,4)"
NETWORKS = {
    "plain": f"timm/vit_tiny_patch16_224({SMALL})",
    "norms and gates": f"timm/vit_tiny_patch16_224({SMALL},qk_norm=True,scale_attn_norm=True)",
    "rotations": f"timm/eva02_tiny_patch14_224({SMALL})",
    "DINOv3": f"timm/vit_small_patch16_dinov3({SMALL})",
    "biases of positions": f"timm/beit_base_patch16_224({SMALL})",
    "windows with masks": f"timm/swin_tiny_patch4_window7_224({SWIN})",
}
CAIT = f"timm/cait_xxs24_224({SMALL},depth_token_only=1)"
TWINS = "img_size=32,embed_dims=(16,16,16,16),num_heads=(2,2,2,2),depths=(1,1,1,1),wss=(2,2,2,2)"


def torchvisions_vit() -> Network:
    """Its attention is torch's own, in which no linear layer gives the queries. Its named ViTs have no small form."""
    body = VisionTransformer(32, 8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64)
    body.heads = nn.Identity()
    sites, shapes = shapes_of_body(body, 32)
    make_adaptable(body, sites)
    return Network(body, nn.Linear(32, 3), sites, shapes)


@pytest.fixture(autouse=True)
def _without_torchs_fast_path():
    """Which has a product of its own, that no test can replace."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


@pytest.fixture(scope="module", params=[*NETWORKS, "torch's own"])
def source(request) -> Network:
    """A frozen network in which nothing is at the value of a start that hides it."""
    torch.manual_seed(0)
    own = request.param not in NETWORKS
    network = torchvisions_vit() if own else library_network(NETWORKS[request.param], 3).for_size(32)
    use_sdpa(network)  # as the placed network does, so that a test can replace it in both
    for p in network.parameters():
        nn.init.normal_(p, 0.1, 0.3)
    return network.requires_grad_(False).eval()


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def shares(q, k, mask):
    """The exponents of a softmax, for queries (N, heads, L, c) and keys (N, heads, M, c)."""
    at = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if mask is None:
        return at
    return at.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else at + mask


def written_out(adapters, monkeypatch, gates=None):
    """Replaces torch's product by one with each adapter's keys and values in its turn, without concatenation."""
    turns = iter(range(len(adapters)))

    def product(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
        turn = next(turns)
        heads = k.shape[1]
        keys, values = (x.view(len(x), heads, -1).transpose(0, 1) for x in adapters[turn].prefix())
        own, added = shares(q, k, attn_mask), shares(q, keys, None)
        if gates:
            gate = gates[turn].view(heads, 1, 1)
            return (1 - gate) * own.softmax(-1) @ v + gate * added.softmax(-1) @ values
        largest = torch.maximum(own.amax(-1, True), added.amax(-1, True))
        own, added = (own - largest).exp(), (added - largest).exp()
        return (own @ v + added @ values) / (own.sum(-1, True) + added.sum(-1, True))

    monkeypatch.setattr(F, "scaled_dot_product_attention", product)


@pytest.mark.parametrize("form", ["mlp", "direct", "gated"])
def test_a_prefix_is_the_papers(form: str, source: Network, monkeypatch):
    (method,) = select(
        f"prefix(tokens=5, form={form!r}, hidden=7)" if form == "mlp" else f"prefix(tokens=5, form={form!r})"
    )
    method.check(source.shapes)
    torch.manual_seed(1)
    network = method.place(source, 4).train()
    assert_count(method, network, source, source.shapes, 4)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, 0.5)
    for _ in range(2):
        loss, _ = method.loss(network, images(), torch.arange(3), F.cross_entropy)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert all(bool(p.grad.any()) for p in trained)
    adapters = [m for m in network.eval().modules() if isinstance(m, PrefixAttention)]
    assert len(adapters) == len(source.shapes.sdpas) >= 2
    with torch.no_grad():
        got, plain = network.body(images()), source.body(images())
        written_out(adapters, monkeypatch, [adapter.gate for adapter in adapters] if form == "gated" else None)
        wanted = source.body(images())
    assert float((got - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
    assert not torch.allclose(got, plain, rtol=1e-3)


def noted(seen: list, module: nn.Module, args: tuple, options: dict) -> None:
    seen.append((args, options))


def test_without_a_prefix_attention_is_the_librarys(source: Network):
    """To the bit, with no tokens and with a gate of 0; in training with the same dropout."""
    for shape in source.shapes.sdpas:
        attention, seen = source.get_submodule(shape.name), []
        hook = attention.register_forward_pre_hook(partial(noted, seen), with_kwargs=True)
        with torch.no_grad():
            source.body(images())
        hook.remove()
        ((args, options),) = seen
        none = PrefixAttention(attention, torch.zeros(0, shape.keys), torch.zeros(0, shape.values))
        gated = GatedPrefix(attention, shape.heads, torch.randn(5, shape.keys), torch.randn(5, shape.values))
        for part in attention.modules():
            for dropout in ("attn_drop", "dropout"):
                if isinstance(getattr(part, dropout, None), nn.Dropout):
                    getattr(part, dropout).p = 0.3
                elif isinstance(getattr(part, dropout, None), float):
                    setattr(part, dropout, 0.3)
        for training, adapters in ((False, (none, gated)), (True, (none,))):
            attention.train(training)
            for adapter in adapters:
                torch.manual_seed(1)
                wanted = attention(*args, **options)
                torch.manual_seed(1)
                got = adapter(*args, **options)
                if isinstance(wanted, tuple):
                    (wanted, weights), (got, others) = wanted, got
                    assert weights is others is None
                assert torch.equal(got, wanted), shape.name
        attention.eval()


def test_it_compiles_in_one_graph(source: Network):
    (method,) = select("prefix(tokens=5, form='direct')")
    network = method.place(source, 4).eval()
    with torch.no_grad():
        compiled = torch.compile(network.body, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(images()), network.body(images()), rtol=1e-5, atol=1e-6)


def test_keys_and_values_of_several_widths_and_a_mask_of_booleans():
    """As in attention whose values are wider than its keys; a masked token is not seen, a prefix always."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, q, k, v, mask):
            return F.scaled_dot_product_attention(self.scale * q, k, v, attn_mask=mask)

    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 5)
    adapter = new_prefix(Attention(), SdpaShape("", 3, 12, 15), "direct", 2, None).requires_grad_(False)
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    keys, values = (x.view(2, 3, -1).transpose(0, 1) for x in adapter.prefix())
    own, added = shares(q, k, mask), shares(q, keys, None)
    wanted = torch.cat([added, own], -1).softmax(-1) @ torch.cat([values.expand(2, -1, -1, -1), v], 2)
    assert torch.allclose(adapter(q, k, v, mask), wanted, atol=1e-6)
    assert torch.allclose(adapter(q, k, v, mask.float().log()), wanted, atol=1e-6)
    broadcast = torch.zeros(1, 1, 6, 1)  # a bias a query, which a softmax cancels among the tokens alone
    at = torch.cat([added, shares(q, k, broadcast)], -1)
    wanted = at.softmax(-1) @ torch.cat([values.expand(2, -1, -1, -1), v], 2)
    assert torch.allclose(adapter(q, k, v, broadcast), wanted, atol=1e-6)


REFUSED = {
    "products that are written out, but the class token's": CAIT,
    "channels in place of tokens": "timm/xcit_nano_12_p8_224(img_size=32,depth=2,embed_dim=32,num_heads=4)",
    "windows on an axis of their own": f"timm/twins_svt_small({TWINS})",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_reached_is_refused(name: str):
    shapes = library_shapes(REFUSED[name], 32)
    with pytest.raises(InputError, match=r"which body\..*attn does not call once in a pass with those of tokens"):
        select("prefix")[0].check(shapes)


def test_torchs_own_attention_with_masks_and_weights_stays_torchs():
    """Only what a classifier asks for is computed in another way."""
    torch.manual_seed(0)
    attention, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(2, 5, 8)
    other, mask = torch.randn(2, 3, 8), torch.ones(5, 5, dtype=torch.bool).triu(1)
    called = []

    def product(*args, **options):
        called.append(args)
        return F.scaled_dot_product_attention(*args, **options)

    for words in ((x, x, x), (x, other, other), (x, x, x)):
        for options in ({}, {"need_weights": False}, {"need_weights": False, "attn_mask": mask}):
            if words[1] is other and "attn_mask" in options:
                continue
            wanted = attention(*words, **options)
            with ReplacedSdpa(product):
                got = attention(*words, **options)
            assert torch.allclose(got[0], wanted[0], atol=1e-6) and (got[1] is None) == (wanted[1] is None)
    assert len(called) == 2, "without a mask and weights, of the sequence with itself"


def test_prompts_in_torchvisions_blocks():
    """A block is all that a prompt needs."""
    torch.manual_seed(0)
    source = torchvisions_vit().requires_grad_(False).eval()
    (method,) = select("prompt(tokens=5)")
    assert method.floats(source.shapes) == 2 * 5 * 32
    network, body = method.place(source, 4).eval(), source.body
    with torch.no_grad():
        x = torch.cat([body.class_token.expand(3, -1, -1), body._process_input(images())], 1)
        x = x + body.encoder.pos_embedding
        for block in network.body.encoder.layers:
            mixed = torch.cat([x, block.prompts.expand(3, -1, -1)], 1)  # the order of tokens has no meaning
            x = block.block(mixed)[:, : x.shape[1]]
        wanted = body.encoder.ln(x)[:, 0]
        assert torch.allclose(network.body(images()), wanted, atol=1e-5) and not torch.allclose(body(images()), wanted)
