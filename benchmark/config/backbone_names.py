"""The library backbones by name, known without loading a library, and what is said to another name."""

import difflib

NAMES = tuple(f"{lib}/{net}" for lib in ("torchvision", "timm") for net in ("resnet18", "resnet50", "resnet50_v1"))
ALL = ("resnet26", *NAMES)
_OTHERS = ("vit", "deit", "swin", "beit", "clip", "convnext", "mobilenet", "efficientnet", "vgg", "densenet", "regnet")


_RESNETS = ("resnet", "wideresnet", "resnext")


def _model(name: str) -> str:
    return name.lower().rpartition("/")[2].replace("-", "").replace("_", "").replace(" ", "")


def backbone_as_method(name: str) -> str | None:
    """The sentence on a backbone's name where a method's is wanted; None where it is no backbone's."""
    model = _model(name)
    if alike := [known for known in ALL if _model(known) == model]:
        chosen = name if name in alike else alike[0]
        return f"{name} is a backbone, not a method: SET=network={chosen}"
    if model == "resnet":
        return f"{name} is a backbone, not a method: SET=network= takes {', '.join(ALL)}"
    if model.startswith((*_OTHERS, *_RESNETS)):
        return f"{name} is a backbone that this suite does not have; SET=network= takes {', '.join(ALL)}"
    return None


def unknown_backbone(name: str) -> str:
    """The sentence on the name of a backbone that is not here: which are, or which was meant."""
    there = f"there are {', '.join(ALL)}"
    model = _model(name)
    if model.startswith(_OTHERS):
        return f"no backbone is called {name!r}, as methods here adapt ResNets; {there}"
    if alike := [known for known in ALL if _model(known) == model]:
        return f"no backbone is called {name!r}; did you mean {' or '.join(alike)}?"
    if model.startswith(_RESNETS):
        return f"no backbone is called {name!r}, of all ResNets {there}"
    near = difflib.get_close_matches(name, ALL, n=2)
    return f"no backbone is called {name!r}; " + (f"did you mean {' or '.join(near)}?" if near else there)
