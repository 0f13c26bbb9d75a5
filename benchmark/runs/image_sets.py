"""The image sets of one domain: checks its splits against each other, and describes what a run reads of them."""

import dataclasses
from collections import Counter

from visual_decathlon.benchmark.config.specs import HOLDOUT_FOLDS, ImageSet
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.runs.user_backbone import UserBackbone
from visual_decathlon.datasets.annotations import Split
from visual_decathlon.datasets.catalogue import IMAGENET_MEAN, IMAGENET_STD, Domain
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.pack import Pack


def check_splits(splits: list[Split], request: Request) -> None:
    """Raise InputError where the splits of a domain, train first, can not be trained and evaluated as asked."""
    train = splits[0]
    for split in splits[1:]:
        _check_disjoint(train, split)
        if split.labels is not None:
            _check_classes(train, split)
        elif not request.predictions:
            name = train.domain.name
            raise InputError(
                f"{name}: {split.source} holds no labels; put the published {name}_test.json next to it, "
                f"use {option('split')}val, or predict it for a submission with {option('predictions')}1"
            )
    if request.split == "holdout" and max(Counter(train.labels.tolist()).values()) < HOLDOUT_FOLDS:
        raise InputError(
            f"{train.domain.name}: {train.source} has no class of {HOLDOUT_FOLDS} images, of which a holdout keeps one "
            f"back; use {option('split')}val or add images"
        )


def _check_disjoint(train: Split, split: Split) -> None:
    if shared := set(train.files) & set(split.files):
        raise InputError(
            f"{train.domain.name}: {split.source} names {min(shared)}, which train has too ({len(shared)} in both); "
            "an accuracy on training images says nothing: take them out of one of the two"
        )


def _check_classes(train: Split, split: Split) -> None:
    if foreign := sorted(set(split.labels.tolist()) - set(train.labels.tolist())):
        name = split.classes[foreign[0]] or foreign[0]
        raise InputError(
            f"{train.domain.name}: {split.source} has the class {name!r}, which no image in train has; "
            "remove its images from there or add some to train"
        )


def as_trained(domain: Domain, user_backbone: UserBackbone | None) -> Domain:
    """The domain, normalised by the mean and std of the user's backbone where its file states them.

    A frozen network expects the colours that it was trained on; others cost it points of accuracy. An own domain whose
    domain.json states a mean and std keeps them.
    """
    stated = domain.k == 0 and (domain.mean, domain.std) != (IMAGENET_MEAN, IMAGENET_STD)
    if user_backbone is None or not user_backbone.mean_std or stated:
        return domain
    mean, std = user_backbone.mean_std
    return dataclasses.replace(domain, mean=mean, std=std)


def image_set(
    domain: Domain,
    packs: dict[str, Pack],
    names: tuple[str, ...],
    part: str,
    classes: int,
    limit: int | None,
    drawn: str | None,
) -> ImageSet:
    """Describe a part of the splits `names`; `drawn` identifies stand-ins in place of the manifests of their packs."""
    return ImageSet(
        domain=domain,
        packs=tuple(packs[name].folder for name in names),
        part=part,
        manifest=" ".join(drawn or packs[name].manifest for name in names) + f" {'+'.join(names)} {part}",
        classes=classes,
        limit=limit,
        count=min(sum(len(packs[name]) for name in names), limit or 10**9),
        labelled=all(packs[name].labels is not None for name in names),
    )
