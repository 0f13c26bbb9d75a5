"""The request: what the user asks for, and which splits a run trains on and evaluates."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.runs.user_backbone import UserBackbone
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method

SPLITS = {
    # name: (train, evaluate), each (the dataset's splits, part of their images)
    "val": ((("train",), "all"), (("val",), "all")),
    "test": ((("train", "val"), "all"), (("test",), "all")),
    "holdout": ((("train",), "fit"), (("train",), "held")),
}


@dataclass(frozen=True)
class Request:
    """A request: methods, data, domains and settings, as a command or a caller gives them."""

    methods: Sequence[Method]
    profile: Profile
    data: Path | None = None  # folder of a release; None draws stand-ins
    own_domains: Sequence[tuple[str, Path]] = ()  # the user's own domains: (name, folder of class folders)
    domains: Sequence[str] = ()  # names, official or own; empty means all
    user_backbone: UserBackbone | None = None
    split: str = "val"
    seeds: Sequence[int] = (0,)
    limit: int | None = None
    predictions: bool = False  # keep predictions; the evaluated split needs no labels then
    cache: Path = Path(".cache")

    @property
    def notes(self) -> Sequence[str]:
        """Sentences that the user should read once: how the user's backbone was read."""
        return self.user_backbone.notes if self.user_backbone else ()

    @property
    def selected_own_domains(self) -> Sequence[tuple[str, Path]]:
        """The own domains to run: those which `domains` names, or all where it names none of them."""
        return [(name, folder) for name, folder in self.own_domains if name in self.domains] or self.own_domains


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse a number of seeds (`3` is 0, 1, 2) or a list of seeds (`0,5,7`). Raises InputError."""
    if re.fullmatch(r"\d+", text) and 0 < int(text) <= 1000:
        return tuple(range(int(text)))
    if re.fullmatch(r"\d+(,\d+)*,?", text) and "," in text:
        seeds = tuple(dict.fromkeys(int(part) for part in text.strip(",").split(",")))
        if max(seeds) < 2**31:
            return seeds
    raise InputError(
        f"{text}: give how many (3 is 0, 1, 2) or a list such as 0,5,7 (`5,` is seed 5 alone)", field="seeds"
    )
