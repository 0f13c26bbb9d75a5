"""The measured parts by the name that ONLY= takes: each yields its comparisons and reports its progress."""

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
from visual_decathlon.benchmark.runs.engines.worker import ENVIRONMENT
from visual_decathlon.benchmark.runtime.precision import SLOWER, times_slower
from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent
from visual_decathlon.benchmark.training.timing import Peak
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import entries, select

ROUNDS, FEWER = 5, 3  # fewer for parts with many variants and no goal, so that all parts take ten minutes
REFERENCE, BF16 = "reference's way", "bf16 (opt-in)"


def batches(cache: Path, progress: ProgressCallback = silent) -> Iterator[Comparison]:
    """Training batches of packed pixels, compared with files, PIL and a DataLoader."""
    variants = pixels.variants(cache)
    yield run_interleaved(variants, ROUNDS, progress).comparison(
        "batches", "random crop 64 of 72, flip, normalise", *(variant.name for variant in variants)
    )


def step(cache: Path, progress: ProgressCallback = silent) -> Iterator[Comparison]:
    """A training step of the plain and the adapted network: ours in fp32 and bf16, and the reference's."""
    without = without_bf16()
    best = {dtype: net.ceiling(dtype) for dtype in (torch.float32, torch.bfloat16)[: 1 if without else 2]}
    inputs = net.pixels()
    for (method,) in map(select, ("finetune", "res_adapter", "par_adapter", "bn_adapt")):
        reference = net.training(REFERENCE, method, net.reference_way(net.placed(method)), inputs)
        ours = {torch.float32: net.training("fp32", method, net.placed(method), inputs)}
        if not without:
            ours[torch.bfloat16] = net.training(BF16, method, net.placed(method), inputs, bf16=True)
        macs = net.training_macs(net.reference_way(net.placed(method)), *net.pixels(2))
        rounds = run_interleaved([reference, *ours.values()], ROUNDS, progress, method.name)
        for dtype, variant in ours.items():
            share = macs * statistics.median(rounds.speeds[variant.name]) / best[dtype]
            peak = _peak(variant.work)
            yield rounds.comparison("step", method.name, variant.name, REFERENCE, peak_mb=peak, share=share)
        if without:
            yield left_out("step", method.name, f"{BF16}, {without}", REFERENCE)
    yield _cached("feature", inputs, 200, progress)
    yield _cached("side", inputs, 200, progress)
    yield _cached("partial(views=8)", inputs, 2, progress)


def without_bf16() -> str:
    """The reason why bf16 is not measured here: it is that much slower, and the part would be too. "" where it is."""
    ratio = times_slower("cpu")
    return f"left out: a convolution takes {ratio:.1f} times fp32's time here" if ratio > SLOWER else ""


def left_out(part: str, what: str, ours: str, other: str | None = None, unit: str = "img/s") -> Comparison:
    """A line for a comparison that is not measured here; `ours` has the reason."""
    return Comparison(part, what, ours, other, unit, *(None,) * 5, 0, 0)


def _cached(spec: str, inputs: tuple[torch.Tensor, torch.Tensor], steps: int, progress: ProgressCallback) -> Comparison:
    """A step on cached outputs of the frozen part, compared with the reference, which computes them at every step."""
    (method,) = select(spec)
    x, y = inputs
    network = net.placed(method)
    frozen, trained = method.split(network)
    with torch.no_grad():
        read = frozen.eval()(x.contiguous(memory_format=torch.channels_last))
    features = method.fit(network, read[None], y)[0]
    ours = net.training("fp32, frozen part computed once", method, trained, (features, y), steps)
    reference = net.training(REFERENCE, method, net.reference_way(net.placed(method)), inputs)
    rounds = run_interleaved([reference, ours], ROUNDS, progress, method.spec)
    return rounds.comparison("step", method.spec, ours.name, REFERENCE)


def evaluation(cache: Path, progress: ProgressCallback = silent) -> Iterator[Comparison]:
    """Inference of adapted networks: merged and folded, in bf16 too, against adapters next to the convolutions."""
    x, _ = net.pixels()
    without = without_bf16()
    for (method,) in map(select, ("finetune", "res_adapter", "par_adapter")):
        network = net.placed(method)
        variants = [
            net.evaluation(REFERENCE, net.reference_way(net.placed(method)), x),
            net.evaluation("merged, fp32", net.inference_module(network), x),
        ]
        if not without:
            variants.append(net.evaluation(f"merged, {BF16}", net.inference_module(network), x, bf16=True))
        rounds = run_interleaved(variants, ROUNDS, progress, method.name)
        for variant in variants[1:]:
            yield rounds.comparison("evaluation", method.name, variant.name, REFERENCE)
        if without:
            yield left_out("evaluation", method.name, f"merged, {BF16}, {without}", REFERENCE)


def changes(cache: Path, progress: ProgressCallback = silent) -> Iterator[Comparison]:
    """The gain of each change by itself, all else equal: layout, each fast path, merging."""
    inputs = net.pixels()
    (finetune,) = select("finetune")
    variants = [
        net.training("NCHW", finetune, net.reference_way(net.placed(finetune)), inputs),
        net.training("channels_last", finetune, net.placed(finetune), inputs),
    ]
    rounds = run_interleaved(variants, FEWER, progress, "finetune step")
    yield rounds.comparison("changes", "finetune step", "channels_last", "NCHW")
    for spec, fast, slow in (
        ("par_adapter", "centre tap", "1x1 beside"),
        ("res_adapter", "one 1x1", "norm, 1x1, sum"),
        ("lora", "two convolutions beside", "in weight space"),
        ("arc", "two 1x1 before", "in weight space"),
    ):
        (method,) = select(spec)
        variants = [
            net.training(slow, method, net.plain(net.placed(method)), inputs),
            net.training(fast, method, net.placed(method), inputs),
        ]
        rounds = run_interleaved(variants, FEWER, progress, f"{spec} step")
        yield rounds.comparison("changes", f"{spec} step", fast, slow)
    (method,) = select("par_adapter")
    variants = [
        net.evaluation("adapters beside", net.plain(net.placed(method)), inputs[0]),
        net.evaluation("merged, folded", net.inference_module(net.placed(method)), inputs[0]),
    ]
    what = "par_adapter evaluation"
    rounds = run_interleaved(variants, FEWER, progress, what)
    yield rounds.comparison("changes", what, "merged, folded", "adapters beside")


