"""The names of the backbones, without loading a library, and the messages on names that are none of them."""

import difflib

from visual_decathlon.datasets.errors import option

NAMES = tuple(f"{lib}/{net}" for lib in ("torchvision", "timm") for net in ("resnet18", "resnet50", "resnet50_v1"))
ALL = ("resnet26", *NAMES)
_OTHERS = ("vit", "deit", "swin", "beit", "clip", "convnext", "mobilenet", "efficientnet", "vgg", "densenet", "regnet")
_RESNETS = ("resnet", "wideresnet", "resnext")


def _model(name: str) -> str:
    return name.lower().rpartition("/")[2].replace("-", "").replace("_", "").replace(" ", "")


def backbone_as_method(name: str) -> str | None:
    """Returns the message for the name of a backbone where a method is expected; None for any other name."""
    model = _model(name)
    if matches := [known for known in ALL if _model(known) == model]:
        chosen = name if name in matches else matches[0]
        return f"{name} is a backbone, not a method: {option('settings')}network={chosen}"
    if model == "resnet":
        return f"{name} is a backbone, not a method: {option('settings')}network= takes {', '.join(ALL)}"
    if model.startswith((*_OTHERS, *_RESNETS)):
        return (
            f"{name} is a backbone that this suite does not have; {option('settings')}network= takes {', '.join(ALL)}"
        )
    return None


def unknown_backbone(name: str) -> str:
    """Returns the message for a name that is no backbone here: it lists those that exist, or the similar ones."""
    there = f"there are {', '.join(ALL)}"
    model = _model(name)
    if model.startswith(_OTHERS):
        return f"no backbone is called {name!r}, as methods here adapt ResNets; {there}"
    if matches := [known for known in ALL if _model(known) == model]:
        return f"no backbone is called {name!r}; did you mean {' or '.join(matches)}?"
    if model.startswith(_RESNETS):
        return f"no backbone is called {name!r}, of all ResNets {there}"
    similar = difflib.get_close_matches(name, ALL, n=2)
    return f"no backbone is called {name!r}; " + (f"did you mean {' or '.join(similar)}?" if similar else there)
