"""What is measured, by the name that ONLY= takes: each part yields its lines, and tells how far it is."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from visual_decathlon.benchmark.perf import network as net
from visual_decathlon.benchmark.perf import pixels
from visual_decathlon.benchmark.perf.rounds import Comparison, Rounds, Variant, run_interleaved
from visual_decathlon.benchmark.perf.synthetic_records import write_many
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.runs.engines.local import ENVIRONMENT
from visual_decathlon.benchmark.runtime.precision import SLOWER, times_slower
from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent
from visual_decathlon.benchmark.training.timing import Peak
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import entries, select

ROUNDS, FEWER = 5, 3  # fewer for what has many ways and no goal of its own, so that all of it takes ten minutes
THEIRS, BF16 = "reference's way", "bf16 (opt-in)"


def batches(cache: Path, told: ProgressCallback = silent) -> Iterator[Comparison]:
    """Training batches of packed pixels against files, PIL and a DataLoader."""
    ways = pixels.ways(cache)
    yield run_interleaved(ways, ROUNDS, told).line(
        "batches", "random crop 64 of 72, flip, normalise", *(way.name for way in ways)
    )


def step(cache: Path, told: ProgressCallback = silent) -> Iterator[Comparison]:
    """A training step of the plain and the adapted network: ours, in bf16, and the reference's."""
    without = without_bf16()
    best = {dtype: net.ceiling(dtype) for dtype in (torch.float32, torch.bfloat16)[: 1 if without else 2]}
    inputs = net.pixels()
    for (method,) in map(select, ("finetune", "res_adapter", "par_adapter", "bn_adapt")):
        theirs = net.training(THEIRS, method, net.reference_way(net.placed(method)), inputs)
        ours = {torch.float32: net.training("fp32", method, net.placed(method), inputs)}
        if not without:
            ours[torch.bfloat16] = net.training(BF16, method, net.placed(method), inputs, bf16=True)
        macs = net.training_macs(net.reference_way(net.placed(method)), *net.pixels(2))
        found = run_interleaved([theirs, *ours.values()], ROUNDS, told, method.name)
        for dtype, way in ours.items():
            share = macs * statistics.median(found.speeds[way.name]) / best[dtype]
            yield found.line("step", method.name, way.name, THEIRS, peak_mb=_peak(way.work), share=share)
        if without:
            yield left_out("step", method.name, f"{BF16}, {without}", THEIRS)
    yield _cached("feature", inputs, 200, told)
    yield _cached("side", inputs, 200, told)
    yield _cached("partial(views=8)", inputs, 2, told)


def without_bf16() -> str:
    """Why bf16 is not measured here: it takes as many times longer, and so would the part. "" where it is."""
    ratio = times_slower("cpu")
    return f"left out: a convolution takes {ratio:.1f} times fp32's time here" if ratio > SLOWER else ""


def left_out(part: str, what: str, ours: str, other: str | None = None, unit: str = "img/s") -> Comparison:
    """In the place of what is not measured here; `ours` says why."""
    return Comparison(part, what, ours, other, unit, *(None,) * 5, 0, 0)


def _cached(spec: str, inputs: tuple[torch.Tensor, torch.Tensor], steps: int, told: ProgressCallback) -> Comparison:
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
    return run_interleaved([theirs, ours], ROUNDS, told, method.spec).line("step", method.spec, ours.name, THEIRS)


def evaluation(cache: Path, told: ProgressCallback = silent) -> Iterator[Comparison]:
    """Inference of adapted networks: merged and folded, in bf16 too, against adapters beside the convolutions."""
    x, _ = net.pixels()
    without = without_bf16()
    for (method,) in map(select, ("finetune", "res_adapter", "par_adapter")):
        network = net.placed(method)
        ways = [
            net.evaluation(THEIRS, net.reference_way(net.placed(method)), x),
            net.evaluation("merged, fp32", net.inference_module(network), x),
        ]
        if not without:
            ways.append(net.evaluation(f"merged, {BF16}", net.inference_module(network), x, bf16=True))
        found = run_interleaved(ways, ROUNDS, told, method.name)
        for way in ways[1:]:
            yield found.line("evaluation", method.name, way.name, THEIRS)
        if without:
            yield left_out("evaluation", method.name, f"merged, {BF16}, {without}", THEIRS)


def changes(cache: Path, told: ProgressCallback = silent) -> Iterator[Comparison]:
    """What each change gives by itself, all else equal: layout, each fast path, merging."""
    inputs = net.pixels()
    (finetune,) = select("finetune")
    ways = [
        net.training("NCHW", finetune, net.reference_way(net.placed(finetune)), inputs),
        net.training("channels_last", finetune, net.placed(finetune), inputs),
    ]
    yield run_interleaved(ways, FEWER, told, "finetune step").line("changes", "finetune step", "channels_last", "NCHW")
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
        yield run_interleaved(ways, FEWER, told, f"{spec} step").line("changes", f"{spec} step", fast, slow)
    (method,) = select("par_adapter")
    ways = [
        net.evaluation("adapters beside", net.plain(net.placed(method)), inputs[0]),
        net.evaluation("merged, folded", net.inference_module(net.placed(method)), inputs[0]),
    ]
    what = "par_adapter evaluation"
    yield run_interleaved(ways, FEWER, told, what).line("changes", what, "merged, folded", "adapters beside")