def families(cache: Path, progress: ProgressCallback = silent) -> Iterator[Comparison]:
    """One method of every family: its step against fine-tune's (T_PEFT/T_FFT), its inference against the backbone's.

    Methods whose frozen part is computed once have their step in `step`.
    """
    inputs = net.pixels()
    placed = {method: net.placed(method) for method in of_families()}
    methods = [method for method in placed if not method.cached_views]
    steps = [net.training(method.name, method, placed[method], inputs) for method in methods]
    (finetune,) = select("finetune")
    baseline = net.training("finetune's step", finetune, net.placed(finetune), inputs)
    peak = Peak(torch.device("cpu"))  # of all steps together: the process is too large for a single step to be visible
    rounds = run_interleaved([baseline, *steps], FEWER, progress, "a step")
    peak_mb = peak.mb()
    for method, variant in zip(methods, steps, strict=True):
        what = f"{method.family}: T_FFT / T"
        yield rounds.comparison("families", what, variant.name, baseline.name, peak_mb=peak_mb)
    backbone = net.evaluation("the bare backbone", net.inference_module(net.source(finetune)), inputs[0])
    inference = {
        method.family: net.evaluation(f"{method.name}, merged", net.inference_module(network), inputs[0])
        if method.mergeable
        else net.evaluation(f"{method.name}, as placed", network, inputs[0])
        for method, network in placed.items()
    }
    rounds = run_interleaved([backbone, *inference.values()], FEWER, progress, "inference")
    for family, variant in inference.items():
        yield rounds.comparison("families", f"{family}: inference", variant.name, backbone.name)


def of_families() -> list[Method]:
    """The first method of every family that trains a network by itself at this backbone's width."""
    first: dict[str, Method] = {}
    for entry in entries():
        method = entry()
        if not method.unsupported_reason("resnet26") and not method.has_joint_stage and method.width_multiplier == 1:
            first.setdefault(method.family, method)
    return list(first.values())


def allocator(cache: Path, progress: ProgressCallback = silent) -> Iterator[Comparison]:
    """The gain of keeping large blocks in huge pages, in pairs of processes: malloc reads its settings at the start."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(_OF_MALLOC)}
    kept = plain | {name: value for name, value in ENVIRONMENT.items() if name.startswith(_OF_MALLOC)}
    speeds: dict[str, list[float]] = {"large blocks kept": [], "as it is": []}
    for i in range(FEWER):
        for j, (name, environment) in enumerate(zip(speeds, (kept, plain), strict=True)):
            progress(f"{name}, round {i + 1} of {FEWER}", 2 * i + j, 2 * FEWER)
            speeds[name].append(float(_process(["-c", _STEPS], environment)))
    yield Rounds(speeds, 0).comparison("allocator", "par_adapter step, a process each", *speeds)


_OF_MALLOC = ("MALLOC_", "GLIBC_TUNABLES")

_STEPS = """
import time
from visual_decathlon.benchmark.perf import network as net
from visual_decathlon.methods.registry import select
(method,) = select("par_adapter")
variant = net.training("", method, net.placed(method), net.pixels())
variant.work()
start = time.perf_counter()
print(sum(variant.work() for _ in range(4)) / (time.perf_counter() - start))
"""


def tables(cache: Path, progress: ProgressCallback = silent) -> Iterator[Comparison]:
    """All tables of 100,000 synthetic records: seconds and peak memory, imports not counted."""
    with tempfile.TemporaryDirectory() as folder:
        progress("writing the records", 0, 1 + FEWER)
        write_many(ResultsFolder(Path(folder)).records, 100_000)
        outputs = []
        for i in range(FEWER):
            progress(f"tables of 100,000 records, round {i + 1} of {FEWER}", 1 + i, 1 + FEWER)
            outputs.append(_process(["-m", "visual_decathlon.benchmark.perf.synthetic_records", folder]).split())
    seconds, peaks = zip(*(map(float, words) for words in outputs), strict=True)
    rounds = Rounds({"from columns": [1 / s for s in seconds]}, 0)
    yield rounds.comparison("tables", "of 100,000 records", "from columns", unit="s", peak_mb=max(peaks))


def start(cache: Path, progress: ProgressCallback = silent) -> Iterator[Comparison]:
    """Seconds of light commands from the shell, compared with importing torch, which they do not need."""
    heavy = Variant("import torch", lambda: len(_process(["-c", "import torch"])) + 1)
    for words in (["--help"], ["methods"], ["tables", "--help"]):
        light = Variant(" ".join(words), lambda words=words: bool(_process(["-m", "benchmark", *words])))
        rounds = run_interleaved([heavy, light], ROUNDS, progress)
        yield rounds.comparison("start", light.name, light.name, heavy.name, unit="s")


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
    """The output of a new Python process of this environment."""
    return subprocess.run([sys.executable, *words], env=environment, check=True, capture_output=True, text=True).stdout


def _peak(work: Callable[[], object]) -> float | None:
    """Largest resident memory of this process during the work, in MB."""
    peak = Peak(torch.device("cpu"))
    work()
    return peak.mb()
