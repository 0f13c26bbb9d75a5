"""Profiles: named sets of a backbone and its recipes, and how one setting of them is overridden.

`standin`: a slim ResNet-26 on 32-pixel crops, minutes on two cores; ours.
`decathlon`: the paper's protocol: 64-pixel crops, 120 epochs, the rate divided by 10 at 80 and 100,
batch 128, weight decay 1e-4. Paper and released code differ in one thing that acts: the released
optimiser leaks one convolution's decay into the next batch norm, so that the `--wd 5` (5e-4) that its
2018 commands ask for acts on nothing, and 1e-4 is in effect. Here that acts on every trained tensor.
`decathlon-2018`: the same with the decay that those commands mean, 5e-4 on what a domain trains.
`follows` records which of the three a recipe is.
"""

import dataclasses
import difflib
import typing
from dataclasses import dataclass

from visual_decathlon.benchmark.config.backbone_names import ALL, unknown_backbone
from visual_decathlon.datasets.errors import InputError

LARGEST = 1024  # pixels of the shorter side: above it a chunk of decoded images is no bounded memory

RECORDED_NAMES = {
    "weight_decay": "decay",
    "label_smoothing": "smoothing",
    "warmup_fraction": "warm",
    "milestones": "drops",
    "resize": "shorter",
    "uncropped_size": "whole",
}
"""Fields that were renamed, and their name in records and hashes, which keep the old one. SET= takes both."""
_CURRENT_NAMES = {recorded: field for field, recorded in RECORDED_NAMES.items()}


@dataclass(frozen=True)
class Recipe:
    """How one network is trained. SGD with momentum, decay on every trained tensor."""

    epochs: int
    batch: int
    weight_decay: float
    schedule: typing.Literal["one-cycle", "steps"]
    follows: str
    lr: float = 0.0  # peak; 0 takes the method's own
    momentum: float = 0.9
    nesterov: bool = False
    label_smoothing: float = 0.0  # of the labels
    warmup_fraction: float = 0.2  # part of the steps in which one-cycle's rate rises
    milestones: tuple[float, ...] = ()  # parts of the epochs after which steps divides the rate by 10


