"""What is measured, by the name that ONLY= takes: each part yields its lines."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmark.perf import decathlon, pixels
from benchmark.perf import network as net
from benchmark.perf.many import write_many
from benchmark.perf.rounds import Line, Rounds, Way, in_turn
from benchmark.timing import Peak
from benchmark.workers import ENVIRONMENT
from datasets.catalogue import DOMAINS, SOURCE
from methods.method import Method
from methods.registry import entries, select

ROUNDS, FEWER = 5, 3  # fewer for what has many ways and no goal of its own, so that all of it takes ten minutes
THEIRS = "reference's way"


def batches(cache: Path) -> Iterator[Line]:
    """Training batches of packed pixels against files, PIL and a DataLoader."""
    ways = pixels.ways(cache)
    yield in_turn(ways, ROUNDS).line("batches", "random crop 64 of 72, flip, normalise", *(way.name for way in ways))


def step(cache: Path) -> Iterator[Line]:
    """A training step of the plain and the adapted network: ours, in bf16, and the reference's."""
    best = {dtype: net.ceiling(dtype) for dtype in (torch.float32, torch.bfloat16)}
    inputs = net.pixels()
    for (method,) in map(select, ("finetune", "res_adapter", "par_adapter", "bn_adapt")):
        theirs = net.training(THEIRS, method, net.reference_way(net.placed(method)), inputs)
        ours = net.training("fp32", method, net.placed(method), inputs)
        half = net.training("bf16 (opt-in)", method, net.placed(method), inputs, bf16=True)
        macs = net.training_macs(net.reference_way(net.placed(method)), *net.pixels(2))
        found = in_turn([theirs, ours, half], ROUNDS)
        for way, dtype in ((ours, torch.float32), (half, torch.bfloat16)):
            share = macs * statistics.median(found.speeds[way.name]) / best[dtype]
            yield found.line("step", method.name, way.name, THEIRS, peak_mb=_peak(way.work), share=share)
    yield _cached("feature", inputs, 200)
    yield _cached("side", inputs, 200)
    yield _cached("partial(views=8)", inputs, 2)


def _cached(spec: str, inputs: tuple[torch.Tensor, torch.Tensor], steps: int) -> Line:
    """A step on what a frozen part gives, which is there, against the reference's, which computes it at every step."""
    (method,) = select(spec)
    x, y = inputs
    network = net.placed(method)
    frozen, trained = method.split(network)
    with torch.no_grad():
        read = frozen.eval()(x.contiguous(memory_format=torch.channels_last))
    given = method.fit(network, read[None], y)[0]
    ours = net.training("fp32, frozen part computed once", method, trained, (given, y), steps)
    theirs = net.training(THEIRS, method, net.reference_way(net.placed(method)), inputs)
    return in_turn([theirs, ours], ROUNDS).line("step", method.spec, ours.name, THEIRS)


def evaluation(cache: Path) -> Iterator[Line]:
    """Inference of adapted networks: merged and folded, in bf16 too, against adapters beside the convolutions."""
    x, _ = net.pixels()
    for (method,) in map(select, ("finetune", "res_adapter", "par_adapter")):
        network = net.placed(method)
        ways = [
            net.evaluation(THEIRS, net.reference_way(net.placed(method)), x),
            net.evaluation("merged, fp32", net.served(network), x),
            net.evaluation("merged, bf16 (opt-in)", net.served(network), x, bf16=True),
        ]
        found = in_turn(ways, ROUNDS)
        for way in ways[1:]:
            yield found.line("evaluation", method.name, way.name, THEIRS)


def changes(cache: Path) -> Iterator[Line]:
    """What each change gives by itself, all else equal: layout, each fast path, merging."""
    inputs = net.pixels()
    (finetune,) = select("finetune")
    ways = [
        net.training("NCHW", finetune, net.reference_way(net.placed(finetune)), inputs),
        net.training("channels_last", finetune, net.placed(finetune), inputs),
    ]
    yield in_turn(ways, FEWER).line("changes", "finetune step", "channels_last", "NCHW")
    for spec, fast, slow in (
        ("par_adapter", "centre tap", "1x1 beside"),
        ("res_adapter", "one 1x1", "norm, 1x1, sum"),
        ("lora", "two convolutions beside", "in weight space"),
        ("arc", "two 1x1 behind", "in weight space"),
    ):
        (method,) = select(spec)
        ways = [
            net.training(slow, method, net.plain(net.placed(method)), inputs),
            net.training(fast, method, net.placed(method), inputs),
        ]
        yield in_turn(ways, FEWER).line("changes", f"{spec} step", fast, slow)
    (method,) = select("par_adapter")
    ways = [
        net.evaluation("adapters beside", net.plain(net.placed(method)), inputs[0]),
        net.evaluation("merged, folded", net.served(net.placed(method)), inputs[0]),
    ]
    yield in_turn(ways, FEWER).line("changes", "par_adapter evaluation", "merged, folded", "adapters beside")


