"""What is to be run, as plain values that travel to worker processes: backbones and cells."""

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmark.identity import TRAINING_VERSION, digest
from benchmark.profiles import Profile, Recipe
from datasets.catalogue import Domain

HELD = 5  # a holdout keeps one in five images of each class back


def network_settings(profile: Profile) -> dict:
    """What of a profile decides a run's numbers beside its recipe: the network and how images are shown to it."""
    return {name: getattr(profile, name) for name in ("network", "width", "shorter", "crop", "whole", "precision")}


def recipe_settings(recipe: Recipe) -> dict:
    """What of a recipe decides them beside the rate, which a method may set; `follows` is only said."""
    return {k: v for k, v in dataclasses.asdict(recipe).items() if k not in ("follows", "lr")}


@dataclass(frozen=True)
class Images:
    """Some images of one domain: packs and the part taken of each ('all', or 'fit' and 'held' of a holdout)."""

    domain: Domain
    packs: tuple[Path, ...]
    part: str
    manifest: str
    classes: int
    limit: int | None
    count: int  # images, about: what orders the cells and foretells their time


@dataclass(frozen=True)
class Backbone:
    """A shared network: pretrained on `images` by the profile's recipe, or given in a file (`images` None)."""

    profile: Profile
    structure: str  # plain or series
    source: str  # "pretrained", or the name of what BACKBONE= gave
    cache: Path
    images: Images | None = None
    content: str | None = None  # hash of the given file

    @cached_property
    def hash(self) -> str:
        if self.images is None:
            return digest(structure=self.structure, file=self.content)
        return digest(
            structure=self.structure,
            network=network_settings(self.profile),
            recipe=recipe_settings(self.profile.pretrain),
            lr=self.profile.pretrain.lr,
            seed=self.profile.backbone_seed,
            manifest=self.images.manifest,
            limit=self.images.limit,
            training=TRAINING_VERSION,
        )

    @property
    def work(self) -> int:
        return 0 if self.images is None else self.profile.pretrain.epochs * self.images.count

    @property
    def path(self) -> Path:
        return self.cache / f"{self.hash}.safetensors"


@dataclass(frozen=True)
class Cell:
    """One run: a method on one domain with one seed. `source_cell` only evaluates the backbone itself."""

    method: str  # full string
    backbone: Backbone
    train: Images
    evaluate: Images
    seed: int
    split: str
    lr: float
    source_cell: bool

    @property
    def domain(self) -> Domain:
        return self.train.domain

    @property
    def profile(self) -> Profile:
        return self.backbone.profile

    @property
    def settings(self) -> str:
        """The profile as JSON: rows of one table share it."""
        return json.dumps(dataclasses.asdict(self.profile), sort_keys=True)

    @cached_property
    def hash(self) -> str:
        return digest(
            method=self.method,
            domain=self.domain.name,
            colours=(self.domain.mean, self.domain.std, self.domain.flip, self.domain.crop),
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
    def work(self) -> int:
        """Images shown in training, about: orders the cells, the longest first, and foretells the time."""
        return 0 if self.source_cell else self.profile.adapt.epochs * self.train.count
