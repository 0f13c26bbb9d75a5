"""From what the user asks to the runs that answer it: data opened and packed, backbones named, hashes made."""

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from visual_decathlon.benchmark.config.identity import digest
from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.config.specs import HOLDOUT_FOLDS, Backbone, ImageSet, JointTraining, Run
from visual_decathlon.benchmark.runs.user_backbone import UserBackbone
from visual_decathlon.benchmark.runtime.progress import Slowly
from visual_decathlon.benchmark.tables.score import BASELINE
from visual_decathlon.datasets.annotations import LARGEST, Split, domains_in, read_split
from visual_decathlon.datasets.catalogue import BACKBONE_DOMAIN, DOMAINS, IMAGENET_MEAN, IMAGENET_STD, Domain
from visual_decathlon.datasets.duplicates import HashedImages, duplicates_within, in_two_classes, overlap
from visual_decathlon.datasets.errors import Faults, ImageErrors, InputError
from visual_decathlon.datasets.io import read_plain
from visual_decathlon.datasets.own_domain import read_own
from visual_decathlon.datasets.pack import Pack, pack
from visual_decathlon.datasets.standin import MARK
from visual_decathlon.datasets.standin.drawn import manifests_drawn
from visual_decathlon.datasets.text import printable
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select

SPLITS = {
    # split: (what is trained on, what is evaluated), each (splits, part)
    "val": ((("train",), "all"), (("val",), "all")),
    "test": ((("train", "val"), "all"), (("test",), "all")),
    "holdout": ((("train",), "fit"), (("train",), "held")),
}


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    methods: Sequence[Method]
    profile: Profile
    data: Path | None = None  # a release; None draws stand-ins
    own: Sequence[tuple[str, Path]] = ()  # the user's own domains: (name, folder of class folders)
    domains: Sequence[str] = ()  # names, official or own; empty takes all there are
    given: UserBackbone | None = None
    split: str = "val"
    seeds: Sequence[int] = (0,)
    limit: int | None = None
    predictions: bool = False  # are kept; then the evaluated split may lack labels
    cache: Path = Path(".cache")

    @property
    def owned(self) -> Sequence[tuple[str, Path]]:
        """The own domains that take part: those that DOMAINS= names, or all where it names none of them."""
        return [(name, folder) for name, folder in self.own if name in self.domains] or self.own


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


def standins(cache: Path, told: ProgressCallback = lambda *_: None) -> Path:
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
    names = [*DOMAINS, *(name for name, _ in request.own)]
    for domain in request.domains:
        if domain not in names:
            raise InputError(f"DOMAINS={domain}: no domain has this name; there are {', '.join(names)}")
    needed = dict.fromkeys(s for splits, _ in SPLITS[request.split] for s in splits)
    faults = Faults()
    owned = {own: faults.collect(read_own, own, folder, tuple(needed)) for own, folder in request.owned}
    if root is None:
        faults.raise_all()  # before anything is drawn
        root = standins(request.cache, told)
        name = data_id = root.name
    else:
        name = printable(root.resolve().name)
    found = domains_in(root)
    annotated = _annotated(request, root, found, tuple(needed), told, faults) | owned
    if request.data is not None:
        standin = any(MARK in split.description for splits in annotated.values() for split in splits)
        data_id = _annotation_digest(root, needed)
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
        only_source = domain.name == BACKBONE_DOMAIN and request.domains and BACKBONE_DOMAIN not in request.domains
        splits = ("train",) if only_source else needed
        annotated[domain.name] = [faults.collect(read_split, root, domain, split) for split in splits]
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
                made = pack(split, request.cache / "packs", request.profile.resize, partial(count, domain), checking)
                packs[domain][split.name] = made
            except ImageErrors as error:
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


def _unread(request: Request, root: Path, bad: list[tuple[Split, ImageErrors]]) -> InputError:
    what = "; ".join(error.problem for _, error in bad)
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
    listed = {s.name: HashedImages(s.name, s.files, packs[s.name].contents, packs[s.name].labels) for s in splits}
    (trained, _), ((evaluated,), part) = SPLITS[request.split]
    notes = []
    if part == "held":  # both sides of a holdout are of one split
        notes = duplicates_within(name, listed[evaluated])
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
    if request.given is None:
        if all(domain.name != BACKBONE_DOMAIN for domain in found):
            raise InputError(
                f"{BACKBONE_DOMAIN}: DATA={request.data} lacks it, so no backbone can be pretrained; "
                "give one with BACKBONE=FILE, or place the ImageNet tar (`make data DOWNLOAD=` tells how)"
            )
        names.add(BACKBONE_DOMAIN)
    return [domain for domain in found if domain.name in names]


