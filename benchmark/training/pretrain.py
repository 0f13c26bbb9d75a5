"""Builds, pretrains and loads the shared backbone."""

import dataclasses
import json

import torch
from safetensors import SafetensorError

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.config.specs import Backbone
from visual_decathlon.benchmark.runtime.device_sharing import Shared, sharing
from visual_decathlon.benchmark.runtime.progress import Report, Watched, hearing
from visual_decathlon.benchmark.training.checkpoint import read_safetensors, write_safetensors
from visual_decathlon.benchmark.training.choice import Choice, chosen
from visual_decathlon.benchmark.training.loader import open_images
from visual_decathlon.benchmark.training.train import train
from visual_decathlon.datasets.errors import BadInput
from visual_decathlon.methods.layers.network import Network
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.method import Method


def build(profile: Profile, structure: str, classes: int) -> Network:
    """A network of the profile with a random start from the global generator, in the layout that is fastest."""
    if profile.network == "resnet26":
        network = resnet26(classes, profile.width)
    else:
        network = library_network(profile.network, classes)
    if structure == "series":
        put_series(network)
    return network


def choice_of(backbone: Backbone, device: str) -> Choice:
    """Layout and batch norm of what is trained on this backbone."""
    return chosen(backbone.network_profile, device, backbone.cache, backbone.choice)


def pretrain(backbone: Backbone, device: str, report: Report) -> None:
    """Train the backbone on its images and leave it at `backbone.path`; goes on from a checkpoint."""
    with sharing(device) as shared:
        _pretrain(backbone, device, shared, report)


def _pretrain(backbone: Backbone, device: str, shared: Shared, report: Report) -> None:
    profile, recipe = backbone.network_profile, backbone.profile.pretrain
    choice = chosen(dataclasses.replace(profile, adapt=recipe), device, backbone.cache, backbone.choice)
    batches = open_images(backbone.images, profile, recipe.batch, device, choice.memory_format)
    torch.manual_seed(profile.backbone_seed)
    network = build(profile, backbone.structure, backbone.images.classes)
    network.to(device=device, memory_format=choice.memory_format)
    checkpoint = backbone.path.with_suffix(".part")
    if profile.compile:
        hearing(report)("compiling the training step", 0, 0)
    with choice.applied(network):
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
    """The frozen backbone and its file's metadata. Raises BadInput where the file in the cache is damaged."""
    path, profile = backbone.path, backbone.network_profile
    try:
        tensors, about = read_safetensors(path)
        network = build(profile, backbone.structure, tensors["head.weight"].shape[0])
        fault = _foreign(backbone, about) or fit(network, tensors) or damage(network)
    except (SafetensorError, OSError, LookupError, ValueError) as error:
        fault = f"cannot be read ({error})"
    if fault:
        raise BadInput(f"the backbone {path} {fault}; remove it, and it is made again")
    network.to(device=device, memory_format=choice_of(backbone, device).memory_format)
    return network.requires_grad_(False).eval(), about


def _foreign(backbone: Backbone, about: dict[str, str]) -> str | None:
    if about.get("hash") != backbone.hash:
        return f"says that it is {about.get('hash', 'no backbone of this suite')}"
    lacking = [name for name in ("history", "clock") if backbone.images is not None and name not in about]
    return f"says nothing of its training ({lacking[0]})" if lacking else None


def fit(network: Network, tensors: dict[str, torch.Tensor]) -> str | None:
    """Load by name; returns what is wrong with the tensors where they are not such a network's."""
    wanted = network.state_dict()
    for name, tensor in wanted.items():
        if name.endswith("num_batches_tracked"):
            tensors.setdefault(name, tensor)  # checkpoints of 2018 do not have it
        if name not in tensors:
            return f"lacks {name}"
        given = tensors[name]
        if given.shape != tensor.shape:
            return f"has {name} of shape {tuple(given.shape)}, the network has {tuple(tensor.shape)}"
        if given.is_floating_point() != tensor.is_floating_point() or given.is_complex():
            return f"has {name} in {given.dtype}, the network has {tensor.dtype}"
    if foreign := sorted(set(tensors) - set(wanted)):
        return f"has {foreign[0]}, which the network has not"
    network.load_state_dict(tensors)
    return None


def damage(network: Network) -> str | None:
    """What is wrong with the weights where not all are finite."""
    tensors = network.state_dict()
    if lost := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        return f"holds NaN or infinity in {lost[0]}"
    below = [name for name, tensor in tensors.items() if name.endswith("running_var") and (tensor < 0).any()]
    return f"holds a variance below 0 in {below[0]}" if below else None
