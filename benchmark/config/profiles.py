"""Profiles: named settings of a backbone and of its recipes, and overrides of single settings.

`standin`: a slim ResNet-26 on 32-pixel crops, which takes minutes on two cores. It is this project's own.
`decathlon`: the protocol of the paper: 64-pixel crops, 120 epochs, batch 128, weight decay 1e-4 on every trained
tensor, and a learning rate divided by 10 after epochs 80 and 100. It starts at 0.1 for the paper's own methods; another
method has its own rate (`rates.py`).
`standin-vit` and `decathlon-vit`: the same recipes on a vision transformer of timm; `network=` names another one.
`decathlon-2018`: the same with the weight decay that the commands published in 2018 mean, in the training of a domain.
They say `--wd 5.`, and `--wd1x1 1.` or `--wd3x3 1.`, in units of 1e-4: 5e-4 on batch norms and heads, and 1e-4 on every
other tensor, which are the adapters and the 3x3 convolutions in the methods that the commands train.
`decathlon-2018-released`: the same commands as the released optimiser runs them. It applies the decay of one
convolution to all tensors up to the next (`training/decay.py`). So 1e-4 acts on every tensor of a residual adapter and
of fine-tuning, except the first inner batch norm of series adapters; and 5e-4 acts on every tensor of a method that
trains no convolution, such as `bn_adapt`.
The commands say nothing of pretraining: all three pretrain alike, and share their backbones. The field `follows`
records which of them a recipe is.
"""

import dataclasses
import difflib
import typing
from dataclasses import dataclass

from visual_decathlon.benchmark.config.backbone_names import OWN, canonical
from visual_decathlon.datasets.errors import InputError, option

LARGEST = 1024  # pixels of the shorter side: it bounds the memory of a chunk of decoded images

