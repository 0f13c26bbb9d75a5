"""`python -m benchmark sum`: a method's ΔW of two domains, added to the shared weights together, and what that costs.

A network of the one domain, its batch norms and head in place, is evaluated with W + ΔW + ΔW of the
other. W and ΔW are of folded convolutions: what a domain's adapters make of one, less what the backbone's
own make of it, where it was pretrained with some; a bias likewise. A judge is left out.
"""

from argparse import Namespace
from pathlib import Path

import pyarrow as pa
from rich.table import Table
from torch import Tensor

from visual_decathlon.benchmark.cli.common import command
from visual_decathlon.benchmark.cli.request import requested
from visual_decathlon.benchmark.config.identity import digest
from visual_decathlon.benchmark.config.profiles import spelling_notes
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.provenance import commit, machine, versions
from visual_decathlon.benchmark.records.schema import SCHEMA
from visual_decathlon.benchmark.records.store import read_record, write_table
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs.data import open_data
from visual_decathlon.benchmark.runs.finished import finished_record
from visual_decathlon.benchmark.runs.plan import plan_runs
from visual_decathlon.benchmark.runtime.devices import device_of
from visual_decathlon.benchmark.runtime.numerics import configure_torch
from visual_decathlon.benchmark.runtime.precision import warning
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.benchmark.training.evaluate import evaluate
from visual_decathlon.benchmark.training.loader import open_images
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import Network, conv_like, merge_for_inference
from visual_decathlon.methods.method import Method

Weights = dict[str, tuple[Tensor, Tensor | None]]
"""Weight and bias of every convolution, by its place."""

_OF_THE_RUN = (
    *("method", "method_full", "domain", "seed", "split", "limit", "classes", "eval_images"),
    *("profile", "settings", "lr", "data", "data_id", "standin", "eval_manifest", "backbone", "training", "precision"),
)
_NOW = ("commit", "versions", "machine", "command")

# (name, type, what it says)
FIELDS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("other", pa.string(), "the domain whose ΔW is added to this one's"),
    ("alone", pa.float64(), "top-1 with W + the domain's own ΔW, %"),
    ("added", pa.float64(), "top-1 with the other's ΔW added, the domain's own batch norms and head, %"),
    ("frozen", pa.float64(), "top-1 with W: what its batch norms and head do by themselves, %"),
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


def run(args: Namespace) -> int:
    """Evaluate the sum on both domains, for every seed; print the table and write it as Parquet."""
    request = requested(args)
    names = {*args.domains, *(name for name, _ in request.selected_own_domains)}
    if len(names) != 2:
        told = ", ".join(sorted(names)) or "none is named"
        raise InputError(
            f"DOMAINS= and OWN= must name two domains here ({told}); a sum is of two, such as DOMAINS=dtd,svhn"
        )
    method = _one(request.methods, args.method)
    device = device_of(args.device)
    screen = Screen()
    with screen:
        for note in spelling_notes(args.set):
            screen.say(note)
        for sentence in request.user_backbone.notes if request.user_backbone else ():
            screen.say(sentence)
        data = open_data(request, screen.preparing, screen.say)
    runs = [c for c in plan_runs(request, data, [method], request.seeds) if c.domain.name in names]
    _all_there(runs, args)
    if text := warning(request.profile.precision, device):
        screen.say(text)
    rows = []
    with screen:
        for i, seed in enumerate(request.seeds):
            screen.doing("sums", "evaluating the sums", i, len(request.seeds))
            rows += _sum([run for run in runs if run.seed == seed], args.results, device)
        screen.done("sums")
    about = {"commit": commit(), "versions": versions(), "machine": machine(), "command": command()}
    name = f"sum-{method.name}-{'-'.join(c.domain.name for c in runs[:: len(request.seeds)])}"
    path = args.results / f"{name}-{digest(runs=[c.hash for c in runs])[:8]}.parquet"
    write_table(pa.Table.from_pylist([row | about for row in rows], TABLE), path)
    screen.console.print(_shown(method, rows))
    screen.files([path])
    return 0


def _one(methods: list[Method], expression: str) -> Method:
    if len(methods) != 1:
        raise InputError(f"METHOD={expression} names {len(methods)} methods; name the one whose ΔW are to be added")
    (method,) = methods
    if not method.mergeable:
        raise InputError(
            f"{method.spec} does not merge, so it has no ΔW to add; choose one that does, see `make methods`"
        )
    return method


