"""The figures of a folder of records, SVG and PNG: S against cost and time, gaps, learning curves, step times.

They are functions of the tables: the same tables give the same bytes. Only this package loads matplotlib. A figure
belongs to one group of comparable runs; `captions.md` has the caption of each, and is the list of the folder's figures.
"""

import contextlib
import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from visual_decathlon.benchmark.report.figures import backbones, curves, gap, steps, style, tradeoff
from visual_decathlon.benchmark.report.figures.groups import Group, grouped
from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent
from visual_decathlon.benchmark.tables.table1 import Table
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.io import read_plain

KINDS: dict[str, Callable[[Group], Iterable[style.Drawn]]] = {
    "pareto": tradeoff.pareto,
    "time": tradeoff.time,
    "gap": gap.draw,
    "steps": steps.draw,
    "curves": curves.draw,
}
"""The kinds of figures of a group by name: ONLY= takes it, and the files, or their folder, begin with it."""

ACROSS: dict[str, Callable[[Sequence[Group]], Iterable[style.Drawn]]] = {"backbones": backbones.draw}
"""The kinds that compare groups. One that has nothing to compare is left out without a word, unless ONLY= names it."""

NAMES = (*KINDS, *ACROSS)

CAPTIONS = "captions.md"
_MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\`*[]|"})


def check(only: Sequence[str]) -> None:
    """Raise InputError for a name that is no kind of figure."""
    if unknown := [name for name in only if name not in NAMES]:
        raise InputError(f"{','.join(only)}: {unknown[0]} is no figure; there are {', '.join(NAMES)}", field="only")


def contents(
    tables: Sequence[Table],
    histories: Callable[[set[str]], Mapping[str, Sequence[dict]]],
    folder: Path,
    only: Sequence[str] = (),
    message: Callable[[str], None] = print,
    progress: ProgressCallback = silent,
) -> dict[Path, bytes | None]:
    """Every kind of figure, or those named in `only`, for every group, and `captions.md`, for `io.write_all`.

    `histories` returns the histories of runs by hash; it is called once, and only for curves. `message` is called with
    one line for each kind that lacks a figure, `progress` with the number drawn. The content is None for figures of
    these kinds that the folder has and that are not drawn any more. Raises InputError for a name that is no kind of
    figure, and where none of the requested figures can be drawn.
    """
    check(only)
    kinds = [name for name in NAMES if name in only or not only]
    groups = grouped(tables, histories(set().union(*map(curves.hashes, tables))) if "curves" in kinds else {})
    made: dict[Path, bytes | None] = {}
    drawn: dict[str, str] = {}
    empty: list[str] = []
    with style.shielded():
        for kind in kinds:
            before, lacking = len(drawn), Counter()
            subjects = [groups] if kind in ACROSS else groups
            for i, subject in enumerate(subjects):
                progress("drawing figures", kinds.index(kind) * len(groups) + i, len(kinds) * len(groups))
                try:
                    for figure in (ACROSS | KINDS)[kind](subject):
                        for ending, content in style.as_bytes(figure).items():
                            made[folder / f"{figure.name}.{ending}"] = content
                        drawn[figure.name] = block(figure)
                except style.NotDrawn as reason:
                    lacking[str(reason)] += 1
            if len(drawn) == before:
                empty.append(f"{option('only')}{kind} has nothing to draw: {_reasons(lacking, len(subjects))}")
            if lacking and (kind in KINDS or only):
                message(f"figures, {kind}: {_reasons(lacking, len(subjects))}")
    if only and not drawn:
        raise InputError("; ".join(empty))
    return made | _captions(folder, kinds, drawn)


def _reasons(lacking: Counter[str], groups: int) -> str:
    """`no fine-tune run (in 2 of 3 groups)`."""
    of = lambda n: f" (in {n} of {groups} groups)" if groups > 1 else ""
    return "; ".join(reason + of(n) for reason, n in sorted(lacking.items()))


def block(figure: style.Drawn) -> str:
    """The Markdown block of a figure with its caption; markup in a method's name stays text."""
    escaped = lambda text: html.escape(" ".join(text.split()), quote=False).translate(_MARKDOWN)
    return f"## {figure.name}\n\n![{escaped(figure.title)}]({figure.name}.svg)\n\n{escaped(figure.caption)}\n"


def _captions(folder: Path, kinds: Sequence[str], drawn: dict[str, str]) -> dict[Path, bytes | None]:
    """captions.md with the new blocks and the old ones of kinds that were not requested.

    Its old version is the list of the folder's figures. Those that are not drawn any more get None: they would be
    taken for figures of the present records.
    """
    path, blocks, stale = folder / CAPTIONS, dict(drawn), []
    for block in re.split(r"^(?=## )", _read(path), flags=re.MULTILINE)[1:]:
        name = block.splitlines()[0].removeprefix("## ")
        if name in drawn or not re.fullmatch(r"(curves/)?\w[\w.-]*", name, flags=re.ASCII):
            continue
        if _kind(name) in kinds:
            stale += [folder / f"{name}.svg", folder / f"{name}.png"]
        else:
            blocks[name] = block.rstrip("\n") + "\n"
    order = sorted(blocks, key=lambda name: ([*NAMES, _kind(name)].index(_kind(name)), name))
    return {path: "\n".join(blocks[name] for name in order).encode(), **dict.fromkeys(stale)}


def _kind(name: str) -> str:
    """The kind in a figure's name: `gap` of gap-val, `curves` of curves/lora."""
    return re.split(r"[/-]", name)[0]


def _read(path: Path) -> str:
    """The file's text, "" where there is none."""
    with contextlib.suppress(OSError):
        return read_plain(path, most=2**26).decode(errors="replace")
    return ""
