"""One method on several backbones: a heat map of mean top-1 minus that of fine-tuning on the same backbone."""

import json
from collections.abc import Iterable, Sequence

import numpy as np

from visual_decathlon.benchmark.report import sheets
from visual_decathlon.benchmark.report.figures import gap
from visual_decathlon.benchmark.report.figures.groups import Group, drawn_text, file_names
from visual_decathlon.benchmark.report.figures.measures import baseline_row, labels
from visual_decathlon.benchmark.report.figures.style import WIDTH, Drawn, NotDrawn, axes, canvas, fitting, width_of
from visual_decathlon.benchmark.tables.score import BASELINE

_SAME = ("data", "data_id", "standin", "split", "limit")
"""What groups must share so that their gaps stand side by side: all but the backbone and the recipe."""


def draw(groups: Sequence[Group]) -> Iterable[Drawn]:
    """One figure for the groups of the same data. Raises NotDrawn where none has two backbones with a common method."""
    together: dict[str, dict[str, Group]] = {}
    for group in groups:
        row = baseline_row(group.table)
        if row is not None and row.mean is not None:
            some = together.setdefault(json.dumps([group.table.group[name] for name in _SAME], default=str), {})
            rival = some.setdefault(sheets.backbone(group.table.group), group)
            if len(group.table.rows) > len(rival.table.rows):  # another recipe on the same backbone
                some[sheets.backbone(group.table.group)] = group
    lists = {key: list(some.values()) for key, some in together.items()}
    several = {key: some for key, some in lists.items() if len(some) > 1 and gaps(some)[0]}
    if not several:
        raise NotDrawn("no method other than fine-tune has the ten domains on two backbones")
    texts = [f"{some[0].table.group['data']}-{some[0].table.group['split']}" for some in several.values()]
    suffixes = [f"-{name}" for name in file_names(texts, [*several])] if len(several) > 1 else [""]
    for suffix, some in zip(suffixes, several.values(), strict=True):
        yield _figure(some, suffix)


def gaps(groups: Sequence[Group]) -> tuple[list[str], np.ndarray]:
    """(labels of methods, mean top-1 minus fine-tune's by backbone, in points); NaN where a method did not run.

    A method is there if it has the ten domains on two backbones. Those on all backbones come first, the best first.
    """
    means = [{row.method: row.mean.mean for row in group.table.rows if row.mean} for group in groups]
    names = {method: label for group in reversed(groups) for method, label in labels(group.table).items()}
    methods = [m for m in names if m != BASELINE and sum(m in mean for mean in means) > 1]
    cells = np.array([[mean.get(m, np.nan) - mean[BASELINE] for mean in means] for m in methods])
    order = sorted(range(len(methods)), key=lambda i: (np.isnan(cells[i]).sum(), -np.nanmean(cells[i]), methods[i]))
    return [names[methods[i]] for i in order], cells[order]


def _figure(groups: Sequence[Group], suffix: str) -> Drawn:
    methods, cells = gaps(groups)
    margin = max(1.3, *(width_of(text, 8) + 0.25 for text in methods))
    title = "The same method on several backbones: mean top-1 minus fine-tune's, points"
    group = groups[0].table.group
    where = sheets.data_and_split(group["data"], group["split"], group["standin"])
    figure = canvas(gap.HEAD + 0.65 + gap.ROW * len(methods), title, where)
    ax = axes(figure, margin, 0.5, 0.15, gap.HEAD + 0.15)
    gap.cell_axes(ax, len(groups), len(methods))
    for left, column in enumerate(cells.T):
        for top, value in enumerate(column):
            gap.cell(ax, left, top, value, bold=False)
    wide = (WIDTH - margin - 0.15) / len(groups) - 0.06
    tuned = [baseline_row(one.table).mean.mean for one in groups]
    short = [fitting(f"{i}. {_short(one)}", wide, 8) for i, one in enumerate(groups, 1)]
    names = [f"{name}\n{mean:.1f}" for name, mean in zip(short, tuned, strict=True)]
    ax.set_xticks([i + 0.5 for i in range(len(groups))], names)
    ax.set_yticks(np.arange(len(methods)) + 0.5, methods)
    gap.scale(figure, margin)
    listed = "; ".join(f"{i}. {sheets.backbone(one.table.group)}" for i, one in enumerate(groups, 1))
    caption = [
        "Mean top-1 over the ten domains minus that of fine-tuning on the same backbone, in points. The number below a "
        "backbone's name is fine-tuning's own mean.",
        f"{where}.{drawn_text(group['standin'])} Backbones: {listed}; of several recipes on one backbone, the one with "
        "the most methods.",
        "Hatched: the method was not run there, or cannot run." * bool(np.isnan(cells).any()),
    ]
    return Drawn(f"backbones{suffix}", figure, title, " ".join(filter(None, caption)))


def _short(group: Group) -> str:
    """The network's name without its library and its arguments."""
    return json.loads(group.table.group["settings"])["network"].partition("(")[0].rpartition("/")[2]
