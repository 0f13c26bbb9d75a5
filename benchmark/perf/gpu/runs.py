"""What whole runs and a pretraining take on a device, from a few of their epochs on drawn pixels."""

import statistics

from visual_decathlon.benchmark.perf.decathlon import NINE, run_seconds, train_drawn
from visual_decathlon.benchmark.perf.gpu.effort import Effort
from visual_decathlon.benchmark.perf.gpu.rows import Keep, row
from visual_decathlon.benchmark.perf.gpu.ways import streamed
from visual_decathlon.datasets.catalogue import BACKBONE_DOMAIN, DOMAINS
from visual_decathlon.methods.registry import select


def nine(effort: Effort, keep: Keep) -> None:
    """Nine domains one after the other: a line when all are known, which the goal is of."""
    (method,) = select("par_adapter")
    chosen = effort.paper.profile("precision=bf16")
    seconds = 0.0
    for domain in NINE:
        found = run_seconds(method, domain, chosen, effort.device, effort.choice(chosen), effort.share)
        print(f"{domain.name}: {found:,.0f} s for {chosen.adapt.epochs} epochs", flush=True)
        seconds += found
    epochs = f"{chosen.adapt.epochs} epochs, start and evaluation"
    what = f"par_adapter, bf16, nine domains one after the other: {epochs}"
    keep(row("nine", what, "the loop", [seconds / 60], unit="min", goal="nine domains"))


def pretraining(effort: Effort, keep: Keep) -> None:
    """Images per second of pretraining in bf16: pixels that lie on the device, and pixels that are streamed to it."""
    chosen = effort.paper.profile("precision=bf16")
    resident = _pretraining(effort, chosen)
    keep(row("pretraining", "pretraining, bf16", "pixels on the GPU", resident))
    with streamed():
        found = _pretraining(effort, chosen)
    what = "pretraining, bf16, from drawn pixels"
    keep(row("pretraining", what, "streamed", found, "pixels on the GPU", resident, goal="pretraining, streamed"))


def _pretraining(effort: Effort, chosen) -> list[float]:
    how = {"epochs": 2, "choice": effort.choice(chosen)}
    found = train_drawn(None, DOMAINS[BACKBONE_DOMAIN], effort.pretraining, chosen, effort.device, **how)
    return [statistics.median(found.speeds())]
