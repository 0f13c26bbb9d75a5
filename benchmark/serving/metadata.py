"""The metadata of an adapter file: the method, the backbone, and how images are preprocessed."""

import json
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from visual_decathlon.benchmark.config.profiles import LARGEST
from visual_decathlon.datasets.errors import InputError, option

Hash = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]  # the name of a file
_Count = Annotated[int, Meta(ge=1, lt=2**31)]
_Side = Annotated[int, Meta(ge=1, le=LARGEST)]
_Three = tuple[float, float, float]
_Positive = Annotated[float, Meta(gt=0)]
_LONGEST = 10_000_000  # characters of all class names together


class AdapterMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata of a safetensors file of adapters; in the file each value is a string.

    An image is preprocessed as in the evaluation: RGB in 0 to 1, its shorter side resized to `shorter` pixels
    (bicubic), the centre square of `crop` pixels cut out, minus `mean` and divided by `std`.
    """

    method: Annotated[str, Meta(max_length=1000)]  # the method string with every option
    backbone: Hash  # hash of the backbone that it was trained on
    domain: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
    classes: _Count
    mean: _Three  # a JSON list
    std: tuple[_Positive, _Positive, _Positive]  # a JSON list
    crop: _Side
    shorter: _Side
    training: int  # version of the suite's training code
    joint: Hash | None = None  # hash of the joint training; None where the method has none
    # The classes' names in the order of the logits, a JSON list; "" for one without a name. Older files lack them.
    names: tuple[str, ...] | None = None
    # Digests of the backbone's weights, and of the joint training's where the domain uses those. The hashes above name
    # the recipe, and another processor makes other weights of one recipe. Older files lack the digests.
    weights: Hash | None = None
    joint_weights: Hash | None = None

    def __post_init__(self):
        if self.names is not None and len(self.names) != self.classes:
            raise ValueError(f"{len(self.names)} names of {self.classes} classes")
        if self.crop > self.shorter:
            raise ValueError(f"a crop of {self.crop} pixels of a shorter side of {self.shorter}")

    def metadata(self) -> dict[str, str]:
        """The strings that `parse` reads. Class names are left out where they are too long to be read."""
        fields = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
        return {name: text for name, text in texts.items() if name != "names" or len(text) <= _LONGEST}

    @classmethod
    def parse(cls, about: dict[str, str], path: Path) -> "AdapterMetadata":
        """Parse the metadata of the file `path`. Raises InputError where they are not those of an adapter file."""
        try:
            if len(about.get("names", "")) > _LONGEST:
                raise msgspec.ValidationError(f"class names of over {_LONGEST:,} characters")
            lists = {name: msgspec.json.decode(about[name]) for name in ("mean", "std", "names") if name in about}
            return msgspec.convert(about | lists, cls, strict=False)  # strict=False: numbers are in strings
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InputError(
                f"{path} is no file of a domain's adapters ({error}); give one that this version wrote to "
                f"{option('results')}"
            ) from None
