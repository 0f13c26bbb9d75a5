"""What is to be run, as plain values that travel to worker processes: backbones and runs."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from visual_decathlon.benchmark.config.identity import TRAINING_VERSION, digest
from visual_decathlon.benchmark.config.kernels import KernelChoice
from visual_decathlon.benchmark.config.profiles import RECORDED_NAMES, Profile, Recipe, current_name
from visual_decathlon.datasets.catalogue import Domain

HOLDOUT_FOLDS = 5  # a holdout keeps one in five images of each class back


NEWER = {"compile": False, "deterministic": True}
"""Settings that are newer than records and hashes are, and what those of before had: there where they differ."""


def profile_dict(profile: Profile) -> dict:
    """The whole profile, as records and hashes have it."""
    kept = _recorded(dataclasses.asdict(profile))
    return {name: value for name, value in kept.items() if name not in NEWER or value != NEWER[name]}


def recorded_profile(settings: str) -> Profile:
    """Reads the profile from the `settings` of a record. Raises msgspec.DecodeError where they are none."""
    import msgspec

    return msgspec.convert(_renamed(msgspec.json.decode(settings, type=dict), current_name), Profile)


def _recorded(settings: dict) -> dict:
    return _renamed(settings, lambda name: RECORDED_NAMES.get(name, name))


def _renamed(settings: dict, name: Callable[[str], str]) -> dict:
    return {name(k): _renamed(v, name) if isinstance(v, dict) else v for k, v in settings.items()}


def network_settings(profile: Profile) -> dict:
    """What of a profile decides a run's numbers beside its recipe: the network and how images are shown to it."""
    names = _recorded(dict.fromkeys(("network", "width", "resize", "crop", "uncropped_size", "precision", *NEWER)))
    found = {name: value for name, value in profile_dict(profile).items() if name in names}
    if profile.compile:
        found["compile"] = "body"  # once it was the head, too: other rounding
    if profile.network != "resnet26":
        found["layout"] = "contiguous"  # once a CPU's batches were channels_last, and with them all it computed
    return found


def recipe_settings(recipe: Recipe) -> dict:
    """What of a recipe decides them beside the rate, which a method may set; `follows` is only said."""
    return _recorded({k: v for k, v in dataclasses.asdict(recipe).items() if k not in ("follows", "lr")})


@dataclass(frozen=True)
class ImageSet:
    """Some images of one domain: packs and the part taken of each ('all', or 'fit' and 'held' of a holdout)."""

    domain: Domain
    packs: tuple[Path, ...]
    part: str
    manifest: str
    classes: int
    limit: int | None
    count: int  # images, about: what orders the runs and foretells their time
    labelled: bool = True


@dataclass(frozen=True)
class Backbone:
    """A shared network: pretrained on `images` by the profile's recipe, or given in a file (`images` None)."""

    profile: Profile
    structure: str  # plain or series
    source: str  # "pretrained", or the name of what BACKBONE= gave
    cache: Path
    width_multiplier: float = 1.0  # times the profile's width
    images: ImageSet | None = None
    content: str | None = None  # hash of the given weights
    choice: KernelChoice | None = None  # of the run that is repeated: its layout and batch norm

    @cached_property
    def hash(self) -> str:
        if self.images is None:
            return digest(structure=self.structure, file=self.content)
        return digest(
            structure=self.structure,
            network=network_settings(self.network_profile),
            recipe=recipe_settings(self.profile.pretrain),
            lr=self.profile.pretrain.lr,
            seed=self.profile.backbone_seed,
            manifest=self.images.manifest,
            limit=self.images.limit,
            training=TRAINING_VERSION,
        )

    @property
    def manifest(self) -> str | None:
        """Of the images it is pretrained on; None for a given one."""
        return self.images and self.images.manifest

    @property
    def network_profile(self) -> Profile:
        """The profile with the width that this network has."""
        return dataclasses.replace(self.profile, width=self.profile.width * self.width_multiplier)

    @property
    def estimated_cost(self) -> int:
        """Images shown in training, about, each as much work as its network is wider."""
        return (
            0
            if self.images is None
            else round(self.profile.pretrain.epochs * self.images.count * self.width_multiplier**2)
        )

    @property
    def path(self) -> Path:
        return self.cache / f"{self.hash}.safetensors"


