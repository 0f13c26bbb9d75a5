"""Adds a method's ΔW of two domains to the shared weights, and measures the loss of accuracy.

The network of one domain, with its own head, norms and tokens, is evaluated with W + ΔW + the other domain's ΔW. W and
ΔW are those of merged layers: ΔW is the merged weight of the domain's adapters minus the merged weight of the
backbone's own adapters, if it was pretrained with some; the same holds for biases. A domain classifier is not used.
"""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
from rich.table import Table
from torch import Tensor

from visual_decathlon.benchmark.config.identity import digest
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.provenance import commit, machine, versions
from visual_decathlon.benchmark.records.schema import SCHEMA
from visual_decathlon.benchmark.records.store import read_record, write_table
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs.data import open_data
from visual_decathlon.benchmark.runs.finished import finished_record
from visual_decathlon.benchmark.runs.plan import plan_runs
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.runtime.numerics import configure_torch
from visual_decathlon.benchmark.runtime.precision import warning
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.benchmark.training.evaluate import evaluate
from visual_decathlon.benchmark.training.loader import open_images
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.methods.layers.network import Network, conv_like, merge_for_inference
from visual_decathlon.methods.method import Method

Weights = dict[str, tuple[Tensor, Tensor | None]]
"""Weight and bias of every convolution, by its path in the network."""

_OF_THE_RUN = (
    *("method", "method_full", "domain", "seed", "split", "limit", "classes", "eval_images"),
    *("profile", "settings", "lr", "data", "data_id", "standin", "eval_manifest", "backbone", "training", "precision"),
)
_NOW = ("commit", "versions", "machine", "command")

# (name, type, comment)
FIELDS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("other", pa.string(), "the domain whose ΔW is added to this one's"),
    ("alone", pa.float64(), "top-1 with W + the domain's own ΔW, %"),
    ("added", pa.float64(), "top-1 with the other's ΔW added, the domain's own head, norms and tokens, %"),
    ("frozen", pa.float64(), "top-1 with W: what its head, norms and tokens do by themselves, %"),
    ("run", pa.string(), "hash of the domain's run"),
    ("other_run", pa.string(), "hash of the other's"),
)
TABLE = pa.schema(
    [
        *(SCHEMA.field(name) for name in _OF_THE_RUN),
        *(pa.field(name, kind, metadata={"comment": text}) for name, kind, text in FIELDS),
        *(SCHEMA.field(name) for name in _NOW),
    ]
)


def delta_sum(
    request: Request, domains: Collection[str], results: Path, *, device: str = "cpu", command: str = ""
) -> Path:
    """Evaluate the sum on both `domains` for every seed of `request`, which has one method; print and write the table.

    Returns the path of the table. `command` is recorded in it. Raises InputError if the method cannot merge, or if
    `results` lacks a finished run.
    """
    (method,) = request.methods
    if not method.mergeable:
        raise InputError(
            f"{method.spec} does not merge, so it has no ΔW to add; choose one that does, see `make methods`"
        )
    screen = Screen()
    with screen:
        for sentence in request.notes:
            screen.say(sentence)
        data = open_data(request, screen.preparing, screen.say)
    runs = [run for run in plan_runs(request, data, [method], request.seeds) if run.domain.name in domains]
    _check_finished(runs, results, command)
    if text := warning(request.profile.precision, device):
        screen.say(text)
    rows = []
    with screen:
        for i, seed in enumerate(request.seeds):
            screen.doing("sums", "evaluating the sums", i, len(request.seeds))
            rows += _sum([run for run in runs if run.seed == seed], results, device)
        screen.done("sums")
    about = {"commit": commit(), "versions": versions(), "machine": machine(), "command": command}
    name = f"sum-{method.name}-{'-'.join(run.domain.name for run in runs[:: len(request.seeds)])}"
    path = results / f"{name}-{digest(runs=[run.hash for run in runs])[:8]}.parquet"
    write_table(pa.Table.from_pylist([row | about for row in rows], TABLE), path)
    screen.console.print(_table(method, rows))
    screen.files([path])
    return path


