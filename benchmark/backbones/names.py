"""The library backbones by name, known without loading a library, and what is said to another name."""

import difflib

NAMES = tuple(f"{lib}/{net}" for lib in ("torchvision", "timm") for net in ("resnet18", "resnet50", "resnet50_v1"))
ALL = ("resnet26", *NAMES)
_OTHERS = ("vit", "deit", "swin", "beit", "clip", "convnext", "mobilenet", "efficientnet", "vgg", "densenet", "regnet")


def unknown(name: str) -> str:
    """The sentence on the name of a backbone that is not here: which are, or which was meant."""
    there = f"there are {', '.join(ALL)}"
    model = name.lower().rpartition("/")[2].replace("-", "").replace("_", "")
    if any(model.startswith(other) for other in _OTHERS):
        return f"no backbone is called {name!r}, as methods here adapt ResNets; {there}"
    if alike := [known for known in ALL if known.rpartition("/")[2].replace("_", "") == model]:
        return f"no backbone is called {name!r}; did you mean {' or '.join(alike)}?"
    if model.startswith(("resnet", "wideresnet", "resnext")):
        return f"no backbone is called {name!r}, of all ResNets {there}"
    near = difflib.get_close_matches(name, ALL, n=2)
    return f"no backbone is called {name!r}; " + (f"did you mean {' or '.join(near)}?" if near else there)
