"""Methods on the linear layers of a vision transformer against HF PEFT: the same numbers give the same features."""

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_body, library_network
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.registry import select

NAME = "timm/vit_tiny_patch16_224(img_size=32,patch_size=8,depth=2,embed_dim=48,num_heads=3)"
WIDTH, BLOCKS = 48, 2


def set_lora(layer, reference):
    reference.lora_A["default"].weight.copy_(layer.down)
    reference.lora_B["default"].weight.copy_(layer.up)


def set_parts(layer, reference):
    """PEFT has one B A for the fused rows; one of blocks, of as many times the rank, has the same ΔW."""
    reference.lora_A["default"].weight.copy_(layer.down)
    up = reference.lora_B["default"].weight.zero_()
    rank = layer.up.shape[1]
    for number, (part, rows) in enumerate(zip(layer.parts, layer.up.chunk(len(layer.parts)), strict=True)):
        up[part * WIDTH : (part + 1) * WIDTH, number * rank : (number + 1) * rank] = rows


def set_dora(layer, reference):
    set_lora(layer, reference)
    reference.lora_magnitude_vector["default"].weight.copy_(layer.magnitude)


def set_adalora(layer, reference):
    reference.lora_A["default"].copy_(layer.right)
    reference.lora_B["default"].copy_(layer.left)
    reference.lora_E["default"].copy_(layer.values[:, None] * (4 + 1e-5) / 4)  # PEFT divides by rank + 1e-5


def set_loha(layer, reference):
    for theirs, ours in (("w1_a", "up1"), ("w1_b", "down1"), ("w2_a", "up2"), ("w2_b", "down2")):
        getattr(reference, f"hada_{theirs}")["default"].copy_(getattr(layer, ours))


def set_lokr(layer, reference):
    reference.lokr_w1["default"].copy_(layer.left)
    if layer.shapes.rank:
        reference.lokr_w2_a["default"].copy_(layer.up)
        reference.lokr_w2_b["default"].copy_(layer.down)
    else:
        reference.lokr_w2["default"].copy_(layer.right)


def set_hira(layer, reference):
    reference.hira_A["default"].copy_(layer.down)
    reference.hira_B["default"].copy_(layer.up)


def set_oft(layer, reference):
    reference.oft_R["default"].weight.copy_(layer.free)


def set_boft(layer, reference):
    rows, columns = torch.triu_indices(layer.block, layer.block, 1)
    reference.boft_R["default"][..., rows, columns] = 2 * layer.free  # PEFT uses half of R - Rᵀ


def set_hra(layer, reference):
    reference.hra_u["default"].copy_(layer.u)


def set_vera(layer, reference):
    reference.vera_B["default"], reference.vera_A["default"] = _bases(layer)
    reference.vera_lambda_b["default"].copy_(layer.scale * layer.b)
    reference.vera_lambda_d["default"].copy_(layer.d)


def _bases(layer):
    owner = layer.owner[0] if layer.owner else layer
    return owner.first, owner.second  # PEFT takes the first rows and columns for each layer, as we do


def set_ia3(layer, reference):
    vector = reference.ia3_l["default"]
    change = layer.change
    untouched = torch.ones(vector.numel() - len(change))  # queries are not scaled
    assert len(untouched) == (WIDTH if vector.numel() == 3 * WIDTH else 0)
    vector.copy_(torch.cat([untouched, 1 + change]).view_as(vector))


BOFT = {"boft_block_size": 4, "boft_n_butterfly_factor": 2}
CASES = {
    "lora(rank=4,alpha=6.0)": ("LoraConfig", {"r": 4, "lora_alpha": 6}, set_lora),
    "lora(rank=4,alpha=6.0,where='attention')": ("LoraConfig", {"r": 4, "lora_alpha": 6}, set_lora),
    "lora(rank=4,alpha=6.0,where='mlp')": ("LoraConfig", {"r": 4, "lora_alpha": 6}, set_lora),
    "lora(rank=4,alpha=6.0,where='q')": ("LoraConfig", {"r": 4, "lora_alpha": 6}, set_parts),
    "lora(rank=4,alpha=6.0,where='qv')": ("LoraConfig", {"r": 8, "lora_alpha": 12}, set_parts),
    "lora(rank=4,alpha=6.0,where='qkv')": ("LoraConfig", {"r": 12, "lora_alpha": 18}, set_parts),
    "dora(rank=4,alpha=6.0)": ("LoraConfig", {"r": 4, "lora_alpha": 6, "use_dora": True}, set_dora),
    "adalora(rank=4,target=2,alpha=6.0)": (
        "AdaLoraConfig", {"init_r": 4, "target_r": 2, "lora_alpha": 6, "total_step": 10, "tinit": 1, "tfinal": 5},
        set_adalora,
    ),
    "loha(rank=3,alpha=6.0)": ("LoHaConfig", {"r": 3, "alpha": 6}, set_loha),
    "lokr(rank=2,alpha=3.0)": ("LoKrConfig", {"r": 2, "alpha": 3}, set_lokr),
    "lokr(rank=8,alpha=4.0)": ("LoKrConfig", {"r": 8, "alpha": 4}, set_lokr),
    "hira(rank=3)": ("HiraConfig", {"r": 3}, set_hira),
    "oft(block=8)": ("OFTConfig", {"r": 0, "oft_block_size": 8, "use_cayley_neumann": False}, set_oft),
    "boft(block=4,factors=2)": ("BOFTConfig", BOFT, set_boft),
    "hra(rank=4)": ("HRAConfig", {"r": 4}, set_hra),
    "vera(rank=20)": ("VeraConfig", {"r": 20}, set_vera),
    "ia3": ("IA3Config", {"feedforward_modules": r".*mlp\.fc2"}, set_ia3),
}  # fmt: skip


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    network = library_network(NAME, 3).for_size(32).requires_grad_(False).eval()
    for layer in (m for m in network.body.modules() if getattr(m, "linear", False)):
        layer.weight.mul_(5)  # timm's start is so small that attention is nearly even, and its biases are zero
        layer.bias.normal_(std=0.3)
    return network