def _check_finished(runs: list[Run], results: Path, command: str) -> None:
    """Raises InputError, which names the command to run first, if a run or its backbone is missing."""
    for run in runs:
        if run.source_cell:
            raise InputError(f"{run.domain.name} has the pretrained network itself, with no ΔW; name two other domains")
    lacking = [run.domain.name for run in runs if finished_record(results, run.hash) is None]
    if lacking:
        first = command.replace("make sum", "make bench", 1).replace("benchmark sum", "benchmark run", 1)
        raise InputError(
            f"{' and '.join(dict.fromkeys(lacking))}: {results} holds no finished run of these settings; "
            f"run `{first}` first"
        )
    if not runs[0].backbone.path.is_file():
        raise InputError(
            f"the backbone {runs[0].backbone.path} of these runs is gone; name its folder with "
            f"{option('cache')}, or remove "
            f"{results} and train both again"
        )


def _sum(pair: list[Run], results: Path, device: str) -> list[dict]:
    """One row for each of the two domains."""
    configure_torch(pair[0].profile, device)
    net = MultiDomain(pair[0].backbone.path, device)
    loaded = [net.held[net.load(ResultsFolder(results).adapters(run.hash))] for run in pair]
    networks = [merge_for_inference(domain.network, fuse=False) for domain in loaded]
    weights = [_weights(network) for network in networks]
    shared = _weights(merge_for_inference(loaded[0].source, fuse=False))
    if all(of_domain[path][0].equal(shared[path][0]) for of_domain in weights for path in shared):
        raise InputError(
            f"{pair[0].method} changes no convolution, so there is no ΔW to add; choose a method that does"
        )
    rows = []
    for i, run in enumerate(pair):
        own, other = weights[i], weights[1 - i]
        batches = open_images(run.evaluate, run.profile, run.profile.adapt.batch, device, net.layout)
        record = read_record(ResultsFolder(results).record(run.hash))
        row = {name: value for name, value in record.items() if name in _OF_THE_RUN}
        row |= {"other": pair[1 - i].domain.name, "run": run.hash, "other_run": pair[1 - i].hash}
        for name, convolutions in (("alone", own), ("added", _added(own, other, shared)), ("frozen", shared)):
            result = evaluate(merge_for_inference(_with(networks[i], convolutions)), batches, run.profile.precision)
            row[name] = 100 * result.correct / len(batches)
        rows.append(row)
    return rows


def _weights(network: Network) -> Weights:
    """The weights of a merged network's convolutions."""
    return {site.conv: (conv.weight.detach(), conv.bias) for site, conv in network.conv_sites()}


def _added(own: Weights, other: Weights, shared: Weights) -> Weights:
    """W + ΔW + ΔW' as (W + ΔW) + ((W + ΔW') - W): exactly W + ΔW where the other domain has changed nothing."""

    def plus(a: Tensor | None, b: Tensor | None, c: Tensor | None) -> Tensor | None:
        if b is None and c is None:
            return a
        change = (0 if b is None else b) - (0 if c is None else c)
        return change if a is None else a + change

    return {path: tuple(map(plus, own[path], other[path], shared[path])) for path in own}


def _with(network: Network, weights: Weights) -> Network:
    """A copy of a merged network with these convolutions; all other tensors are shared with it."""
    out = merge_for_inference(network, fuse=False)
    for path, (weight, bias) in weights.items():
        out.set_submodule(path, conv_like(out.get_submodule(path), weight, bias))
    return out


def _table(method: Method, rows: list[dict]) -> Table:
    first = rows[0]
    drawn = ", drawn stand-ins" if first["standin"] else ""
    cut = f", {first['limit']} images a split" if first["limit"] else ""
    title = f"{method.spec}: top-1 in % on {first['split']} of {first['data']}{drawn}{cut}"
    out = Table(header_style="bold", title=title, title_justify="left")
    heads = ("domain", "seed", "alone", "with the other's ΔW added", "frozen weights, own head and norms")
    for i, head in enumerate(heads):
        out.add_column(head, justify="right" if i else "left")
    for row in rows:
        out.add_row(row["domain"], str(row["seed"]), *(f"{row[k]:.2f}" for k in ("alone", "added", "frozen")))
    return out