def _annotation_digest(root: Path, splits: Iterable[str]) -> str:
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
    if request.given is not None and request.given.colours and not said:
        # The network knows images in its own colours; a frozen one is off by points in others.
        mean, std = request.given.colours
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
    if domain.name == BACKBONE_DOMAIN:
        data.source = images(("train",), "fit" if request.split == "holdout" else "all")
    if domain.official:
        data.complete &= request.limit is None and all(
            len(split) == domain.counts[("train", "val", "test").index(split.name)] for split in splits
        )


def backbones(request: Request, data: Data, width_multiplier: float = 1.0) -> dict[str, Backbone]:
    """By structure: those that the methods of the request, and the baseline, stand on."""
    common = {"profile": request.profile, "cache": request.cache / "backbones"}
    if request.given is not None:
        source = f"{request.given.name} {digest(**request.given.contents)[:8]}"  # a file may change under its name
        return {
            structure: Backbone(**common, structure=structure, source=source, content=content)
            for structure, content in request.given.contents.items()
        }
    return {
        s: Backbone(**common, structure=s, source="pretrained", images=data.source, width_multiplier=width_multiplier)
        for s in ("plain", "series")
    }


def unsupported_reason(request: Request, method: Method) -> str:
    """Why a method cannot run as asked, in one sentence; "" where it can."""
    if sentence := method.unsupported_reason(request.profile.network):
        return sentence
    given = request.given
    if request.profile.compile and (method.has_joint_stage or not method.compiles):
        return f"SET=compile=true: the training step of {method.name} is none that torch.compile takes; leave it out"
    if method.needs_head and given is not None and given.headless:
        return (
            f"{method.name} holds the network to the answers of its head, and BACKBONE={given.name} has none; "
            "give weights with the head that they were trained with"
        )
    if method.width_multiplier != 1 and given is not None:
        return (
            f"{method.name} stands on a backbone {method.width_multiplier:g} times as wide as the others', and "
            f"BACKBONE={given.name} holds none; leave BACKBONE out to pretrain it on imagenet12"
        )
    if method.width_multiplier != 1 and request.profile.network != "resnet26":
        return f"{method.name} needs a wider backbone, and {request.profile.network} has one width; use resnet26"
    if given is not None and method.backbone_structure not in given.contents:
        if method.backbone_structure == "series":
            return (
                f"BACKBONE={given.name} holds no network pretrained with series adapters in it, which "
                f"{method.name} needs; add one to the folder, or ask for res_adapter(init='zero', off_the_shelf=True)"
            )
        return f"BACKBONE={given.name} holds no plain network, which {method.name} needs; add one"
    return ""


def runs(request: Request, data: Data, methods: Sequence[Method], seeds: Sequence[int]) -> list[Run]:
    """One run a method, domain and seed, in that order. Raises InputError for a method that cannot run."""
    wanted = [name for name in data.train if not request.domains or name in request.domains or name not in DOMAINS]
    out = []
    for method in methods:
        if sentence := unsupported_reason(request, method):
            raise InputError(sentence)
        backbone = backbones(request, data, method.width_multiplier)[method.backbone_structure]
        rate = request.profile.adapt.lr or method.lr

        def trained(name: str) -> ImageSet:
            return data.source if name == BACKBONE_DOMAIN and request.given is None else data.train[name]

        joints = {}
        if method.has_joint_stage:
            images = tuple(map(trained, wanted))
            joints = {seed: JointTraining(method.full_spec, backbone, images, seed, rate) for seed in seeds}
        for name in wanted:
            for seed in seeds:
                out.append(
                    Run(
                        method=method.full_spec,
                        backbone=backbone,
                        train=trained(name),
                        evaluate=data.evaluate[name],
                        seed=seed,
                        split=request.split,
                        lr=rate,
                        source_cell=name == BACKBONE_DOMAIN and request.given is None and method.trains_per_domain,
                        joint=joints.get(seed),
                        trains_per_domain=method.trains_per_domain,
                        predictions=request.predictions,
                    )
                )
    return out


def baseline_runs(request: Request, data: Data, seeds: Sequence[int]) -> list[Run]:
    """The fine-tune runs on the ten domains, whose errors set E_max; none where BACKBONE= holds no plain network."""
    (method,) = select(BASELINE)
    if method.backbone_structure not in backbones(request, data):
        return []
    return [run for run in runs(request, data, [method], seeds) if run.domain.official]


def seeds_of(text: str) -> tuple[int, ...]:
    """`3` is 0, 1, 2; `0,5,7` is what it says."""
    if re.fullmatch(r"\d+", text) and 0 < int(text) <= 1000:
        return tuple(range(int(text)))
    if re.fullmatch(r"\d+(,\d+)*,?", text) and "," in text:
        seeds = tuple(dict.fromkeys(int(part) for part in text.strip(",").split(",")))
        if max(seeds) < 2**31:
            return seeds
    raise InputError(f"SEEDS={text}: give how many (3 is 0, 1, 2) or a list such as 0,5,7 (`5,` is seed 5 alone)")
