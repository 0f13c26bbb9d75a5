"""Specifications of runs, joint trainings and backbones: plain values that are sent to worker processes."""

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

HOLDOUT_FOLDS = 5  # a holdout keeps back one of five images of each class

NEWER = {"compile": False, "deterministic": True}
"""Settings that older records and hashes lack, with the value that those runs had: kept only where it differs."""
NEWER_OF_RECIPE = {"norm_head_decay": 1.0, "decay_leak": False, "paper_lr": 0.0}
"""The same of a recipe."""


def profile_dict(profile: Profile) -> dict:
    """Returns the whole profile under the names of records and hashes."""
    kept = _without(NEWER, dataclasses.asdict(profile))
    return _recorded(kept | {part: _without(NEWER_OF_RECIPE, kept[part]) for part in ("adapt", "pretrain")})


def _without(defaults: dict, settings: dict) -> dict:
    return {name: value for name, value in settings.items() if name not in defaults or value != defaults[name]}


def recorded_profile(settings: str) -> Profile:
    """Reads a profile from the `settings` of a record. Raises msgspec.DecodeError where they are not a profile."""
    import msgspec

    return msgspec.convert(_renamed(msgspec.json.decode(settings, type=dict), current_name), Profile)


def _recorded(settings: dict) -> dict:
    return _renamed(settings, lambda name: RECORDED_NAMES.get(name, name))


def _renamed(settings: dict, name: Callable[[str], str]) -> dict:
    return {name(k): _renamed(v, name) if isinstance(v, dict) else v for k, v in settings.items()}


def network_settings(profile: Profile) -> dict:
    """Returns the settings besides the recipe that decide the numbers of a run: the network and its image sizes."""
    names = _recorded(dict.fromkeys(("network", "width", "resize", "crop", "uncropped_size", "precision", *NEWER)))
    settings = {name: value for name, value in profile_dict(profile).items() if name in names}
    if profile.compile:
        settings["compile"] = "body"  # the head was compiled too once, with other rounding
    if profile.network != "resnet26":
        settings["layout"] = "contiguous"  # a CPU computed in channels_last once, with other rounding
    return settings


def recipe_settings(recipe: Recipe) -> dict:
    """Returns the settings of a recipe that decide numbers, without the learning rate, which a method may set."""
    kept = _without(NEWER_OF_RECIPE, dataclasses.asdict(recipe))
    return _recorded({k: v for k, v in kept.items() if k not in ("follows", "lr", "paper_lr")})


@dataclass(frozen=True)
class ImageSet:
    """Images of one domain: packs, and the part of each ('all', or 'fit' and 'held' of a holdout)."""

    domain: Domain
    packs: tuple[Path, ...]
    part: str
    manifest: str
    classes: int
    limit: int | None
    count: int  # approximate number of images: it orders the runs and estimates their time
    labelled: bool = True


@dataclass(frozen=True)
class Backbone:
    """A shared network: pretrained on `images` by the profile's recipe, or read from a file (`images` is None)."""

    profile: Profile
    structure: str  # plain or series
    source: str  # "pretrained", or the name of the file of BACKBONE=
    cache: Path
    width_multiplier: float = 1.0  # multiplies the profile's width
    images: ImageSet | None = None
    content: str | None = None  # hash of the weights in the file
    choice: KernelChoice | None = None  # that of a run that is repeated; None lets the device choose

    @cached_property
    def hash(self) -> str:
        """Hash of the pretraining, or of the weights in the file."""
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
        """Manifest of the images of its pretraining; None for a file."""
        return self.images and self.images.manifest

    @property
    def network_profile(self) -> Profile:
        """The profile with the width of this network."""
        return dataclasses.replace(self.profile, width=self.profile.width * self.width_multiplier)

    @property
    def estimated_cost(self) -> int:
        """Approximate number of images in its pretraining, weighted by the square of the width."""
        if self.images is None:
            return 0
        return round(self.profile.pretrain.epochs * self.images.count * self.width_multiplier**2)

    @property
    def path(self) -> Path:
        """File of its weights."""
        return self.cache / f"{self.hash}.safetensors"

    @property
    def checkpoint(self) -> Path:
        """File of its unfinished pretraining."""
        return self.path.with_suffix(".part")


