"""Opens the data of a request: draws stand-ins if no data are given, reads the annotations, packs the images."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from visual_decathlon.benchmark.config.specs import ImageSet
from visual_decathlon.benchmark.runs.image_sets import as_trained, check_splits, image_set
from visual_decathlon.benchmark.runs.request import SPLITS, Request
from visual_decathlon.benchmark.runtime.progress import Slowly
from visual_decathlon.datasets.annotations import LARGEST, Split, domains_in, read_split
from visual_decathlon.datasets.catalogue import BACKBONE_DOMAIN, DOMAINS, Domain
from visual_decathlon.datasets.duplicates import HashedImages, duplicates_within, in_two_classes, overlap
from visual_decathlon.datasets.errors import Faults, ImageErrors, InputError, option
from visual_decathlon.datasets.io import read_plain
from visual_decathlon.datasets.own_domain import read_own
from visual_decathlon.datasets.pack import FuturePack, Pack, future_pack, pack
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
    pretraining: ImageSet | None = None  # imagenet12's train, under split test too; 4/5 of it under holdout
    complete: bool = True  # every split has as many images as the catalogue states
    undecoded: int = 0  # images whose packs are not built yet, where nothing was to be written
    undrawn: bool = False  # the same, where the stand-ins are not even drawn


PreparationProgress = Callable[[str, str, int, int], None]
"""progress(task, domain, done, total)"""

DECODING = "decoding images once"


def _standins(cache: Path) -> Path:
    from visual_decathlon.datasets.standin.generate import VERSION

    return cache / f"standin-v{VERSION}-seed0"


def ensure_standins(cache: Path, progress: PreparationProgress = lambda *_: None) -> Path:
    """Return the folder of the stand-ins, in the official layout; draw them first if it does not exist."""
    from visual_decathlon.datasets.standin.generate import generate

    root = _standins(cache)
    if not root.is_dir():
        drawn = []
        progress("drawing the stand-in domains", "", 0, len(DOMAINS))

        def count(domain: str) -> None:
            drawn.append(domain)
            progress("drawing the stand-in domains", domain, len(drawn), len(DOMAINS))

        generate(root, progress=count)
    return root


def open_data(
    request: Request,
    progress: PreparationProgress,
    notify: Callable[[str], None] = lambda sentence: None,
    write: bool = True,
) -> Data:
    """Draw the stand-ins if no data are given, read the annotations, pack the images that are not packed yet.

    `notify` is called with a sentence for everything that a user may not expect: files left out, images which occur
    twice. Without `write` nothing is drawn or packed, and the result describes what it will be. Raises InputError; one
    error names all domains that cannot be read, and one names all images.
    """
    _check_names(request)
    needed = tuple(dict.fromkeys(split for splits, _ in SPLITS[request.split] for split in splits))
    problems = Faults()
    own = {name: problems.collect(read_own, name, folder, needed) for name, folder in request.selected_own_domains}
    if request.data is None:
        problems.raise_all()  # before anything is drawn
        root = ensure_standins(request.cache, progress) if write else _standins(request.cache)
    else:
        root = request.data
    annotated = _read_annotations(request, root, needed, progress, problems) | own
    data = _describe(request, root, needed, annotated)
    packs = _pack_all(request, root, annotated, progress) if write else _future_packs(request, annotated, progress)
    data.undrawn = request.data is None and not root.is_dir()
    data.undecoded = sum(len(p) for made in packs.values() for p in made.values() if isinstance(p, FuturePack))
    for domain, splits in annotated.items():
        _add_domain(data, request, splits, packs[domain])
        for note in dict.fromkeys(note for split in splits for note in split.notes):
            notify(note)
        if write and (
            request.data is not None or domain in own
        ):  # stand-ins repeat images only where they are meant to
            for note in _repetitions(request, splits, packs[domain]):
                notify(note)
    return data


def _check_names(request: Request) -> None:
    names = [*DOMAINS, *(name for name, _ in request.own_domains)]
    for domain in request.domains:
        if domain not in names:
            raise InputError(f"{domain}: no domain has this name; there are {', '.join(names)}", field="domains")


def _describe(request: Request, root: Path, needed: tuple[str, ...], annotated: dict[str, list[Split]]) -> Data:
    """Name and identify the data; no domain is in them yet."""
    if request.data is None:
        return Data(root.name, root.name, standin=True)
    standin = any(MARK in split.description for splits in annotated.values() for split in splits)
    return Data(printable(root.resolve().name), annotation_digest(root, needed), standin)


def _read_annotations(
    request: Request, root: Path, needed: tuple[str, ...], progress: PreparationProgress, problems: Faults
) -> dict[str, list[Split]]:
    """Read every needed split of the official domains, before any image is opened. Raises all `problems` too."""
    undrawn = request.data is None and not root.is_dir()
    read = _to_draw if undrawn else read_split
    annotated, wanted = {}, _wanted_domains(request, list(DOMAINS.values()) if undrawn else domains_in(root))
    slowly = Slowly(progress, "reading annotations")
    for done, domain in enumerate(wanted):
        slowly(domain.name, done, len(wanted))
        only_pretraining = domain.name == BACKBONE_DOMAIN and request.domains and BACKBONE_DOMAIN not in request.domains
        splits = ("train",) if only_pretraining else needed
        annotated[domain.name] = [problems.collect(read, root, domain, split) for split in splits]
    slowly("", len(wanted), len(wanted))
    problems.raise_all()
    return annotated


def _to_draw(root: Path, domain: Domain, split: str) -> Split:
    from visual_decathlon.datasets.standin.generate import split_to_draw

    return split_to_draw(root, domain, split)


def _wanted_domains(request: Request, available: list[Domain]) -> list[Domain]:
    """The official domains to read: those of DOMAINS=, and imagenet12 where a backbone must be pretrained."""
    names = {name for name in request.domains if name in DOMAINS}
    if lacking := [name for name in request.domains if name in names - {domain.name for domain in available}]:
        raise InputError(
            f"{lacking[0]}: {request.data} holds no annotations of it; leave it out or add its files", field="domains"
        )
    if not request.domains:
        names = {domain.name for domain in available}
    if request.user_backbone is None:
        if all(domain.name != BACKBONE_DOMAIN for domain in available):
            raise InputError(
                f"{BACKBONE_DOMAIN}: {option('data')}{request.data} lacks it, so no backbone can be pretrained; "
                f"give one with {option('backbone')}FILE, or place the ImageNet tar (`make data DOWNLOAD=` tells how)"
            )
        names.add(BACKBONE_DOMAIN)
    return [domain for domain in available if domain.name in names]


def annotation_digest(root: Path, splits: Iterable[str]) -> str:
    """Digest of the annotation files of these splits.

    Only of the splits in use: when test labels are added later, rows of val stay in one table.
    """
    digest = hashlib.sha256()
    for path in sorted(p for split in splits for p in (root / "annotations").glob(f"*_{split}.json")):
        try:
            content = read_plain(path, LARGEST)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); restore or remove the file") from None
        digest.update(path.name.encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def _pack_all(
    request: Request, root: Path, annotated: dict[str, list[Split]], progress: PreparationProgress
) -> dict[str, dict[str, Pack]]:
    """Pack every split; packs by domain and split. Raises InputError which names the bad images of all of them."""
    packs: dict[str, dict[str, Pack]] = {name: {} for name in annotated}
    images = sum(len(split) for splits in annotated.values() for split in splits)
    done, bad = 0, []

    def count(domain: str, more: int) -> None:
        nonlocal done
        done += more
        progress(DECODING, domain, done, images)

    for splits in annotated.values():
        for split in splits:
            before, domain = done, split.domain.name
            checking = partial(Slowly(progress, "looking for images that changed"), domain)
            try:
                made = pack(split, request.cache / "packs", request.profile.resize, partial(count, domain), checking)
                packs[domain][split.name] = made
            except ImageErrors as error:
                bad.append((split, error))
            if done == before:  # the pack existed already
                images -= len(split)
    if done:
        progress(DECODING, "", done, done)  # completes the bar where the last packs existed already
    if bad:
        raise _bad_images(request, root, bad)
    if request.data is None:
        _check_standins(root, annotated, packs)
    return packs


def _future_packs(
    request: Request, annotated: dict[str, list[Split]], progress: PreparationProgress
) -> dict[str, dict[str, Pack | FuturePack]]:
    """The packs of every split, as far as they are built; those of undrawn stand-ins have no manifest."""
    folder, packs = request.cache / "packs", {name: {} for name in annotated}
    for split in (split for splits in annotated.values() for split in splits):
        checking = partial(Slowly(progress, "reading images to identify them"), split.domain.name)
        if split.root.is_dir():
            packs[split.domain.name][split.name] = future_pack(split, folder, request.profile.resize, checking)
        else:
            packs[split.domain.name][split.name] = FuturePack(folder / f"{split.domain.name}-{split.name}", "", split)
    return packs


def _check_standins(root: Path, annotated: dict[str, list[Split]], packs: dict[str, dict[str, Pack]]) -> None:
    """Raise InputError where the files of a stand-in were changed after they were drawn."""
    drawn = manifests_drawn(root)
    for domain, splits in annotated.items():
        for split in splits:
            manifest = packs[domain][split.name].manifest
            if split.root == root and drawn.get(f"{domain} {split.name}") not in (None, manifest):
                raise InputError(
                    f"{domain}: {split.name} of the stand-ins in {root} is not as it was drawn; remove the folder, and "
                    "they are drawn again"
                )


def _bad_images(request: Request, root: Path, bad: list[tuple[Split, ImageErrors]]) -> InputError:
    """One error for all images that cannot be read, with its remedy."""
    problems = "; ".join(error.problem for _, error in bad)
    if request.data is None and all(split.root == root for split, _ in bad):
        return InputError(f"{problems}; remove {root}, and the stand-ins are drawn again")
    if len(bad) == 1 and bad[0][1].total == 1:
        return bad[0][1]
    places = dict.fromkeys(
        f"{option('data')}{split.root}" if split.domain.official else f"{option('own')}{split.domain.name}={split.root}"
        for split, _ in bad
    )
    commands = " and ".join(f'`make data "{place}"`' for place in places)
    return InputError(f"{problems}; restore or remove them; {commands} shows every one")


def _repetitions(request: Request, splits: list[Split], packs: dict[str, Pack]) -> list[str]:
    """Sentences on images that occur in both splits, or in two classes."""
    name = splits[0].domain.name
    listed = {s.name: HashedImages(s.name, s.files, packs[s.name].contents, packs[s.name].labels) for s in splits}
    (trained, _), ((evaluated,), part) = SPLITS[request.split]
    notes = []
    if part == "held":  # both sides of a holdout come from one split
        notes = duplicates_within(name, listed[evaluated])
    elif evaluated in listed:
        notes = overlap(name, [listed[split] for split in trained], listed[evaluated])
    return notes + in_two_classes(name, list(listed.values()))


def _add_domain(data: Data, request: Request, splits: list[Split], packs: dict[str, Pack]) -> None:
    """Check the labels of a domain's splits against each other, and add the images of both sides to `data`."""
    check_splits(splits, request)
    domain = as_trained(splits[0].domain, request.user_backbone)
    # Stand-ins are identified by their generator, not by their bytes: another version of Pillow may make other bytes.
    drawn = f"{data.name} {domain.name}" if request.data is None and domain.official else None
    classes = len(splits[0].classes)
    if set(packs) >= {name for names, _ in SPLITS[request.split] for name in names}:
        data.train[domain.name], data.evaluate[domain.name] = (
            image_set(domain, packs, names, part, classes, request.limit, drawn)
            for names, part in SPLITS[request.split]
        )
    if domain.name == BACKBONE_DOMAIN:
        part = "fit" if request.split == "holdout" else "all"
        data.pretraining = image_set(domain, packs, ("train",), part, classes, request.limit, drawn)
    if domain.official:
        data.complete &= request.limit is None and all(
            len(split) == domain.counts[("train", "val", "test").index(split.name)] for split in splits
        )
