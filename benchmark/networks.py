"""Builds, pretrains and loads the shared backbone."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from benchmark.backbones.library import library_network
from benchmark.backbones.resnet26 import resnet26
from benchmark.cells import Backbone
from benchmark.checkpoint import write_safetensors
from benchmark.images import open_images
from benchmark.profiles import Profile
from benchmark.train import Report, train
from datasets.errors import BadInput
from methods.layers.network import Network
from methods.layers.series import put_series
from methods.method import Method


def build(profile: Profile, structure: str, classes: int) -> Network:
    """A network of the profile with a random start from the global generator, in the layout that is fastest."""
    if profile.network == "resnet26":
        if profile.crop % 8 or profile.whole % 8:
            raise BadInput(
                f"SET=crop={profile.crop} whole={profile.whole}: the ResNet-26 halves an image three times; "
                "give multiples of 8"
            )
        network = resnet26(classes, profile.width)
    else:
        network = library_network(profile.network, classes)
    if structure == "series":
        put_series(network)
    return network


def memory_format(profile: Profile, device: torch.device) -> torch.memory_format:
    """channels_last; but not for strided 1x1 convolutions on a CPU, whose weight gradient can crash there."""
    safe = profile.network == "resnet26" or device.type == "cuda"
    return torch.channels_last if safe else torch.contiguous_format


def pretrain(backbone: Backbone, device: str, report: Report) -> None:
    """Train the backbone on its images and leave it at `backbone.path`; goes on from a checkpoint."""
    profile, recipe = backbone.profile, backbone.profile.pretrain
    batches = open_images(backbone.images, profile, recipe.batch, device)
    torch.manual_seed(profile.backbone_seed)
    network = build(profile, backbone.structure, backbone.images.classes)
    network.to(device=device, memory_format=memory_format(profile, batches.device))
    checkpoint = backbone.path.with_suffix(".part")
    history, clock = train(
        network,
        Method().loss,
        batches,
        recipe,
        lr=recipe.lr,
        seed=profile.backbone_seed,
        state=dict(network.state_dict(keep_vars=True)),
        checkpoint=checkpoint,
        precision=profile.precision,
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
        "clock": json.dumps(clock.summary()),
    }
    write_safetensors(backbone.path, network.state_dict(), about)
    checkpoint.unlink(missing_ok=True)


def load(backbone: Backbone, device: str) -> tuple[Network, dict[str, str]]:
    """The frozen backbone and its file's metadata. Raises BadInput where the file is of another shape."""
    return load_file_as(backbone.path, backbone.profile, backbone.structure, device)


def load_file_as(path: Path, profile: Profile, structure: str, device: str) -> tuple[Network, dict[str, str]]:
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise BadInput(f"the backbone {path} cannot be read ({error}); remove it, and it is made again") from None
    if "head.weight" not in tensors:
        raise BadInput(f"the backbone {path} has no head.weight; give a whole network")
    network = build(profile, structure, len(tensors["head.weight"]))
    fit(network, tensors, path)
    network.to(device=device, memory_format=memory_format(profile, torch.device(device)))
    return network.requires_grad_(False).eval(), about


def fit(network: Network, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Load by name; one sentence for a missing, foreign or differently shaped tensor."""
    wanted = network.state_dict()
    for name, tensor in wanted.items():
        if name.endswith("num_batches_tracked"):
            tensors.setdefault(name, tensor)  # checkpoints of 2018 do not have it
        if name not in tensors:
            raise BadInput(f"the backbone {path} lacks {name}; it is of another network, name it with SET=network=")
        if tensors[name].shape != tensor.shape:
            raise BadInput(
                f"the backbone {path} has {name} of shape {tuple(tensors[name].shape)}, the network has "
                f"{tuple(tensor.shape)}; set the width or network that the file was trained with (SET=width=...)"
            )
    if foreign := sorted(set(tensors) - set(wanted)):
        raise BadInput(f"the backbone {path} has {foreign[0]}, which the network has not; name it with SET=network=")
    network.load_state_dict(tensors)
