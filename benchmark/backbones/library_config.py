"""What a library's own configuration states of a network's images: mean, std and size."""

from typing import NamedTuple

from visual_decathlon.benchmark.backbones.library import body_without_values, library_shapes, native_size
from visual_decathlon.benchmark.config.backbone_names import split_name
from visual_decathlon.datasets.errors import InputError

Colours = tuple[float, ...]


class Normalisation(NamedTuple):
    """RGB mean and std in 0..1."""

    mean: Colours
    std: Colours


def normalisation(network: str) -> Normalisation | None:
    """timm's `pretrained_cfg`, or torchvision's `weights.DEFAULT.transforms()`; None where a library has none.

    torchvision normalises the images of GoogLeNet and Inception v3 a second time, to mean and std 0.5, where it loads
    their weights itself (`transform_input`); here they get those at once. Raises InputError for no such network.
    """
    library, model, _ = split_name(network)
    body = body_without_values(network)
    if library == "timm":
        stated = getattr(body, "pretrained_cfg", None) or {}
        mean, std = stated.get("mean"), stated.get("std")
    else:
        from torchvision import models

        try:
            preset = models.get_model_weights(model.removesuffix("_v1")).DEFAULT.transforms()
        except (AttributeError, ValueError):  # a network without weights
            return None
        mean, std = preset.mean, preset.std
        if getattr(body, "transform_input", None) is False:
            mean = std = (0.5, 0.5, 0.5)
    return Normalisation(tuple(mean), tuple(std)) if mean and std else None


def native(network: str) -> int:
    """Side in pixels of the images for which the network is built."""
    return native_size(body_without_values(network))


def takes(network: str, size: int) -> bool:
    """Whether the network takes images of this side in pixels."""
    try:
        library_shapes(network, size)
    except InputError:
        return False
    return True
