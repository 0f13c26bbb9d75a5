"""Networks of torchvision and timm with random weights, their state dicts as files, and what the suite reads."""

import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from visual_decathlon.benchmark.backbones.build import build, load_strict
from visual_decathlon.benchmark.backbones.weights import read_weights
from visual_decathlon.benchmark.config.backbone_names import split_name
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.runs.user_backbone import UserBackbone, read_user_backbone
from visual_decathlon.methods.layers.network import Network

VIT = "timm/vit_tiny_patch16_224(img_size=32,patch_size=8,depth=2,embed_dim=48)"


def library_model(name: str, classes: int = 5, seed: int = 0, **changes) -> nn.Module:
    """The library's own network of this name in eval mode; no parameter or statistic is at its start."""
    library, model, arguments = split_name(name)
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "timm":
            import timm

            whole = timm.create_model(model, num_classes=classes, **arguments | changes)
        else:
            from torchvision import models

            whole = models.get_model(model, weights=None, num_classes=classes, **arguments | changes)
    with torch.no_grad():
        for name, tensor in whole.state_dict().items():
            if name.endswith("running_var"):
                tensor.mul_(0.5 + torch.rand(tensor.shape))
            elif tensor.is_floating_point():
                tensor.add_(0.02 * torch.randn(tensor.shape))
    return whole.eval()


def state(whole: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in whole.state_dict().items()}


def saved(tensors: dict, folder: Path, wrapped: object = None) -> Path:
    """A safetensors file of the tensors; or torch.save's of what they are wrapped in."""
    path = folder / ("x.safetensors" if wrapped is None else "x.pth")
    save_file(tensors, path) if wrapped is None else torch.save(wrapped, path)
    return path


def given(path: Path, name: str, size: int, *settings: str) -> UserBackbone:
    settings = (f"network={name}", f"crop={size}", f"resize={size}", *settings) if size else (f"network={name}",)
    return read_user_backbone(path, profile("standin", settings), settings, path.parent / "cache")


def in_cache(backbone: UserBackbone, folder: Path) -> Network:
    """The network that a run loads."""
    (kept,) = (folder / "cache" / "backbones").glob("*.safetensors")
    tensors, _ = read_weights(kept)
    network = build(backbone.profile, "plain", len(tensors["head.weight"]))
    assert load_strict(network, tensors) is None
    return network.eval()


def features(whole: nn.Module, classifiers: list[str], x: Tensor) -> Tensor:
    """What the library's own classifiers get, pooled where they get maps; the mean of several."""
    got = []
    for path in classifiers:
        layer = whole.get_submodule(path)
        layer.register_forward_pre_hook(lambda m, inputs: got.append(inputs[0]))
    with torch.no_grad():
        whole(x)
    return sum(f.mean((2, 3)) if f.ndim == 4 else f for f in got) / len(got)
