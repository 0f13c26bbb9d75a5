"""Builds, pretrains and loads the shared backbone."""

import dataclasses
import json

import torch
from safetensors import SafetensorError

from visual_decathlon.benchmark.backbones.build import build, find_invalid_weights, load_strict
from visual_decathlon.benchmark.backbones.safetensors_file import read_safetensors, write_safetensors
from visual_decathlon.benchmark.config.kernels import KernelChoice
from visual_decathlon.benchmark.config.specs import Backbone
from visual_decathlon.benchmark.runtime.device_sharing import Shared, sharing
from visual_decathlon.benchmark.runtime.progress import Report, Watched, progress_of
from visual_decathlon.benchmark.training.apply_kernels import kernels_applied
from visual_decathlon.benchmark.training.kernel_choice import choose_kernels
from visual_decathlon.benchmark.training.loader import open_images
from visual_decathlon.benchmark.training.train import train
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import Network
from visual_decathlon.methods.method import Method


def choice_of(backbone: Backbone, device: str) -> KernelChoice:
    """Memory layout and batch norm kernels of the trainings on this backbone."""
    return choose_kernels(backbone.network_profile, device, backbone.cache, backbone.choice)


def pretrain(backbone: Backbone, device: str, report: Report) -> None:
    """Trains the backbone on its images and writes `backbone.path`; resumes from a checkpoint."""
    with sharing(device) as shared:
        _pretrain(backbone, device, shared, report)


def _pretrain(backbone: Backbone, device: str, shared: Shared, report: Report) -> None:
    profile, recipe = backbone.network_profile, backbone.profile.pretrain
    choice = choose_kernels(dataclasses.replace(profile, adapt=recipe), device, backbone.cache, backbone.choice)
    batches = open_images(backbone.images, profile, recipe.batch, device, choice.memory_format)
    torch.manual_seed(profile.backbone_seed)
    network = build(profile, backbone.structure, backbone.images.classes)
    network.to(device=device, memory_format=choice.memory_format)
    checkpoint = backbone.checkpoint
    if profile.compile:
        progress_of(report)("compiling the training step", 0, 0)
    with kernels_applied(choice, network):
        history, clock = train(
            network,
            Method(),
            Watched(batches, report),
            recipe,
            lr=recipe.lr,
            seed=profile.backbone_seed,
            state=dict(network.state_dict(keep_vars=True)),
            checkpoint=checkpoint,
            precision=profile.precision,
            compile=profile.compile,
            shared=shared,
            report=report,
            setting="pretrain.lr",
        )
    about = {
        "network": profile.network,
        "width": str(profile.width),
        "structure": backbone.structure,
        "image_size": str(profile.crop),
        "classes": str(backbone.images.classes),
        "mean": json.dumps(backbone.images.domain.mean),
        "std": json.dumps(backbone.images.domain.std),
        "hash": backbone.hash,
        "history": json.dumps(history),
        "clock": json.dumps(clock.summary() | dataclasses.asdict(choice)),
    }
    write_safetensors(backbone.path, network.state_dict(), about)
    checkpoint.unlink(missing_ok=True)


def load(backbone: Backbone, device: str) -> tuple[Network, dict[str, str]]:
    """Loads the frozen backbone and its file's metadata. Raises InputError where the cached file is damaged."""
    path, profile = backbone.path, backbone.network_profile
    try:
        tensors, about = read_safetensors(path)
        network = build(profile, backbone.structure, tensors["head.weight"].shape[0])
        fault = _foreign(backbone, about) or load_strict(network, tensors) or find_invalid_weights(network)
    except InputError:
        raise
    except (SafetensorError, OSError, LookupError, ValueError) as error:
        fault = f"cannot be read ({error})"
    if fault:
        raise InputError(f"the backbone {path} {fault}; remove it, and it is made again")
    network.to(device=device, memory_format=choice_of(backbone, device).memory_format)
    return network.requires_grad_(False).eval(), about


def _foreign(backbone: Backbone, about: dict[str, str]) -> str | None:
    if about.get("hash") != backbone.hash:
        return f"says that it is {about.get('hash', 'no backbone of this suite')}"
    lacking = [name for name in ("history", "clock") if backbone.images is not None and name not in about]
    return f"says nothing of its training ({lacking[0]})" if lacking else None