def moved(spec: str, source):
    """The method's network with the tensors of every adapter in the blocks changed, and those adapters by path."""
    (method,) = select(spec)
    torch.manual_seed(1)
    network = method.place(source, 4).eval()
    adapters = {
        path: module
        for path, module in ((site.conv, network.get_submodule(site.conv)) for site in network.sites)
        if path.startswith("body.blocks.") and hasattr(module, "conv")
    }
    for adapter in adapters.values():
        for p in adapter.parameters():
            if p.requires_grad:
                p.data += 0.1 * torch.randn_like(p)
    return network, {path.removeprefix("body."): adapter for path, adapter in adapters.items()}


def reference_of(config_name: str, options: dict, source, paths: list[str]):
    """PEFT's model of timm's own network with the source's weights, with adapters at these layers alone."""
    peft = pytest.importorskip("peft")
    body = library_body(NAME)
    linear = {f"{name}.weight" for name, m in body.named_modules() if isinstance(m, nn.Linear)}
    state = {n: t.flatten(1) if n in linear else t for n, t in source.body.state_dict().items()}
    body.load_state_dict(state)
    pattern = "|".join(path.replace(".", r"\.") for path in paths)
    config = getattr(peft, config_name)(target_modules=pattern, **options)
    return peft.get_peft_model(body.eval(), config).eval()


@pytest.mark.parametrize("spec", CASES)
@pytest.mark.filterwarnings("ignore")
def test_features_are_pefts(spec, source, monkeypatch):
    config, options, fill = CASES[spec]
    if config == "BOFTConfig":
        _without_its_cuda_kernel(monkeypatch)
    network, adapters = moved(spec, source)
    model = reference_of(config, options, source, list(adapters))
    with torch.no_grad():
        for path, adapter in adapters.items():
            fill(adapter, model.base_model.model.get_submodule(path))
        x = torch.randn(3, 3, 32, 32)
        wanted, start = model(x), source.body(x)
        assert float((wanted - start).abs().max()) > 0.05 * float(start.abs().max())
        torch.testing.assert_close(network.body(x), wanted, rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(merge_for_inference(network).body(x), wanted, rtol=1e-4, atol=2e-5)


def _without_its_cuda_kernel(monkeypatch):
    """PEFT's own butterflies; its CUDA kernel, which only lays blocks on a diagonal, in PyTorch."""
    pytest.importorskip("peft")
    from peft.tuners.boft import layer as module

    class Diagonal:
        apply = staticmethod(lambda blocks: torch.stack([torch.block_diag(*each) for each in blocks]))

    monkeypatch.setattr(module, "get_fbd_cuda", lambda: True)
    monkeypatch.setattr(module, "FastBlockDiag", Diagonal)


@pytest.mark.parametrize("spec", CASES)
def test_the_adapted_layers_of_the_blocks(spec, source):
    """All four linear layers of a block, or those that the method or its option `where` names."""
    _, adapters = moved(spec, source)
    attention, mlp = ("attn.qkv", "attn.proj"), ("mlp.fc1", "mlp.fc2")
    layers = (*attention, *mlp)
    if spec == "ia3":
        layers = ("attn.qkv", "mlp.fc2")
    elif "where" in spec:
        layers = attention if "attention" in spec else mlp if "mlp" in spec else ("attn.qkv",)
    assert sorted(adapters) == sorted(f"blocks.{i}.{layer}" for i in range(BLOCKS) for layer in layers)
