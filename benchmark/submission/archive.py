"""Reads, checks and writes submissions to the challenge: a ZIP with `results.json`, a flat list of all test images.

An image id is unique over the domains: k * 10^7 + ..., where k is the number of its domain. It must be an id of that
domain's test split, and its category id must be one of that domain's.
"""

import io
import zipfile
import zlib
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from visual_decathlon.datasets.annotations import Split, domains_in, read_split
from visual_decathlon.datasets.catalogue import DOMAINS, Domain, category_id, image_id
from visual_decathlon.datasets.errors import InputError, option, reason
from visual_decathlon.datasets.io import read_plain, write_bytes
from visual_decathlon.datasets.zip_file import open_zip

NAME = "results.json"
LARGEST = 2**28  # bytes of results.json, 40 times a real one, and of its ZIP
_INDEX = 2**20  # bytes of its list of members: some ten thousand
_PIECE = 2**16  # bytes unpacked at once
_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, MemoryError)
_BY_NUMBER = {domain.k: domain for domain in DOMAINS.values()}
_PER_DOMAIN = 10**7  # ids

_Id = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class _Entry(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    image_id: _Id
    category_id: _Id


@dataclass(frozen=True)
class Submission:
    """The entries of a submission in their order: `images` and `categories` are (N,) int64 ids; `name` for messages."""

    name: str
    images: np.ndarray
    categories: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def for_domain(self, domain: Domain) -> "Submission":
        """The entries of one domain."""
        own = self.images // _PER_DOMAIN == domain.k
        return Submission(self.name, self.images[own], self.categories[own])


@dataclass(frozen=True)
class ExpectedImages:
    """The test images of a domain: their ids, (N,) int64, sorted, and the number of classes."""

    domain: Domain
    ids: np.ndarray
    classes: int

    @property
    def official(self) -> bool:
        """Whether these are the test images of the official release."""
        return np.array_equal(self.ids, _official_ids(self.domain))


def official_test_images() -> list[ExpectedImages]:
    """The test images of the official release, by domain."""
    return [ExpectedImages(domain, _official_ids(domain), domain.classes) for domain in DOMAINS.values()]


def _official_ids(domain: Domain) -> np.ndarray:
    """Test ids continue the count of train and val."""
    train, val, test = domain.counts
    return image_id(domain.k, "test", train + val + 1) + np.arange(test)


def release_test_images(root: Path) -> list[ExpectedImages]:
    """The test images of another release. Raises InputError as `read_split` and `split_test_images` do."""
    return [split_test_images(read_split(root, domain, "test")) for domain in domains_in(root)]


def split_test_images(split: Split) -> ExpectedImages:
    """The test images of a split.

    Raises InputError where an id has another domain's number, because an entry has no other sign of its domain.
    """
    foreign = split.ids[split.ids // _PER_DOMAIN != split.domain.k]
    if len(foreign):
        raise InputError(
            f"{split.domain.name}: {split.source} has the image id {foreign[0]}, which is not of domain number "
            f"{split.domain.k}; restore the file from the devkit"
        )
    return ExpectedImages(split.domain, np.sort(split.ids), len(split.classes))


def read(path: Path) -> Submission:
    """Read a ZIP with results.json in it, or that file itself; the content decides which it is.

    Raises InputError for a file that is neither, that holds anything but a list of entries, that has no entry, or two
    entries of one image.
    """
    try:
        content = read_plain(path, LARGEST)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); name a submission with {option('file')}"
        ) from None
    if content.startswith(b"PK"):
        content = _unpacked(content, path)
    try:
        entries = msgspec.json.decode(content.removeprefix(BOM_UTF8), type=list[_Entry])
    except msgspec.ValidationError as error:
        raise InputError(
            f'{path} is no submission ({error}); it must be a list of {{"image_id": number, "category_id": number}}'
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} holds no JSON ({error}); give a ZIP with {NAME} in it, or that file") from None
    except MemoryError:
        raise InputError(f"there is no memory for the entries of {path}; give one a test image") from None
    if not entries:
        raise InputError(f"{path} has no entry; a submission has one for every test image")
    images = np.fromiter((e.image_id for e in entries), np.int64, len(entries))
    categories = np.fromiter((e.category_id for e in entries), np.int64, len(entries))
    ordered = np.sort(images)
    if len(twice := ordered[1:][ordered[1:] == ordered[:-1]]):
        raise InputError(f"{path} has the image id {twice[0]} more than once; keep one entry an image")
    return Submission(str(path), images, categories)


