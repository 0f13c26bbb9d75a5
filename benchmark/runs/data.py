"""Opens the data of a request: reads the annotations, packs the images, checks the splits against each other."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from visual_decathlon.benchmark.config.specs import HOLDOUT_FOLDS, ImageSet
from visual_decathlon.benchmark.runs.request import SPLITS, Request
from visual_decathlon.benchmark.runtime.progress import Slowly
from visual_decathlon.datasets.annotations import LARGEST, Split, domains_in, read_split
from visual_decathlon.datasets.catalogue import DOMAINS, IMAGENET_MEAN, IMAGENET_STD, SOURCE, Domain
from visual_decathlon.datasets.errors import BadImages, Faults, InputError
from visual_decathlon.datasets.folder import read_own
from visual_decathlon.datasets.io import read_plain
from visual_decathlon.datasets.pack import Pack, pack
from visual_decathlon.datasets.repeated import Listed, in_two_classes, overlap, within
from visual_decathlon.datasets.standin import MARK
from visual_decathlon.datasets.standin.drawn import manifests_drawn
from visual_decathlon.datasets.text import printable


@dataclass
class Data:
    """Opened data: the images that each domain trains on and is evaluated on."""

    name: str
    id: str
    standin: bool
    train: dict[str, ImageSet] = field(default_factory=dict)
    evaluate: dict[str, ImageSet] = field(default_factory=dict)
    source: ImageSet | None = None  # imagenet12's train, also under test; 4/5 of it under holdout
    complete: bool = True  # every count as the catalogue has it


ProgressCallback = Callable[[str, str, int, int], None]
"""progress(what, domain, done, of)"""

DECODING = "decoding images once"


def ensure_standins(cache: Path, told: ProgressCallback = lambda *_: None) -> Path:
    """The folder of the drawn stand-ins, in the official layout; drawn if they are not there yet."""
    from visual_decathlon.datasets.standin.generate import VERSION, generate

    root = cache / f"standin-v{VERSION}-seed0"
    if not root.is_dir():
        drawn = []
        told("drawing the stand-in domains", "", 0, len(DOMAINS))

        def one(domain: str) -> None:
            drawn.append(domain)
            told("drawing the stand-in domains", domain, len(drawn), len(DOMAINS))

        generate(root, progress=one)
    return root


def open_data(request: Request, told: ProgressCallback, say: Callable[[str], None] = lambda sentence: None) -> Data:
    """Draw the stand-ins if no data are given, read the annotations, pack what is not packed yet.

    `say` is given a sentence for what is taken otherwise than one may think: files left out, images that are there
    twice. Raises InputError; all domains that cannot be read are named together, and all images.
    """
    root, name, data_id, standin = request.data, "", "", True
    names = [*DOMAINS, *(name for name, _ in request.own_domains)]
    for domain in request.domains:
        if domain not in names:
            raise InputError(f"DOMAINS={domain}: no domain has this name; there are {', '.join(names)}")
    needed = dict.fromkeys(s for splits, _ in SPLITS[request.split] for s in splits)
    faults = Faults()
    owned = {own: faults.kept(read_own, own, folder, tuple(needed)) for own, folder in request.selected_own_domains}
    if root is None:
        faults.raise_all()  # before anything is drawn
        root = ensure_standins(request.cache, told)
        name = data_id = root.name
    else:
        name = printable(root.resolve().name)
    found = domains_in(root)
    annotated = _annotated(request, root, found, tuple(needed), told, faults) | owned
    if request.data is not None:
        standin = any(MARK in split.description for splits in annotated.values() for split in splits)
        data_id = annotation_digest(root, needed)
    data = Data(name, data_id, standin)
    packs = _packs(request, root, annotated, told)
    for domain, splits in annotated.items():
        _add(data, request, splits, packs[domain])
        for note in dict.fromkeys(note for split in splits for note in split.notes):
            say(note)
        if request.data is not None or domain in owned:  # stand-ins repeat no image that they were not meant to
            for note in _repeats(request, splits, packs[domain]):
                say(note)
    return data


def _annotated(
    request: Request, root: Path, found: list[Domain], needed: tuple[str, ...], told: ProgressCallback, faults: Faults
) -> dict[str, list[Split]]:
    """Every split that is needed of the official domains, read before any image is opened. Raises all `faults`, too."""
    annotated, wanted = {}, _wanted(request, found)
    slowly = Slowly(told, "reading annotations")
    for done, domain in enumerate(wanted):
        slowly(domain.name, done, len(wanted))
        only_source = domain.name == SOURCE and request.domains and SOURCE not in request.domains
        splits = ("train",) if only_source else needed
        annotated[domain.name] = [faults.kept(read_split, root, domain, split) for split in splits]
    slowly("", len(wanted), len(wanted))
    faults.raise_all()
    return annotated


def _packs(
    request: Request, root: Path, annotated: dict[str, list[Split]], told: ProgressCallback
) -> dict[str, dict[str, Pack]]:
    """By domain and split. Raises InputError that names what cannot be read of all of them."""
    packs: dict[str, dict[str, Pack]] = {name: {} for name in annotated}
    images = sum(len(split) for splits in annotated.values() for split in splits)
    done, bad = 0, []

    def count(domain: str, more: int) -> None:
        nonlocal done
        done += more
        told(DECODING, domain, done, images)

    for splits in annotated.values():
        for split in splits:
            before, domain = done, split.domain.name
            checking = partial(Slowly(told, "looking for images that changed"), domain)
            try:
                made = pack(split, request.cache / "packs", request.profile.shorter, partial(count, domain), checking)
                packs[domain][split.name] = made
            except BadImages as error:
                bad.append((split, error))
            if done == before:  # it was there already
                images -= len(split)
    if done:
        told(DECODING, "", done, done)  # ends the bar where the last packs were there
    if bad:
        raise _unread(request, root, bad)
    noted = manifests_drawn(root) if request.data is None else {}
    for domain, splits in annotated.items():
        for split in splits:
            if split.root == root and noted.get(f"{domain} {split.name}") not in (
                None,
                packs[domain][split.name].manifest,
            ):
                raise InputError(
                    f"{domain}: {split.name} of the stand-ins in {root} is not as it was drawn; remove the folder, and "
                    "they are drawn again"
                )
    return packs


def _unread(request: Request, root: Path, bad: list[tuple[Split, BadImages]]) -> InputError:
    what = "; ".join(error.what for _, error in bad)
    if request.data is None and all(split.root == root for split, _ in bad):
        return InputError(f"{what}; remove {root}, and the stand-ins are drawn again")
    if len(bad) == 1 and bad[0][1].total == 1:
        return bad[0][1]
    places = dict.fromkeys(
        f"DATA={split.root}" if split.domain.official else f"OWN={split.domain.name}={split.root}" for split, _ in bad
    )
    commands = " and ".join(f'`make data "{place}"`' for place in places)
    return InputError(f"{what}; restore or remove them; {commands} shows every one")


def _repeats(request: Request, splits: list[Split], packs: dict[str, Pack]) -> list[str]:
    name = splits[0].domain.name
    listed = {s.name: Listed(s.name, s.files, packs[s.name].contents, packs[s.name].labels) for s in splits}
    (trained, _), ((evaluated,), part) = SPLITS[request.split]
    notes = []
    if part == "held":  # both sides of a holdout are of one split
        notes = within(name, listed[evaluated])
    elif evaluated in listed:
        notes = overlap(name, [listed[split] for split in trained], listed[evaluated])
    return notes + in_two_classes(name, list(listed.values()))


def _wanted(request: Request, found: list[Domain]) -> list[Domain]:
    names = {name for name in request.domains if name in DOMAINS}
    if lacking := [name for name in request.domains if name in names - {domain.name for domain in found}]:
        raise InputError(
            f"DOMAINS={lacking[0]}: {request.data} holds no annotations of it; leave it out or add its files"
        )
    if not request.domains:
        names = {domain.name for domain in found}
    if request.user_backbone is None:
        if all(domain.name != SOURCE for domain in found):
            raise InputError(
                f"{SOURCE}: DATA={request.data} lacks it, so no backbone can be pretrained; "
                "give one with BACKBONE=FILE, or place the ImageNet tar (`make data DOWNLOAD=` tells how)"
            )
        names.add(SOURCE)
    return [domain for domain in found if domain.name in names]


def annotation_digest(root: Path, splits: Iterable[str]) -> str:
    """Of the splits in use: test labels that come later leave the rows of val in one table."""
    found = hashlib.sha256()
    for path in sorted(p for split in splits for p in (root / "annotations").glob(f"*_{split}.json")):
        try:
            content = read_plain(path, LARGEST)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); restore or remove the file") from None
        found.update(path.name.encode() + hashlib.sha256(content).digest())
    return found.hexdigest()[:16]


def _add(data: Data, request: Request, splits: list[Split], packs: dict[str, Pack]) -> None:
    """Check the labels of a domain's splits against each other and note what is trained on and evaluated."""
    domain, train = splits[0].domain, splits[0]
    known = set(train.labels.tolist())
    for split in splits[1:]:
        if shared := set(train.files) & set(split.files):
            raise InputError(
                f"{domain.name}: {split.source} names {min(shared)}, which train has too ({len(shared)} in both); "
                "a figure on images that were trained on is none: take them out of one of the two"
            )
        if split.labels is None and request.predictions:
            continue
        if split.labels is None:
            raise InputError(
                f"{domain.name}: {split.source} holds no labels; put the published {domain.name}_test.json beside it, "
                "use SPLIT=val, or predict it for a submission with PREDICTIONS=1"
            )
        if foreign := sorted(set(split.labels.tolist()) - known):
            names = split.classes[foreign[0]] or foreign[0]
            raise InputError(
                f"{domain.name}: {split.source} has the class {names!r}, which no image in train has; "
                "remove its images from there or add some to train"
            )
    if request.split == "holdout" and max(Counter(train.labels.tolist()).values()) < HOLDOUT_FOLDS:
        raise InputError(
            f"{domain.name}: {train.source} has no class of {HOLDOUT_FOLDS} images, of which a holdout keeps one back; "
            "use SPLIT=val or add images"
        )
    said = domain.k == 0 and (domain.mean, domain.std) != (IMAGENET_MEAN, IMAGENET_STD)  # by its domain.json
    if request.user_backbone is not None and request.user_backbone.mean_std and not said:
        # The network knows images in its own colours; a frozen one is off by points in others.
        mean, std = request.user_backbone.mean_std
        domain = dataclasses.replace(domain, mean=mean, std=std)

    def images(names: tuple[str, ...], part: str) -> ImageSet:
        # Stand-ins are identified by their generator, not by their bytes: another Pillow may give others.
        drawn = f"{data.name} {domain.name}" if request.data is None and domain.official else None
        return ImageSet(
            domain=domain,
            packs=tuple(packs[name].folder for name in names),
            part=part,
            manifest=" ".join(drawn or packs[name].manifest for name in names) + f" {'+'.join(names)} {part}",
            classes=len(train.classes),
            limit=request.limit,
            count=min(sum(len(packs[name]) for name in names), request.limit or 10**9),
            labelled=all(packs[name].labels is not None for name in names),
        )

    if set(packs) >= {name for names, _ in SPLITS[request.split] for name in names}:
        data.train[domain.name], data.evaluate[domain.name] = (images(*which) for which in SPLITS[request.split])
    if domain.name == SOURCE:
        data.source = images(("train",), "fit" if request.split == "holdout" else "all")
    if domain.official:
        data.complete &= request.limit is None and all(
            len(split) == domain.counts[("train", "val", "test").index(split.name)] for split in splits
        )
