"""The names of the backbones, without loading a library, and the messages on names that are none of them.

A backbone is `resnet26`, or any image classifier of torchvision or timm by the library's own name, with arguments of
its constructor where they are needed: `timm/vit_tiny_patch16_224(img_size=64,patch_size=8)`.
"""

import ast
import difflib
import re

from visual_decathlon.datasets.errors import InputError, setting

OWN = "resnet26"
LIBRARIES = ("torchvision", "timm")
V1 = "resnet50_v1"  # ours: the stride in a bottleneck's first 1x1, as in He et al. 2015
RESNETS = tuple(f"{library}/{net}" for library in LIBRARIES for net in ("resnet18", "resnet50", V1))
"""The networks of before any classifier was a backbone: a file of theirs without metadata states no mean and std."""
EXAMPLES = (*RESNETS, "torchvision/mobilenet_v2", "timm/vit_tiny_patch16_224(img_size=64,patch_size=8)")
RESERVED = {  # arguments of a constructor that the suite gives itself
    *("pretrained", "weights", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"),
    *("num_classes", "in_chans", "features_only", "scriptable", "exportable", "progress", "aux_logits"),
}
TAKES = f"{OWN}, or torchvision/NAME or timm/NAME of any image classifier there"
_FAMILIES = ("vit", "deit", "swin", "beit", "convnext", "mobilenet", "efficientnet", "vgg", "densenet", "regnet")
_FAMILIES += ("resnet", "wideresnet", "resnext", "shufflenet", "squeezenet", "mixer", "inception", "googlenet")


def split_name(name: str) -> tuple[str, str, dict]:
    """(library, model, arguments) of a library's name. Raises InputError where it is not of that form."""
    library, slash, rest = name.strip().partition("/")
    model, paren, arguments = rest.partition("(")
    if library not in LIBRARIES or not slash or not re.fullmatch(r"[\w.-]+", model):
        raise _invalid(name, unknown_backbone(name))
    model = model.partition(".")[0]  # a tag names weights, which the suite does not download
    if not paren:
        return library, model, {}
    try:
        call = ast.parse(f"f({arguments}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not all(k.arg for k in call.keywords):
            raise ValueError
        values = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
        if len(values) < len(call.keywords):
            raise ValueError
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        example = f"{library}/{model}(img_size=64,patch_size=8)"
        raise _invalid(name, f"its arguments are not of the form {example}") from None
    if reserved := sorted(RESERVED & values.keys()):
        raise _invalid(name, f"the suite sets {reserved[0]} itself; leave it out")
    return library, model, values


def canonical(name: str) -> str:
    """The one spelling of a backbone's name, which hashes and records have. Raises InputError for no name."""
    if name == OWN:
        return name
    library, model, values = split_name(name)
    listed = ",".join(f"{key}={value!r}" for key, value in sorted(values.items()))
    return f"{library}/{model}({listed})" if listed else f"{library}/{model}"


def _invalid(name: str, reason: str) -> InputError:
    return InputError(f"network={name}: {reason}", field="settings")


def _model(name: str) -> str:
    model = name.lower().partition("(")[0].rpartition("/")[2]
    return re.sub(r"[-_ ]", "", model)


def backbone_as_method(name: str) -> str | None:
    """Returns the message for the name of a backbone where a method is expected; None for any other name."""
    model = _model(name)
    if matches := [known for known in (OWN, *EXAMPLES) if _model(known) == model]:
        chosen = name if name in matches else matches[0]
        return f"{name} is a backbone, not a method: {setting(f'network={chosen}')}"
    if model.startswith(_FAMILIES):
        return f"{name} is a backbone, not a method: {setting('network=')} takes {TAKES}"
    return None


def unknown_backbone(name: str) -> str:
    """Returns the message for a name that is of no backbone: it tells what is taken, or the similar names."""
    model = _model(name)
    if matches := [known for known in (OWN, *EXAMPLES) if _model(known) == model]:
        return f"no backbone is called {name!r}; did you mean {' or '.join(matches)}?"
    if model.startswith(_FAMILIES):
        return f"no backbone is called {name!r}; name its library too, as in timm/{name.rpartition('/')[2].lower()}"
    similar = difflib.get_close_matches(name, (OWN, *EXAMPLES), n=2)
    hint = f"did you mean {' or '.join(similar)}?" if similar else f"there are {TAKES}"
    return f"no backbone is called {name!r}; {hint}"