def _unpacked(content: bytes, path: Path) -> bytes:
    """Unpack results.json of a ZIP, at most LARGEST bytes, even if the ZIP states another size."""
    try:
        with open_zip(io.BytesIO(content), _INDEX) as archive:
            if NAME not in archive.namelist():
                members = ", ".join(archive.namelist()[:3]) or "nothing"
                raise InputError(f"{path} holds no {NAME} at its top (it has {members}); pack that file alone")
            about = archive.getinfo(NAME)
            if about.compress_type not in (
                zipfile.ZIP_STORED,
                zipfile.ZIP_DEFLATED,
            ):  # other methods unpack everything at once
                raise InputError(f"{path} is packed as zip does not by default; pack {NAME} with Deflate")
            out, size = io.BytesIO(), about.file_size
            with archive.open(about) as member:
                while size <= LARGEST and (piece := member.read(_PIECE)):
                    size = max(size, out.tell() + out.write(piece))
            if size > LARGEST:
                raise InputError(f"{path}: its {NAME} unpacks to over {LARGEST:,} bytes, no submission; pack it anew")
            return out.getvalue()
    except _ZIP_DAMAGE as error:
        raise InputError(f"{path} is a ZIP that cannot be read ({reason(error)}); pack or fetch it again") from None


def check(submission: Submission, expected: Sequence[ExpectedImages], some: bool = False) -> None:
    """Raise InputError unless every image of `expected` is in it, no other, each with a category of its domain.

    With `some` a domain may be missing, and entries of other official domains are ignored.
    """
    known = set(_BY_NUMBER) if some else {one.domain.k for one in expected}
    foreign = submission.images[~np.isin(submission.images // _PER_DOMAIN, list(known))]
    if len(foreign):
        raise InputError(_foreign_message(submission, foreign[0]))
    present = [(one, entries) for one in expected if len(entries := submission.for_domain(one.domain))]
    missing = {one.domain.name: _missing_ids(entries, one) for one, entries in present}
    absent = [one.domain.name for one in expected if one.domain.name not in missing and not some]
    lacking = [f"every image of {', '.join(absent)}"] if absent else []
    lacking += [f"{len(ids):,} image(s) of {name} (first: {ids[0]})" for name, ids in missing.items() if len(ids)]
    if lacking:
        raise InputError(f"{submission.name} lacks {', '.join(lacking)}; give every test image its entry")


def _missing_ids(entries: Submission, expected: ExpectedImages) -> np.ndarray:
    """Return the ids that the entries of one domain lack. Raises InputError for a wrong entry."""
    domain = expected.domain
    if len(foreign := np.setdiff1d(entries.images, expected.ids)):
        raise InputError(_foreign_message(entries, foreign[0]))
    first, last = category_id(domain.k, 0), category_id(domain.k, expected.classes - 1)
    wrong = (entries.categories < first) | (entries.categories > last)
    if wrong.any():
        image, category = entries.images[wrong][0], entries.categories[wrong][0]
        other = _BY_NUMBER.get(category // _PER_DOMAIN, domain)
        problem = f"of {other.name}" if other is not domain else "no class of it"
        raise InputError(
            f"{entries.name} gives the image {image} of {domain.name} the category id {category}, which is {problem}; "
            f"take one from {first} to {last}"
        )
    return np.setdiff1d(expected.ids, entries.images)


def _foreign_message(submission: Submission, image: int) -> str:
    domain = _BY_NUMBER.get(image // _PER_DOMAIN)
    return (
        f"{submission.name} has the image id {image}, which is no test image of "
        f"{domain.name if domain else 'any domain'}; remove it, or name its release ({option('data')}; "
        f"{option('labels')} to score it)"
    )


def write(submission: Submission, path: Path) -> None:
    """Write the ZIP, ordered by image id, so that the same entries give the same bytes.

    Raises InputError as `write_bytes` does.
    """
    order = np.argsort(submission.images)
    pairs = zip(submission.images[order].tolist(), submission.categories[order].tolist(), strict=True)
    content = msgspec.json.encode([_Entry(*pair) for pair in pairs])
    about = zipfile.ZipInfo(NAME)  # dated 1980, not now
    about.compress_type, about.create_system, about.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(about, content)
    write_bytes(packed.getvalue(), path, named="out")