@dataclass(frozen=True)
class Profile:
    """`resize` is the side that images are resized to, `crop` the square shown of it, both in pixels.

    `uncropped_size` is the square shown of the domains that are never cropped; 0 crops them like the others.
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
    compile: bool = False  # the training step by torch.compile
    deterministic: bool = True  # on a GPU by kernels that give the same bits each time; a CPU's do


_PAPER = Recipe(
    epochs=120,
    batch=128,
    weight_decay=1e-4,
    schedule="steps",
    milestones=(2 / 3, 5 / 6),
    lr=0.1,
    follows="paper, and released code in effect",
)

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
        adapt=_PAPER,
        pretrain=_PAPER,
    ),
}
_MEANT = dataclasses.replace(_PAPER, weight_decay=5e-4, follows="2018 commands, as they were meant")
PROFILES["decathlon-2018"] = dataclasses.replace(PROFILES["decathlon"], name="decathlon-2018", adapt=_MEANT)


def profile(name: str, settings: typing.Iterable[str] = ()) -> Profile:
    """The named profile with `setting=value` overrides: `width=0.5`, `epochs=10` (of adapt), `pretrain.epochs=3`.

    Raises InputError for an unknown profile or setting, or a value of the wrong type.
    """
    if name not in PROFILES:
        raise InputError(f"no profile is called {name!r}; choose {', '.join(PROFILES)}")
    chosen = PROFILES[name]
    for setting in settings:
        chosen = _override(chosen, setting)
    return checked(chosen)


def checked(chosen: Profile) -> Profile:
    """The profile as it is. Raises InputError where its settings do not fit each other or the network."""
    if chosen.network not in ALL:
        raise InputError(f"SET=network={chosen.network}: {unknown_backbone(chosen.network)}")
    if chosen.network == "resnet26":
        if not whole_channels(chosen.width):
            raise InputError(
                f"SET=width={chosen.width:g}: width must be a multiple of 1/32, at most 32, so that channels are whole"
            )
        for name in ("crop", "uncropped_size"):
            if (side := getattr(chosen, name)) % 8:
                raise InputError(f"SET={name}={side}: resnet26 halves its images three times; give a multiple of 8")
    if chosen.resize > LARGEST:
        raise InputError(f"SET=resize={chosen.resize}: images are shown at up to {LARGEST} pixels; lower it")
    if max(chosen.crop, chosen.uncropped_size) > chosen.resize:
        raise InputError(
            f"SET=resize={chosen.resize}: images of that size have no crop of "
            f"{max(chosen.crop, chosen.uncropped_size)} pixels; raise resize, or lower crop and uncropped_size"
        )
    for part, recipe in (("", chosen.adapt), ("pretrain.", chosen.pretrain)):
        if recipe.label_smoothing > 1:
            raise InputError(
                f"SET={part}label_smoothing={recipe.label_smoothing:g}: label_smoothing must be from 0 to 1"
            )
        if recipe.momentum >= 1:
            raise InputError(f"SET={part}momentum={recipe.momentum:g}: momentum must be from 0 to below 1")
        if recipe.warmup_fraction > 1:
            raise InputError(
                f"SET={part}warmup_fraction={recipe.warmup_fraction:g}: warmup_fraction is a part of the steps and "
                "must be from 0 to 1"
            )
        if not all(0 <= milestone <= 1 for milestone in recipe.milestones):
            typed = "/".join(f"{milestone:g}" for milestone in recipe.milestones)
            raise InputError(
                f"SET={part}milestones={typed}: milestones are parts of the epochs and must be from 0 to 1"
            )
        if recipe.batch < 2:
            raise InputError(f"SET={part}batch={recipe.batch}: batch norm needs two images; batch must be above 1")
    return chosen


def current_name(name: str) -> str:
    """Returns today's name of a setting: `weight_decay` of `decay`, `pretrain.weight_decay` of `pretrain.decay`."""
    part, dot, field = name.rpartition(".")
    return part + dot + _CURRENT_NAMES.get(field, field)


def spelling_notes(settings: typing.Iterable[str]) -> list[str]:
    """Returns one sentence for each old name among `setting=value` strings, which says the new name."""
    names = dict.fromkeys(setting.partition("=")[0] for setting in settings)
    return [
        f"SET={name}= is now called {current_name(name)}; the old name still works"
        for name in names
        if current_name(name) != name
    ]


def whole_channels(width: float) -> bool:
    """Whether every layer of the ResNet-26 has a whole number of channels: 32 * width is one."""
    return 0 < width <= 32 and (32 * width).is_integer()


def _nearest(name: str, known: typing.Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=2)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"


def _override(chosen: Profile, setting: str) -> Profile:
    typed, equals, text = setting.partition("=")
    if not equals:
        raise InputError(f"SET={setting} is not of the form setting=value")
    key = current_name(typed)
    known = {f.name: f"{f.name}" for f in dataclasses.fields(Profile) if f.name not in ("name", "adapt", "pretrain")}
    recipe = [f.name for f in dataclasses.fields(Recipe) if f.name != "follows"]  # it acts on nothing
    known |= {name: f"adapt.{name}" for name in recipe} | {f"pretrain.{name}": f"pretrain.{name}" for name in recipe}
    if key not in known:
        raise InputError(f"SET={setting}: no setting is called {key!r}; {_nearest(key, known)}")
    part, _, field = known[key].rpartition(".")
    target = getattr(chosen, part) if part else chosen
    value = _value(setting, field, text, typing.get_type_hints(type(target))[field])
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
        raise InputError(f"SET={setting}: {field} must be {kind}") from None
    if wanted in (int, float) and not 0 <= value < float("inf"):
        raise InputError(f"SET={setting}: {field} must be a number from 0 up")
    if wanted is int and value >= 2**31:
        raise InputError(f"SET={setting}: {field} must be a whole number below {2**31}")
    if field in ("epochs", "batch", "crop", "resize", "width", "lr") and value == 0:
        hint = "; leave lr out to take the profile's or the method's own" if field == "lr" else ""
        raise InputError(f"SET={setting}: {field} must be above 0{hint}")
    return value