RECORDED_NAMES = {
    "weight_decay": "decay",
    "label_smoothing": "smoothing",
    "warmup_fraction": "warm",
    "milestones": "drops",
    "resize": "shorter",
    "uncropped_size": "whole",
}
"""Renamed fields, and their old names, which records and hashes keep. SET= takes both."""
FIXED = ("follows", "paper_lr")
"""Fields of a recipe that SET= does not take: the first changes nothing, and lr= overrides the second."""
_NAMES_OF_CROP = ("image_size", "img_size", "input_size", "size")  # in other code
_CURRENT_NAMES = {recorded: field for field, recorded in RECORDED_NAMES.items()}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: by SGD with momentum, with weight decay on every trained tensor."""

    epochs: int
    batch: int
    weight_decay: float
    schedule: typing.Literal["one-cycle", "steps"]
    follows: str
    lr: float = 0.0  # peak, for every method; 0 is the method's own, or by the rule of `paper_lr`
    momentum: float = 0.9
    nesterov: bool = False
    label_smoothing: float = 0.0
    warmup_fraction: float = 0.2  # fraction of the steps in which the rate of one-cycle rises
    milestones: tuple[float, ...] = ()  # fractions of the epochs after which the schedule steps divides the rate by 10
    norm_head_decay: float = 1.0  # multiplies the weight decay of norms and heads
    decay_leak: bool = False  # the released optimiser's error: the decay of a convolution acts up to the next one
    paper_lr: float = 0.0  # above 0, and with an `lr` of 0: the peak for the paper's own methods


@dataclass(frozen=True)
class Profile:
    """A backbone, the size of its images, and the recipes of a domain and of the backbone.

    The shorter side of an image is resized to `resize` pixels, and a square of `crop` pixels is cut out of it. Domains
    that are never cropped (`Domain.crop`) are shown as a square of `uncropped_size` pixels; 0 crops them like others.
    """

    name: str
    network: str
    width: float
    resize: int
    crop: int
    uncropped_size: int
    precision: typing.Literal["fp32", "tf32", "bf16", "fp16"]
    adapt: Recipe
    pretrain: Recipe
    backbone_seed: int = 0
    compile: bool = False  # whether torch.compile compiles the training step
    deterministic: bool = True  # whether a GPU uses only kernels that repeat their bits, as those of a CPU do


_PAPER = Recipe(
    epochs=120,
    batch=128,
    weight_decay=1e-4,
    schedule="steps",
    milestones=(2 / 3, 5 / 6),
    lr=0.1,
    follows="paper",
)
_DOMAIN = dataclasses.replace(_PAPER, lr=0.0, paper_lr=0.1)

PROFILES = {
    "standin": Profile(
        name="standin",
        network="resnet26",
        width=0.25,
        resize=36,
        crop=32,
        uncropped_size=0,
        precision="fp32",
        adapt=Recipe(epochs=20, batch=16, weight_decay=5e-4, schedule="one-cycle", nesterov=True, follows="ours"),
        pretrain=Recipe(
            epochs=20, batch=64, weight_decay=5e-4, schedule="one-cycle", nesterov=True, lr=0.2, follows="ours"
        ),
    ),
    "decathlon": Profile(
        name="decathlon",
        network="resnet26",
        width=1.0,
        resize=72,
        crop=64,
        uncropped_size=72,
        precision="fp32",
        adapt=_DOMAIN,
        pretrain=_PAPER,
    ),
}
_MEANT = dataclasses.replace(_DOMAIN, norm_head_decay=5.0, follows="2018 commands, as they were meant")
_RELEASED = dataclasses.replace(_MEANT, decay_leak=True, follows="2018 commands, as the released optimiser runs them")
# 4 x 4 pixels a token, 65 tokens. A depth of 6 and a width of 64 take twice as long and learn ImageNet's drawings no
# better (64.8 against 64.5 % top-1, one seed); 8 x 8 pixels a token are faster by a quarter, and worse (51.4 %).
_VIT = "timm/vit_tiny_patch16_224(depth=4,embed_dim=48,img_size=32,num_heads=4,patch_size=4)"
PROFILES["standin-vit"] = dataclasses.replace(PROFILES["standin"], name="standin-vit", network=_VIT, width=1.0)
PROFILES["decathlon-vit"] = dataclasses.replace(
    PROFILES["decathlon"],
    name="decathlon-vit",
    network="timm/vit_tiny_patch16_224(img_size=64,patch_size=8)",
    uncropped_size=64,  # its positions are those of one size
)
PROFILES |= {
    name: dataclasses.replace(PROFILES["decathlon"], name=name, adapt=recipe)
    for name, recipe in (("decathlon-2018", _MEANT), ("decathlon-2018-released", _RELEASED))
}


def profile(name: str, settings: typing.Iterable[str] = ()) -> Profile:
    """Returns the named profile with `setting=value` overrides: `width=0.5`, `epochs=10`, `pretrain.epochs=3`.

    A setting of a recipe is that of `adapt` without a prefix. Old names of settings are understood. Raises InputError
    for an unknown profile or setting, or a value of the wrong type.
    """
    if name not in PROFILES:
        raise InputError(f"no profile is called {name!r}; choose {', '.join(PROFILES)}")
    chosen = PROFILES[name]
    for setting in settings:
        chosen = _override(chosen, setting)
    if chosen.network != OWN and chosen.width != 1:  # a library's network takes its width as an argument
        if chosen.width != PROFILES[name].width:
            raise InputError(
                f"width={chosen.width:g} is a setting of {OWN}; {chosen.network} takes arguments of its own, in "
                "parentheses behind its name",
                field="settings",
            )
        chosen = dataclasses.replace(chosen, width=1.0)
    return checked(chosen)


def checked(chosen: Profile) -> Profile:
    """Returns the profile unchanged. Raises InputError where its settings contradict each other or the network."""
    _check_network(chosen)
    _check_image_size(chosen)
    for part, recipe in (("", chosen.adapt), ("pretrain.", chosen.pretrain)):
        _check_recipe(part, recipe)
    return chosen


def _check_network(chosen: Profile) -> None:
    canonical(chosen.network)
    if chosen.network != OWN:
        return
    if not whole_channels(chosen.width):
        raise InputError(
            f"width={chosen.width:g}: width must be a multiple of 1/32, at most 32, so that channels are whole",
            field="settings",
        )
    for name in ("crop", "uncropped_size"):
        if (side := getattr(chosen, name)) % 8:
            raise InputError(
                f"{name}={side}: resnet26 halves its images three times; give a multiple of 8", field="settings"
            )


def _check_image_size(chosen: Profile) -> None:
    if chosen.resize > LARGEST:
        raise InputError(
            f"resize={chosen.resize}: images are shown at up to {LARGEST} pixels; lower it", field="settings"
        )
    if (largest := max(chosen.crop, chosen.uncropped_size)) > chosen.resize:
        raise InputError(
            f"resize={chosen.resize}: images of that size have no crop of {largest} pixels; raise resize, or lower "
            "crop and uncropped_size",
            field="settings",
        )


def _check_recipe(part: str, recipe: Recipe) -> None:
    if recipe.label_smoothing > 1:
        raise InputError(
            f"{part}label_smoothing={recipe.label_smoothing:g}: label_smoothing must be from 0 to 1", field="settings"
        )
    if recipe.momentum >= 1:
        raise InputError(f"{part}momentum={recipe.momentum:g}: momentum must be from 0 to below 1", field="settings")
    if recipe.warmup_fraction > 1:
        raise InputError(
            f"{part}warmup_fraction={recipe.warmup_fraction:g}: warmup_fraction is a fraction of the steps and "
            "must be from 0 to 1",
            field="settings",
        )
    if not all(0 <= milestone <= 1 for milestone in recipe.milestones):
        typed = "/".join(f"{milestone:g}" for milestone in recipe.milestones)
        raise InputError(
            f"{part}milestones={typed}: milestones are fractions of the epochs and must be from 0 to 1",
            field="settings",
        )
    if recipe.batch < 2:
        raise InputError(
            f"{part}batch={recipe.batch}: batch norm needs two images; batch must be above 1", field="settings"
        )


def current_name(name: str) -> str:
    """Returns the present name of a setting: `weight_decay` for `decay`, `pretrain.resize` for `pretrain.shorter`."""
    part, dot, field = name.rpartition(".")
    return part + dot + _CURRENT_NAMES.get(field, field)


def spelling_notes(settings: typing.Iterable[str]) -> list[str]:
    """Returns one message for each old name among `setting=value` strings; it gives the new name."""
    names = dict.fromkeys(setting.partition("=")[0] for setting in settings)
    return [
        f"{option('settings')}{name}= is now called {current_name(name)}; the old name still works"
        for name in names
        if current_name(name) != name
    ]


def whole_channels(width: float) -> bool:
    """Whether every layer of the ResNet-26 has an integer number of channels: 32 * width must be an integer."""
    return 0 < width <= 32 and (32 * width).is_integer()


def _nearest(name: str, known: typing.Collection[str]) -> str:
    if name in _NAMES_OF_CROP:
        return "the side of the images is crop here"
    old = [name for name in _CURRENT_NAMES if current_name(name) in known]
    similar = list(dict.fromkeys(map(current_name, difflib.get_close_matches(name, [*known, *old], n=2))))
    return f"did you mean {' or '.join(similar)}?" if similar else f"there are {', '.join(known)}"


def _override(chosen: Profile, setting: str) -> Profile:
    typed, equals, text = setting.partition("=")
    if not equals:
        raise InputError(f"{setting} is not of the form setting=value", field="settings")
    key = current_name(typed)
    known = {f.name: f"{f.name}" for f in dataclasses.fields(Profile) if f.name not in ("name", "adapt", "pretrain")}
    recipe = [f.name for f in dataclasses.fields(Recipe) if f.name not in FIXED]
    known |= {name: f"adapt.{name}" for name in recipe} | {f"pretrain.{name}": f"pretrain.{name}" for name in recipe}
    if key not in known:
        raise InputError(f"{setting}: no setting is called {key!r}; {_nearest(key, known)}", field="settings")
    part, _, field = known[key].rpartition(".")
    target = getattr(chosen, part) if part else chosen
    value = _value(setting, field, text, typing.get_type_hints(type(target))[field])
    if field == "network":
        value = canonical(value)
    changed = dataclasses.replace(target, **{field: value})
    return dataclasses.replace(chosen, **{part: changed}) if part else changed


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def _value(setting: str, field: str, text: str, wanted):
    allowed = typing.get_args(wanted)
    try:
        if typing.get_origin(wanted) is typing.Literal:
            if text not in allowed:
                raise ValueError
            return text
        if wanted is bool:
            return {"true": True, "false": False}[text.lower()]
        if typing.get_origin(wanted) is tuple:
            return tuple(float(v) for v in text.split("/"))
        value = wanted(text)
    except (ValueError, KeyError):
        kind = _KINDS.get(wanted) or ("of the form 0.5/0.8" if allowed[-1] is ... else " or ".join(allowed))
        raise InputError(f"{setting}: {field} must be {kind}", field="settings") from None
    if wanted in (int, float) and not 0 <= value < float("inf"):
        raise InputError(f"{setting}: {field} must be a number from 0 up", field="settings")
    if wanted is int and value >= 2**31:
        raise InputError(f"{setting}: {field} must be a whole number below {2**31}", field="settings")
    if field in ("epochs", "batch", "crop", "resize", "width", "lr") and value == 0:
        hint = "; leave lr out to take the profile's or the method's own" if field == "lr" else ""
        raise InputError(f"{setting}: {field} must be above 0{hint}", field="settings")
    return value
