"""The score against its cost: S against #par. with the published points, and S against training time.

Both have Pareto fronts. Published points are of the real test split: only a group of that split has them in its own
axes. For any other group they are in separate axes, since readers compare marks within one picture.
"""

from collections.abc import Iterable, Sequence

from visual_decathlon.benchmark.report.figures.groups import Group
from visual_decathlon.benchmark.report.figures.measures import Measure, listed, measured, measured_places
from visual_decathlon.benchmark.report.figures.scatter import TOP, Hollow, empty, scatter
from visual_decathlon.benchmark.report.figures.style import MOST, QUIET, WIDTH, Drawn, NotDrawn, axes
from visual_decathlon.benchmark.tables.published import published

PRINTED = ", where #par. was printed"


def pareto(group: Group) -> Iterable[Drawn]:
    """S (or mean top-1) against #par."""
    measure = measured(group.table)
    hollow = _published_points(measure)
    comparable = group.table.published_baseline
    separate = bool(hollow) and not comparable
    title = f"{measure.short} against #par."
    figure, bottom = empty(measure, title, group.where, hollow=bool(hollow))
    ax = axes(figure, 0.68, bottom, 3.0 if separate else 0.15, TOP + 0.2 * separate)
    xs = [point.row.multiplier for point in measure.points]
    unplaced = scatter(ax, measure.points, xs, hollow if comparable else [])
    ax.set_xlabel("#par. (multiples of the shared backbone, log)")
    ax.set_ylabel(measure.name)
    caption = [
        f"{_sentence(measure.over)} against #par., the parameters of all ten domains as a multiple of the "
        f"backbone's, heads not counted (log). {group.about}",
        *_common_sentences(group, measure, unplaced, "fewer parameters"),
    ]
    if comparable:
        caption.append(f"Hollow: published results on the same test split{PRINTED}.")
    elif separate:
        right = axes(figure, WIDTH - 2.4, bottom, 0.15, TOP + 0.2)
        unplaced = scatter(right, [], [], hollow)
        right.set_xlabel("#par. (log)")
        ax.set_title("these runs", color=QUIET)
        right.set_title("published: real test split, other data", color=QUIET)
        caption.append(
            f"Hollow, in axes of their own: published results on the real test split{PRINTED}; they are of other data "
            f"and not comparable with these runs.{_unlabelled(unplaced)}"
        )
    yield Drawn(f"pareto{group.suffix}", figure, title, " ".join(caption))


def time(group: Group) -> Iterable[Drawn]:
    """S (or mean top-1) against training time; relative to fine-tune where several machines measured it.

    Raises NotDrawn where no time was measured.
    """
    measure = measured(group.table)
    places = measured_places(group.table)
    relative = len(places) > 1
    points = [p for p in measure.points if (p.ratio if relative else p.seconds)]
    if not points:
        raise NotDrawn("no training time" + " relative to fine-tune on the same machine" * relative)
    title = f"{measure.short} against training time"
    figure, bottom = empty(measure, title, group.where, hollow=False)
    ax = axes(figure, 0.68, bottom, 0.15, TOP)
    ax.set_ylabel(measure.name)
    if relative:
        ax.set_xlabel("T_PEFT / T_FFT, training time relative to fine-tune on the same machine (log)")
        how = "Training time is relative to fine-tune on the same machine, as several machines measured."
    else:
        ax.set_xlabel("training time, s (sum over the target domains, log)")
        how = (
            "Training time is the sum over the target domains, with what is prepared before training and without "
            f"evaluation, mean over seeds; measured on {places[0]}. T_PEFT/T_FFT stands in timing."
        )
    unplaced = scatter(ax, points, [p.ratio if relative else p.seconds for p in points], [])
    caption = [
        f"{_sentence(measure.over)} against training time (log). {group.about} {how}",
        *_common_sentences(group, measure, unplaced, "less time"),
    ]
    if untimed := len(measure.points) - len(points):
        caption.append(f"{untimed} without a time are not drawn.")
    yield Drawn(f"time{group.suffix}", figure, title, " ".join(caption))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _published_points(measure: Measure) -> list[Hollow]:
    """The published rows that have the measure and a #par."""
    points = []
    for row in published():
        value = {"S": row.S, "mean": row.mean, "some": None}[measure.of]
        if row.multiplier and value is not None:
            points.append(Hollow(row.multiplier, value, row.label))
    return points


def _common_sentences(group: Group, measure: Measure, unplaced: Sequence[str], cheaper: str) -> list[str]:
    """The sentences of both captions: the front, the error bars, and the points that are missing."""
    out = [f"The line is the Pareto front: no other method reaches as much with {cheaper}; its methods are in bold."]
    if any(point.value.deviation for point in measure.points):
        some = ", of the front alone" if len(measure.points) > MOST else ""
        out.append(f"Bars: ± one standard deviation over seeds{some}.")
    if measure.of == "S":
        out.append(
            f"S is 2500 where every error is the baseline's mean error ({group.table.baseline}); the mean of S over "
            "seeds that vary lies above that of their mean."
        )
    else:
        why = group.table.why_no_score or "S is not there for this group"
        out.append(f"Top-1 stands in the place of S: {why}.")
    if measure.left_out:
        out.append(f"Not drawn, for want of a domain: {listed(measure.left_out)}.")
    if unplaced:
        out.append(_unlabelled(unplaced).strip())
    return out


def _unlabelled(labels: Sequence[str]) -> str:
    return f" Without a label for want of room: {listed(labels)}." if labels else ""