def families(cache: Path, told: ProgressCallback = silent) -> Iterator[Comparison]:
    """One method of every family: its step against fine-tune's (T_PEFT/T_FFT), its inference against the bare backbone.

    Whose frozen part is computed once has its step in `step`.
    """
    inputs = net.pixels()
    placed = {method: net.placed(method) for method in of_families()}
    methods = [method for method in placed if not method.cached_views]
    steps = [net.training(method.name, method, placed[method], inputs) for method in methods]
    (finetune,) = select("finetune")
    baseline = net.training("finetune's step", finetune, net.placed(finetune), inputs)
    peak = Peak(torch.device("cpu"))  # of all: beside what the process holds, one step's own is not seen
    found = run_interleaved([baseline, *steps], FEWER, told, "a step")
    most = peak.mb()
    for method, way in zip(methods, steps, strict=True):
        yield found.line("families", f"{method.family}: T_FFT / T", way.name, baseline.name, peak_mb=most)
    bare = net.evaluation("the bare backbone", net.inference_module(net.source(finetune)), inputs[0])
    served = {
        method.family: net.evaluation(f"{method.name}, merged", net.inference_module(network), inputs[0])
        if method.mergeable
        else net.evaluation(f"{method.name}, as placed", network, inputs[0])
        for method, network in placed.items()
    }
    found = run_interleaved([bare, *served.values()], FEWER, told, "inference")
    for family, way in served.items():
        yield found.line("families", f"{family}: inference", way.name, bare.name)


def of_families() -> list[Method]:
    """The first entry of every family that trains a network by itself on this backbone's width."""
    found: dict[str, Method] = {}
    for entry in entries():
        method = entry()
        if not method.unsupported_reason("resnet26") and not method.has_joint_stage and method.width_multiplier == 1:
            found.setdefault(method.family, method)
    return list(found.values())


def allocator(cache: Path, told: ProgressCallback = silent) -> Iterator[Comparison]:
    """What keeping large blocks, in huge pages, gives, in pairs of processes: it is read when a process starts."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(_OF_MALLOC)}
    kept = plain | {name: value for name, value in ENVIRONMENT.items() if name.startswith(_OF_MALLOC)}
    speeds: dict[str, list[float]] = {"large blocks kept": [], "as it is": []}
    for i in range(FEWER):
        for j, (name, environment) in enumerate(zip(speeds, (kept, plain), strict=True)):
            told(f"{name}, round {i + 1} of {FEWER}", 2 * i + j, 2 * FEWER)
            speeds[name].append(float(_process(["-c", _STEPS], environment)))
    yield Rounds(speeds, 0).line("allocator", "par_adapter step, a process each", *speeds)


_OF_MALLOC = ("MALLOC_", "GLIBC_TUNABLES")

_STEPS = """
import time
from visual_decathlon.benchmark.perf import network as net
from visual_decathlon.methods.registry import select
(method,) = select("par_adapter")
way = net.training("", method, net.placed(method), net.pixels())
way.work()
start = time.perf_counter()
print(sum(way.work() for _ in range(4)) / (time.perf_counter() - start))
"""


def tables(cache: Path, told: ProgressCallback = silent) -> Iterator[Comparison]:
    """All tables of 100,000 synthetic records: seconds and peak memory, imports not counted."""
    with tempfile.TemporaryDirectory() as folder:
        told("writing the records", 0, 1 + FEWER)
        write_many(ResultsFolder(Path(folder)).records, 100_000)
        found = []
        for i in range(FEWER):
            told(f"tables of 100,000 records, round {i + 1} of {FEWER}", 1 + i, 1 + FEWER)
            found.append(_process(["-m", "visual_decathlon.benchmark.perf.synthetic_records", folder]).split())
    seconds, peaks = zip(*(map(float, words) for words in found), strict=True)
    rounds = Rounds({"from columns": [1 / s for s in seconds]}, 0)
    yield rounds.line("tables", "of 100,000 records", "from columns", unit="s", peak_mb=max(peaks))


def start(cache: Path, told: ProgressCallback = silent) -> Iterator[Comparison]:
    """What light commands take from the shell, against importing torch, which they leave out."""
    heavy = Variant("import torch", lambda: len(_process(["-c", "import torch"])) + 1)
    for words in (["--help"], ["methods"], ["tables", "--help"]):
        light = Variant(" ".join(words), lambda words=words: bool(_process(["-m", "benchmark", *words])))
        yield run_interleaved([heavy, light], ROUNDS, told).line("start", light.name, light.name, heavy.name, unit="s")


PARTS: dict[str, Callable[[Path, ProgressCallback], Iterator[Comparison]]] = {
    "batches": batches,
    "step": step,
    "evaluation": evaluation,
    "changes": changes,
    "families": families,
    "allocator": allocator,
    "tables": tables,
    "start": start,
}


def _process(words: list[str], environment: dict[str, str] | None = None) -> str:
    """What a new Python of this environment prints."""
    return subprocess.run([sys.executable, *words], env=environment, check=True, capture_output=True, text=True).stdout


def _peak(work: Callable[[], object]) -> float | None:
    """Largest resident memory of this process while it works, in MB."""
    peak = Peak(torch.device("cpu"))
    work()
    return peak.mb()