def _all_there(runs: list[Run], args: Namespace) -> None:
    """InputError where what is to be added is not there: which command makes it."""
    for run in runs:
        if run.source_cell:
            raise InputError(f"{run.domain.name} has the pretrained network itself, with no ΔW; name two other domains")
    lacking = [run.domain.name for run in runs if finished_record(args.results, run.hash) is None]
    if lacking:
        first = command().replace("make sum", "make bench", 1).replace("benchmark sum", "benchmark run", 1)
        raise InputError(
            f"{' and '.join(dict.fromkeys(lacking))}: {args.results} holds no finished run of these settings; "
            f"run `{first}` first"
        )
    if not runs[0].backbone.path.is_file():
        raise InputError(
            f"the backbone {runs[0].backbone.path} of these runs is gone; name its folder with CACHE=, or remove "
            f"{args.results} and train both again"
        )


def _sum(pair: list[Run], results: Path, device: str) -> list[dict]:
    """One row a domain."""
    configure_torch(pair[0].profile, device)
    served = MultiDomain(pair[0].backbone.path, device)
    held = [served.held[served.load(ResultsFolder(results).adapters(run.hash))] for run in pair]
    bare = [merge_for_inference(domain.network, fuse=False) for domain in held]
    weights = [_weights(network) for network in bare]
    shared = _weights(merge_for_inference(held[0].source, fuse=False))
    if all(theirs[path][0].equal(shared[path][0]) for theirs in weights for path in shared):
        raise InputError(
            f"{pair[0].method} changes no convolution, so there is no ΔW to add; choose a method that does"
        )
    rows = []
    for i, run in enumerate(pair):
        own, other = weights[i], weights[1 - i]
        batches = open_images(run.evaluate, run.profile, run.profile.adapt.batch, device, served.layout)
        record = read_record(ResultsFolder(results).record(run.hash))
        row = {name: value for name, value in record.items() if name in _OF_THE_RUN}
        row |= {"other": pair[1 - i].domain.name, "run": run.hash, "other_run": pair[1 - i].hash}
        for name, wanted in (("alone", own), ("added", _added(own, other, shared)), ("frozen", shared)):
            found = evaluate(merge_for_inference(_with(bare[i], wanted)), batches, run.profile.precision)
            row[name] = 100 * found.correct / len(batches)
        rows.append(row)
    return rows


def _weights(network: Network) -> Weights:
    """Those of a folded network's convolutions."""
    return {site.conv: (conv.weight.detach(), conv.bias) for site, conv in network.conv_sites()}


def _added(own: Weights, other: Weights, shared: Weights) -> Weights:
    """W + ΔW + ΔW' as (W + ΔW) + ((W + ΔW') - W), to the bit the own one where the other has changed nothing."""

    def plus(a: Tensor | None, b: Tensor | None, c: Tensor | None) -> Tensor | None:
        if b is None and c is None:
            return a
        change = (0 if b is None else b) - (0 if c is None else c)
        return change if a is None else a + change

    return {path: tuple(map(plus, own[path], other[path], shared[path])) for path in own}


def _with(network: Network, weights: Weights) -> Network:
    """A copy of a bare network with these convolutions, all else the same tensors."""
    out = merge_for_inference(network, fuse=False)
    for path, (weight, bias) in weights.items():
        out.set_submodule(path, conv_like(out.get_submodule(path), weight, bias))
    return out


def _shown(method: Method, rows: list[dict]) -> Table:
    first = rows[0]
    drawn = ", drawn stand-ins" if first["standin"] else ""
    cut = f", {first['limit']} images a split" if first["limit"] else ""
    title = f"{method.spec}: top-1 in % on {first['split']} of {first['data']}{drawn}{cut}"
    out = Table(header_style="bold", title=title, title_justify="left")
    heads = ("domain", "seed", "alone", "with the other's ΔW added", "frozen weights, own batch norms and head")
    for i, head in enumerate(heads):
        out.add_column(head, justify="right" if i else "left")
    for row in rows:
        out.add_row(row["domain"], str(row["seed"]), *(f"{row[k]:.2f}" for k in ("alone", "added", "frozen")))
    return out