def families(cache: Path) -> Iterator[Line]:
    """One method of every family: its step against fine-tune's (T_PEFT/T_FFT), its inference against the bare backbone.

    Whose frozen part is computed once has its step in `step`.
    """
    inputs = net.pixels()
    placed = {method: net.placed(method) for method in of_families()}
    methods = [method for method in placed if not method.views]
    steps = [net.training(method.name, method, placed[method], inputs) for method in methods]
    (finetune,) = select("finetune")
    baseline = net.training("finetune's step", finetune, net.placed(finetune), inputs)
    peak = Peak(torch.device("cpu"))  # of all: beside what the process holds, one step's own is not seen
    found = in_turn([baseline, *steps], FEWER)
    most = peak.mb()
    for method, way in zip(methods, steps, strict=True):
        yield found.line("families", f"{method.family}: T_FFT / T", way.name, baseline.name, peak_mb=most)
    bare = net.evaluation("the bare backbone", net.served(net.source(finetune)), inputs[0])
    served = {
        method.family: net.evaluation(f"{method.name}, merged", net.served(network), inputs[0])
        if method.mergeable
        else net.evaluation(f"{method.name}, as placed", network, inputs[0])
        for method, network in placed.items()
    }
    found = in_turn([bare, *served.values()], FEWER)
    for family, way in served.items():
        yield found.line("families", f"{family}: inference", way.name, bare.name)


def of_families() -> list[Method]:
    """The first entry of every family that trains a network by itself on this backbone's width."""
    found: dict[str, Method] = {}
    for entry in entries():
        method = entry()
        if not method.refusal("resnet26") and not method.joint and method.widen == 1:
            found.setdefault(method.family, method)
    return list(found.values())


def allocator(cache: Path) -> Iterator[Line]:
    """What keeping large blocks gives, in pairs of processes: it is read when a process starts."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    kept = plain | {name: value for name, value in ENVIRONMENT.items() if name.startswith("MALLOC_")}
    speeds: dict[str, list[float]] = {"large blocks kept": [], "as it is": []}
    for _ in range(3):
        for name, environment in zip(speeds, (kept, plain), strict=True):
            speeds[name].append(float(_process(["-c", _STEPS], environment)))
    yield Rounds(speeds, 0).line("allocator", "par_adapter step, a process each", *speeds)


_STEPS = """
import time
from benchmark.perf import network as net
from methods.registry import select
(method,) = select("par_adapter")
way = net.training("", method, net.placed(method), net.pixels())
way.work()
start = time.perf_counter()
print(sum(way.work() for _ in range(4)) / (time.perf_counter() - start))
"""


def tables(cache: Path) -> Iterator[Line]:
    """All tables of 100,000 synthetic records: seconds and peak memory, imports not counted."""
    with tempfile.TemporaryDirectory() as folder:
        write_many(Path(folder, "records"), 100_000)
        found = [_process(["-m", "benchmark.perf.many", folder]).split() for _ in range(3)]
    seconds, peaks = zip(*(map(float, words) for words in found), strict=True)
    rounds = Rounds({"from columns": [1 / s for s in seconds]}, 0)
    yield rounds.line("tables", "of 100,000 records", "from columns", unit="s", peak_mb=max(peaks))


def start(cache: Path) -> Iterator[Line]:
    """What light commands take from the shell, against importing torch, which they leave out."""
    heavy = Way("import torch", lambda: len(_process(["-c", "import torch"])) + 1)
    for words in (["--help"], ["methods"], ["tables", "--help"]):
        light = Way(" ".join(words), lambda words=words: bool(_process(["-m", "benchmark", *words])))
        yield in_turn([heavy, light], ROUNDS).line("start", light.name, light.name, heavy.name, unit="s")


def gpu(cache: Path) -> Iterator[Line]:
    """Nine domains of the paper's sizes, and pretraining, on drawn pixels on a GPU; null where there is none."""
    (method,) = select("par_adapter")
    there = torch.cuda.is_available()
    for precision, compile in (("fp32", False), ("tf32", False), ("bf16", False), ("bf16", True)):
        minutes = speed = peak_mb = None
        if there:
            peak = Peak(torch.device("cuda"))
            how = {"device": "cuda", "precision": precision, "compile": compile}
            seconds = sum(decathlon.epoch(method, domain, domain.counts[0], **how) for domain in decathlon.NINE)
            minutes, peak_mb = 2 * seconds, peak.mb()  # x 120 epochs / 60 seconds
            speed = decathlon.PRETRAINING / decathlon.epoch(None, DOMAINS[SOURCE], decathlon.PRETRAINING, **how)
        what = f"{method.name}, nine domains, 120 times a steady epoch"
        ours = f"{precision}, compiled" if compile else precision
        none = (None,) * 4
        yield Line("gpu", what, ours, None, "min", minutes, *none, int(there), 0, peak_mb)
        yield Line("gpu", "pretraining, 64 of 72 px", ours, None, "img/s", speed, *none, int(there), 0)


PARTS: dict[str, Callable[[Path], Iterator[Line]]] = {
    "batches": batches,
    "step": step,
    "evaluation": evaluation,
    "changes": changes,
    "families": families,
    "allocator": allocator,
    "tables": tables,
    "start": start,
    "gpu": gpu,
}


def _process(words: list[str], environment: dict[str, str] | None = None) -> str:
    """What a new Python of this environment prints."""
    return subprocess.run([sys.executable, *words], env=environment, check=True, capture_output=True, text=True).stdout


def _peak(work: Callable[[], object]) -> float | None:
    """Largest resident memory of this process while it works, in MB."""
    peak = Peak(torch.device("cpu"))
    work()
    return peak.mb()