@dataclass(frozen=True)
class JointTraining:
    """One training over all domains of a run, from which the runs of a joint method take their part."""

    method: str  # full string
    backbone: Backbone
    images: tuple[ImageSet, ...]
    seed: int
    lr: float
    folder: Path | None = None  # where it is left, if not beside its backbone

    @property
    def _images(self) -> list[tuple]:
        return [(i.domain.name, i.manifest, i.limit, preprocessing_key(i.domain)) for i in self.images]

    @cached_property
    def hash(self) -> str:
        return digest(
            method=self.method,
            images=self._images,
            seed=self.seed,
            recipe=recipe_settings(self.backbone.profile.adapt),
            network=network_settings(self.backbone.profile),
            lr=self.lr,
            backbone=self.backbone.hash,
            training=TRAINING_VERSION,
        )

    @property
    def manifest(self) -> str:
        """Hash of the images that it is over, whatever the seed."""
        return digest(images=self._images)

    @property
    def estimated_cost(self) -> int:
        return self.backbone.profile.adapt.epochs * sum(i.count for i in self.images)

    @property
    def path(self) -> Path:
        return (self.folder or self.backbone.cache) / f"{self.hash}.safetensors"


def preprocessing_key(domain: Domain) -> tuple:
    """What of a domain's record decides how its images are shown."""
    return domain.mean, domain.std, domain.flip, domain.crop


def preprocessing_json(domain: Domain) -> str:
    """The same as JSON, for a record."""
    return json.dumps(dict(zip(("mean", "std", "flip", "crop"), preprocessing_key(domain), strict=True)))


@dataclass(frozen=True)
class Run:
    """One run: a method on one domain with one seed. `source_cell` only evaluates the backbone itself."""

    method: str  # full string
    backbone: Backbone
    train: ImageSet
    evaluate: ImageSet
    seed: int
    split: str
    lr: float
    source_cell: bool
    joint: JointTraining | None = None
    trains_per_domain: bool = True  # False: trained in the joint training alone
    predictions: bool = False  # are kept beside its record
    finished: bool = False  # it has its record: it is only evaluated again, for its predictions

    @property
    def domain(self) -> Domain:
        return self.train.domain

    @property
    def profile(self) -> Profile:
        return self.backbone.profile

    @property
    def settings(self) -> str:
        """The profile as JSON: rows of one table share it."""
        return json.dumps(profile_dict(self.profile), sort_keys=True)

    @property
    def presentation(self) -> str:
        """How the domain's images are shown, as JSON."""
        return preprocessing_json(self.domain)

    @cached_property
    def hash(self) -> str:
        together = {"joint": self.joint.hash} if self.joint else {}
        return digest(
            **together,
            method=self.method,
            domain=self.domain.name,
            colours=preprocessing_key(self.domain),
            seed=self.seed,
            split=self.split,
            limit=self.train.limit,
            network=network_settings(self.profile),
            recipe=recipe_settings(self.profile.adapt),
            lr=self.lr,
            train=self.train.manifest,
            evaluate=self.evaluate.manifest,
            backbone=self.backbone.hash,
            training=TRAINING_VERSION,
        )

    @property
    def estimated_cost(self) -> int:
        """Images shown in training, about: orders the runs, the longest first, and foretells the time."""
        idle = self.finished or self.source_cell or (self.joint is not None and not self.trains_per_domain)
        return 0 if idle else round(self.profile.adapt.epochs * self.train.count * self.backbone.width_multiplier**2)
