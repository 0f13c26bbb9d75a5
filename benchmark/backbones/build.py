"""Builds the network of a profile, and loads tensors into it by name."""

from collections import OrderedDict

import torch

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.methods.layers.network import Network
from visual_decathlon.methods.layers.series import put_series


def build(profile: Profile, structure: str, classes: int) -> Network:
    """Builds the profile's network with random weights from torch's global generator."""
    if profile.network == "resnet26":
        network = resnet26(classes, profile.width)
    else:
        network = library_network(profile.network, classes)
    if structure == "series":
        put_series(network)
    return network


def load_strict(network: Network, tensors: dict[str, torch.Tensor]) -> str | None:
    """Loads tensors by name; returns the fault where they do not fit the network, else None."""
    wanted = network.state_dict()
    for name, tensor in wanted.items():
        if name.endswith("num_batches_tracked"):
            tensors.setdefault(name, tensor)  # missing in checkpoints of 2018
        if name not in tensors:
            return f"lacks {name}"
        given = tensors[name]
        if given.shape != tensor.shape:
            return f"has {name} of shape {tuple(given.shape)}, the network has {tuple(tensor.shape)}"
        if given.is_floating_point() != tensor.is_floating_point() or given.is_complex():
            return f"has {name} in {given.dtype}, the network has {tensor.dtype}"
    if foreign := sorted(set(tensors) - set(wanted)):
        return f"has {foreign[0]}, which is not in the network"
    versioned = OrderedDict(tensors)
    versioned._metadata = wanted._metadata  # torchvision's MNASNet refuses weights without a version
    network.load_state_dict(versioned)
    return None


def find_invalid_weights(network: Network) -> str | None:
    """Returns the fault where a weight is not finite or a variance is negative, else None."""
    tensors = network.state_dict()
    if infinite := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        return f"holds NaN or infinity in {infinite[0]}"
    negative = [name for name, tensor in tensors.items() if name.endswith("running_var") and (tensor < 0).any()]
    return f"holds a variance below 0 in {negative[0]}" if negative else None