@dataclass(frozen=True)
class JointTraining:
    """One training on several domains at once; each run of a joint method takes its domain's part of it."""

    method: str  # full string
    backbone: Backbone
    images: tuple[ImageSet, ...]
    seed: int
    lr: float
    folder: Path | None = None  # of its file; None: the folder of its backbone
    classifier: bool = False  # it trains the method's classifier of domains, not the domains' networks

    @property
    def _images(self) -> list[tuple]:
        return [(i.domain.name, i.manifest, i.limit, preprocessing_key(i.domain)) for i in self.images]

    @cached_property
    def hash(self) -> str:
        """Hash of everything that decides its numbers."""
        return digest(
            **({"classifier": True} if self.classifier else {}),
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
        """Hash of its images, whatever the seed."""
        return digest(images=self._images)

    @property
    def estimated_cost(self) -> int:
        """Approximate number of images shown in the training."""
        return self.backbone.profile.adapt.epochs * sum(i.count for i in self.images)

    @property
    def path(self) -> Path:
        """File of its weights."""
        return (self.folder or self.backbone.cache) / f"{self.hash}.safetensors"

    @property
    def checkpoint(self) -> Path:
        """File of the unfinished training."""
        return self.path.with_suffix(".part")


def preprocessing_key(domain: Domain) -> tuple:
    """Returns how images of the domain are preprocessed: mean, standard deviation, flip, crop."""
    return domain.mean, domain.std, domain.flip, domain.crop


def preprocessing_json(domain: Domain) -> str:
    """Returns the same as JSON, for the field `presentation` of a record."""
    return json.dumps(dict(zip(("mean", "std", "flip", "crop"), preprocessing_key(domain), strict=True)))


@dataclass(frozen=True)
class Run:
    """One run: a method on one domain with one seed. A `source_cell` evaluates the backbone itself, untrained."""

    method: str  # full string
    backbone: Backbone
    train: ImageSet
    evaluate: ImageSet
    seed: int
    split: str
    lr: float
    source_cell: bool
    joint: JointTraining | None = None
    trains_per_domain: bool = True  # False: only the joint training trains it
    predictions: bool = False  # whether its predictions are written
    finished: bool = False  # whether it has its record, and is only evaluated again for its predictions
    classifier: JointTraining | None = None  # of the classifier of domains that it is evaluated behind

    @property
    def domain(self) -> Domain:
        """The domain of its images."""
        return self.train.domain

    @property
    def profile(self) -> Profile:
        """The profile of its backbone."""
        return self.backbone.profile

    @property
    def joint_trainings(self) -> tuple[JointTraining, ...]:
        """The trainings over all domains that it uses: of the networks, of a classifier of domains."""
        return tuple(joint for joint in (self.joint, self.classifier) if joint is not None)

    @property
    def settings(self) -> str:
        """The profile as JSON. The rows of one table have the same."""
        return json.dumps(profile_dict(self.profile), sort_keys=True)

    @property
    def presentation(self) -> str:
        """The preprocessing of the domain's images as JSON."""
        return preprocessing_json(self.domain)

    @cached_property
    def hash(self) -> str:
        """Hash of everything that decides the numbers of the run: its identity."""
        together = {"joint": self.joint.hash} if self.joint else {}
        together |= {"classifier": self.classifier.hash} if self.classifier else {}
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
        """Approximate number of images shown in training: it orders the runs, longest first, and estimates the time."""
        idle = self.finished or self.source_cell or (self.joint is not None and not self.trains_per_domain)
        return 0 if idle else round(self.profile.adapt.epochs * self.train.count * self.backbone.width_multiplier**2)
