"""The rows of `make gpu` as Parquet and Markdown: measurements with their goals, tests, and the environment."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from visual_decathlon.benchmark.records.store import parquet
from visual_decathlon.datasets.io import write_all

HEAD = ("what", "ours", "", "against", "", "unit", "ratio", "least", "largest", "rounds", "goal", "reached")
WORDS = ("what", "ours", "against", "unit", "goal", "reached")  # columns to the left
_VERSIONS = ("python", "torch", "cuda", "hip", "cudnn")
_LEGEND = (
    "`ratio` is how many times faster ours is (of memory: how many times as much it takes), of medians; `least` and "
    "`largest` are of our rounds."
)


def write(path: Path, by_step: Mapping[str, Sequence[dict]]) -> list[Path]:
    """Write all rows to `path` and next to it as Markdown; return the files. Raises InputError as `write_all` does."""
    rows = [row for step in by_step.values() for row in step]
    made = {path: parquet(pa.Table.from_pylist(rows)), path.with_suffix(".md"): markdown(rows).encode()}
    return write_all(made)


def markdown(rows: Sequence[dict]) -> str:
    """The table of measurements, missing ones with their reasons, the tests, and the machines."""
    figures = list(filter(is_figure, rows))
    tests = [row for row in rows if row["step"] == "tests" and row["ours_value"] is not None]
    rest = [row for row in rows if row["ours_value"] is None]
    parts = []
    if figures:
        rule = ["---" if name in WORDS else "---:" for name in HEAD]
        lines = [HEAD, rule, *map(cells, figures)]
        parts += ["\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines), _LEGEND]
    if rest:
        parts.append("\n".join(f"- {row['what']}: {row['note'] or 'not measured'}" for row in rest))
    if tests:
        lines = [f"| {_escaped(row['what'])} | {_escaped(row['note'])} | {row['ours_value']:.1f} |" for row in tests]
        parts.append("\n".join(["| test | end | s |", "| --- | --- | ---: |", *lines]))
    return "\n\n".join([*parts, about(rows)]) + "\n"


def is_figure(row: Mapping) -> bool:
    """Whether the row is a measurement; the seconds of a test are none."""
    return row["step"] != "tests" and row["ours_value"] is not None


def cells(row: Mapping) -> list[str]:
    """The row as text, in the order of HEAD."""
    reached = {True: "yes", False: "no", None: ""}[row["reached"]]
    values = [row["what"], row["ours"], _number(row["ours_value"]), row["other"] or "", _number(row["other_value"])]
    spread = [_number(row[name]) if row["rounds"] > 1 else "" for name in ("least", "largest")]
    return [*values, row["unit"], _number(row["ratio"]), *spread, str(row["rounds"]), row["goal"] or "", reached]


def about(rows: Sequence[Mapping]) -> str:
    """Card, driver, versions, commit and day of the rows: a line for each combination."""
    lines: dict[str, None] = {}
    for row in rows:
        known = json.loads(row["versions"]) | json.loads(row["kernels"])
        versions = ", ".join(f"{name} {known[name]}" for name in _VERSIONS if name in known)
        card = row["card"] + f", driver {row['driver']}" * bool(row["driver"])
        machine = f"{row['machine']}, {row['processors']} processors"
        when = f"{row['date'].partition('T')[0]}, commit {row['commit'] or 'unknown'}"
        lines[f"{card}; {versions}; {machine}; {when}."] = None
    return "\n".join(lines)


def summary(rows: Sequence[Mapping]) -> str:
    """The numbers of passed tests and reached goals, in one line."""
    tests = [row["note"] for row in rows if row["step"] == "tests" and row["ours_value"] is not None]
    goals = [row["reached"] for row in rows if row["reached"] is not None]
    return f"{tests.count('passed')} of {len(tests)} tests passed, {sum(goals)} of {len(goals)} measured goals reached"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
