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

from visual_decathlon.benchmark.config.backbone_names import ALL, unknown
from visual_decathlon.datasets.errors import InputError

LARGEST = 1024  # pixels of the shorter side: above it a chunk of decoded images is no bounded memory


@dataclass(frozen=True)
class Recipe:
    """How one network is trained. SGD with momentum, decay on every trained tensor."""

    epochs: int
    batch: int
    decay: float
    schedule: typing.Literal["one-cycle", "steps"]
    follows: str
    lr: float = 0.0  # peak; 0 takes the method's own
    momentum: float = 0.9
    nesterov: bool = False
    smoothing: float = 0.0  # of the labels
    warm: float = 0.2  # part of the steps in which one-cycle's rate rises
    drops: tuple[float, ...] = ()  # parts of the epochs after which steps divides the rate by 10


@dataclass(frozen=True)
class Profile:
    """`shorter` is the side that images are resized to, `crop` the square shown of it, both in pixels.

    `whole` is the square shown of the domains that are never cropped; 0 crops them like the others.
    """

    name: str
    network: str
    width: float
    shorter: int
    crop: int
    whole: int
    precision: typing.Literal["fp32", "tf32", "bf16", "fp16"]
    adapt: Recipe
    pretrain: Recipe
    backbone_seed: int = 0
    compile: bool = False  # the training step by torch.compile
    deterministic: bool = True  # on a GPU by kernels that give the same bits each time; a CPU's do


_PAPER = Recipe(
    epochs=120,
    batch=128,
    decay=1e-4,
    schedule="steps",
    drops=(2 / 3, 5 / 6),
    lr=0.1,
    follows="paper, and released code in effect",
)

PROFILES = {
    "standin": Profile(
        name="standin",
        network="resnet26",
        width=0.25,
        shorter=36,
        crop=32,
        whole=0,
        precision="fp32",
        adapt=Recipe(epochs=20, batch=16, decay=5e-4, schedule="one-cycle", nesterov=True, follows="ours"),
        pretrain=Recipe(epochs=20, batch=64, decay=5e-4, schedule="one-cycle", nesterov=True, lr=0.2, follows="ours"),
    ),
    "decathlon": Profile(
        name="decathlon",
        network="resnet26",
        width=1.0,
        shorter=72,
        crop=64,
        whole=72,
        precision="fp32",
        adapt=_PAPER,
        pretrain=_PAPER,
    ),
}
_MEANT = dataclasses.replace(_PAPER, decay=5e-4, follows="2018 commands, as they were meant")
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
    return fitting(chosen)


def fitting(chosen: Profile) -> Profile:
    """The profile as it is. Raises InputError where its settings do not fit each other or the network."""
    if chosen.network not in ALL:
        raise InputError(f"SET=network={chosen.network}: {unknown(chosen.network)}")
    if chosen.network == "resnet26":
        if not whole_channels(chosen.width):
            raise InputError(
                f"SET=width={chosen.width:g}: width must be a multiple of 1/32, at most 32, so that channels are whole"
            )
        for name in ("crop", "whole"):
            if (side := getattr(chosen, name)) % 8:
                raise InputError(f"SET={name}={side}: resnet26 halves its images three times; give a multiple of 8")
    if chosen.shorter > LARGEST:
        raise InputError(f"SET=shorter={chosen.shorter}: images are shown at up to {LARGEST} pixels; lower it")
    if max(chosen.crop, chosen.whole) > chosen.shorter:
        raise InputError(
            f"SET=shorter={chosen.shorter}: images of that size have no crop of {max(chosen.crop, chosen.whole)} "
            "pixels; raise shorter, or lower crop and whole"
        )
    for part, recipe in (("", chosen.adapt), ("pretrain.", chosen.pretrain)):
        if recipe.smoothing > 1:
            raise InputError(f"SET={part}smoothing={recipe.smoothing:g}: smoothing must be from 0 to 1")
        if recipe.momentum >= 1:
            raise InputError(f"SET={part}momentum={recipe.momentum:g}: momentum must be from 0 to below 1")
        if recipe.warm > 1:
            raise InputError(f"SET={part}warm={recipe.warm:g}: warm is a part of the steps and must be from 0 to 1")
        if not all(0 <= drop <= 1 for drop in recipe.drops):
            drops = "/".join(f"{drop:g}" for drop in recipe.drops)
            raise InputError(f"SET={part}drops={drops}: drops are parts of the epochs and must be from 0 to 1")
        if recipe.batch < 2:
            raise InputError(f"SET={part}batch={recipe.batch}: batch norm needs two images; batch must be above 1")
    return chosen


def whole_channels(width: float) -> bool:
    """Whether every layer of the ResNet-26 has a whole number of channels: 32 * width is one."""
    return 0 < width <= 32 and (32 * width).is_integer()


def _nearest(name: str, known: typing.Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=2)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"


def _override(chosen: Profile, setting: str) -> Profile:
    key, equals, text = setting.partition("=")
    if not equals:
        raise InputError(f"SET={setting} is not of the form setting=value")
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
    if field in ("epochs", "batch", "crop", "shorter", "width", "lr") and value == 0:
        hint = "; leave lr out to take the profile's or the method's own" if field == "lr" else ""
        raise InputError(f"SET={setting}: {field} must be above 0{hint}")
    return value
