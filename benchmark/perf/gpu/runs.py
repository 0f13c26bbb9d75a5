"""Times of whole runs and of a pretraining on a device, from a few of their epochs on random pixels."""

import statistics

from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.perf.decathlon import NINE, run_seconds, train_drawn
from visual_decathlon.benchmark.perf.gpu.effort import Effort
from visual_decathlon.benchmark.perf.gpu.rows import Keep, row
from visual_decathlon.benchmark.perf.gpu.ways import streamed
from visual_decathlon.datasets.catalogue import BACKBONE_DOMAIN, DOMAINS
from visual_decathlon.methods.registry import select


def nine(effort: Effort, keep: Keep) -> None:
    """Nine domains one after the other: a single line at the end, which has the goal."""
    (method,) = select("par_adapter")
    chosen = effort.paper.profile("precision=bf16")
    seconds = 0.0
    for domain in NINE:
        run = run_seconds(method, domain, chosen, effort.device, effort.choice(chosen), effort.share)
        print(f"{domain.name}: {run:,.0f} s for {chosen.adapt.epochs} epochs", flush=True)
        seconds += run
    epochs = f"{chosen.adapt.epochs} epochs, start and evaluation"
    what = f"par_adapter, bf16, nine domains one after the other: {epochs}"
    keep(row("nine", what, "the loop", [seconds / 60], unit="min", goal="nine domains"))


def pretraining(effort: Effort, keep: Keep) -> None:
    """Images per second of pretraining in bf16: with pixels on the device, and with pixels streamed to it."""
    chosen = effort.paper.profile("precision=bf16")
    resident = _pretraining(effort, chosen)
    keep(row("pretraining", "pretraining, bf16", "pixels on the GPU", resident))
    with streamed():
        rounds = _pretraining(effort, chosen)
    what = "pretraining, bf16, from drawn pixels"
    keep(row("pretraining", what, "streamed", rounds, "pixels on the GPU", resident, goal="pretraining, streamed"))


def _pretraining(effort: Effort, chosen: Profile) -> list[float]:
    """Median images per second of the steady epochs, as the only round."""
    how = {"epochs": 2, "choice": effort.choice(chosen)}
    trained = train_drawn(None, DOMAINS[BACKBONE_DOMAIN], effort.pretraining, chosen, effort.device, **how)
    return [statistics.median(trained.speeds())]
