"""How numbers are computed, set once a job: threads, the precision of float32, and the same bits every time.

A CPU's kernels give the same bits each time as they are. A GPU's do where torch is told so, cuBLAS has a workspace
of its own a stream, and no kernel adds by atomics: an operation that has no such kernel raises there.
"""

import os
import re
from typing import TYPE_CHECKING

from visual_decathlon.benchmark.runtime.devices import on_cpu

if TYPE_CHECKING:
    from visual_decathlon.benchmark.config.profiles import Profile

THREADS = 1
"""On a CPU each job runs in a process with one thread: its numbers do not depend on a machine's number of cores."""

WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8"))
"""cuBLAS reads it when CUDA starts, and these are the values with which it repeats its bits."""

_OFFENDER = re.compile(
    r"^(?P<op>\S+) does not have a deterministic (?:implementation|CUDA implementation)"
    r"|^Deterministic behavior was enabled.*(?P<blas>CuBLAS)",
    re.MULTILINE | re.DOTALL,
)


def set_workspace() -> None:
    """Into the environment of this process and those it starts, unless the user chose one that repeats too."""
    name, values = WORKSPACE
    if os.environ.get(name) not in values:
        os.environ[name] = values[0]


def configure_torch(profile: "Profile", device: str) -> None:
    """One thread, the precision asked for (float32 is float32 on a GPU too, unless that is tf32), the same bits."""
    import torch

    torch.set_num_threads(THREADS)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = profile.precision == "tf32"
    set_deterministic(profile.deterministic and not on_cpu(device))


def set_deterministic(on: bool) -> None:
    """Whether every kernel must give the same bits each time; what has none that does then raises RuntimeError."""
    import torch

    if on:
        set_workspace()
    # Not use_deterministic_algorithms: it imports torch's compiler, about 2 s, to set the same flag for it too, which
    # benchmark/training/compile.py does where there is something to compile.
    torch.set_deterministic_debug_mode("error" if on else "default")
    torch.backends.cudnn.deterministic = on
    torch.backends.cudnn.benchmark = False  # which kernel is fastest differs from start to start
    torch.utils.deterministic.fill_uninitialized_memory = False  # it is a help in debugging, at a pass over memory


def nondeterministic_operation(error: RuntimeError) -> str | None:
    """The operation that has no deterministic kernel, as torch names it; None where the error is another."""
    found = _OFFENDER.search(str(error))
    return found and (found["op"] or found["blas"])
