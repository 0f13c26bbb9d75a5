"""The steps of `make gpu`, the most important first: their subject, time limit and code.

Neither torch nor the steps' code is imported here.
"""

from dataclasses import dataclass

BUDGET = 480.0
"""Seconds for all steps together."""


@dataclass(frozen=True)
class Step:
    """One process. It is ended after `limit` seconds, and skipped where fewer than `needs` are left of BUDGET."""

    name: str
    about: str
    limit: float
    work: str  # module:function
    needs: float = 20.0


_HOME = "visual_decathlon.benchmark.perf.gpu"

PLAN = (
    Step("step", "par_adapter in bf16 against eager and the reference's way; peak memory", 90, f"{_HOME}.steps:step"),
    Step("small", "a step at the stand-ins' size", 40, f"{_HOME}.steps:small"),
    Step("tests", "the tests that need a GPU", 210, f"{_HOME}.tests:tests", 40),
    Step("bench", "the default bench with an empty cache", 90, f"{_HOME}.benches:bench", 40),
    Step("nine", "nine domains x 120 epochs of par_adapter in bf16", 80, f"{_HOME}.runs:nine", 30),
    Step("methods", "finetune, bn_adapt and res_adapter in bf16", 50, f"{_HOME}.steps:methods"),
    Step("fp32", "four methods in fp32 against the reference's way", 50, f"{_HOME}.steps:fp32"),
    Step("pretraining", "pretraining with the pixels on the GPU, and streamed", 45, f"{_HOME}.runs:pretraining"),
    Step("compiled", "compiled steps in a graph", 100, f"{_HOME}.steps:compiled", 60),
    Step("precisions", "four methods in tf32 and fp16", 60, f"{_HOME}.steps:precisions"),
    Step("deterministic", "what repeating the bits costs", 30, f"{_HOME}.steps:deterministic"),
    Step("processes", "how many runs side by side pay", 60, f"{_HOME}.processes:processes", 40),
    Step("all", "every method on the stand-ins, one seed", 400, f"{_HOME}.benches:every_method", 240),
)
