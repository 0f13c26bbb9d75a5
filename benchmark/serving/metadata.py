"""What the file of a domain's adapters says of itself."""

import json
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from visual_decathlon.benchmark.config.profiles import LARGEST
from visual_decathlon.datasets.errors import InputError

Hash = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]  # names a file
_Count = Annotated[int, Meta(ge=1, lt=2**31)]
_Side = Annotated[int, Meta(ge=1, le=LARGEST)]
_Three = tuple[float, float, float]
_Positive = Annotated[float, Meta(gt=0)]
_LONGEST = 10_000_000  # characters of all class names together


class AdapterMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata of a safetensors file of adapters, all of them strings.

    An image is shown as in the evaluation: RGB in 0 to 1, its shorter side resized to `shorter` pixels (bicubic),
    the centre square of `crop` pixels cut out, less `mean` and divided by `std`.
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
    joint: Hash | None = None  # hash of the training over all domains; absent where the method has none
    # The classes' names in the order of the logits, a JSON list; "" for one without a name. Older files lack them.
    names: tuple[str, ...] | None = None
    # Of the backbone's weights, and of the joint training's where a domain stands on those: a hash above says how they
    # were made, and another processor makes others of it. Older files lack them.
    weights: Hash | None = None
    joint_weights: Hash | None = None

    def __post_init__(self):
        if self.names is not None and len(self.names) != self.classes:
            raise ValueError(f"{len(self.names)} names of {self.classes} classes")
        if self.crop > self.shorter:
            raise ValueError(f"a crop of {self.crop} pixels of a shorter side of {self.shorter}")

    def metadata(self) -> dict[str, str]:
        """What `parse` reads. Names that are too long to be read are left out."""
        told = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        found = {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
        return {name: text for name, text in found.items() if name != "names" or len(text) <= _LONGEST}

    @classmethod
    def parse(cls, about: dict[str, str], path: Path) -> "AdapterMetadata":
        """That of a file with these metadata. Raises InputError where they are no such head."""
        try:
            if len(about.get("names", "")) > _LONGEST:
                raise msgspec.ValidationError(f"class names of over {_LONGEST:,} characters")
            lists = {name: msgspec.json.decode(about[name]) for name in ("mean", "std", "names") if name in about}
            return msgspec.convert(about | lists, cls, strict=False)  # numbers stand in strings
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InputError(
                f"{path} is no file of a domain's adapters ({error}); give one that this version wrote to RESULTS="
            ) from None
