"""Settings of torch for one job: threads, the precision of float32, and deterministic kernels.

A CPU's kernels repeat their bits without further settings. Those of a GPU do in torch's deterministic mode, where
cuBLAS has a workspace for each stream and no kernel adds by atomic operations; an operation without such a kernel
raises an error.
"""

import os
import re
from typing import TYPE_CHECKING

from visual_decathlon.benchmark.runtime.devices import on_cpu

if TYPE_CHECKING:
    from visual_decathlon.benchmark.config.profiles import Profile

THREADS = 1
"""Threads of each job on a CPU: with one, its numbers do not depend on the number of cores."""

WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8"))
"""The variable that cuBLAS reads when CUDA starts, and the values with which it repeats its bits."""

_NONDETERMINISTIC = re.compile(
    r"^(?P<op>\S+) does not have a deterministic (?:implementation|CUDA implementation)"
    r"|^Deterministic behavior was enabled.*(?P<blas>CuBLAS)",
    re.MULTILINE | re.DOTALL,
)


def set_workspace() -> None:
    """Sets WORKSPACE for this process and its children, unless the user chose a value that repeats bits too."""
    name, values = WORKSPACE
    if os.environ.get(name) not in values:
        os.environ[name] = values[0]


def configure_torch(profile: "Profile", device: str) -> None:
    """Sets one thread, the profile's precision (TF32 only where it is asked for) and deterministic kernels."""
    import torch

    torch.set_num_threads(THREADS)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = profile.precision == "tf32"
    set_deterministic(profile.deterministic and not on_cpu(device))


def set_deterministic(on: bool) -> None:
    """Switches deterministic kernels on or off. With them, an operation that has none raises RuntimeError."""
    import torch

    if on:
        set_workspace()
    # Not use_deterministic_algorithms: it imports torch's compiler, about 2 s, to set the same flag for it too, which
    # benchmark/training/compile.py does where there is something to compile.
    torch.set_deterministic_debug_mode("error" if on else "default")
    torch.backends.cudnn.deterministic = on
    torch.backends.cudnn.benchmark = False  # the fastest kernel may differ from one start to the next
    torch.utils.deterministic.fill_uninitialized_memory = False  # a help in debugging that costs a pass over memory


def nondeterministic_operation(error: RuntimeError) -> str | None:
    """Returns torch's name of the operation without a deterministic kernel; None for any other error."""
    match = _NONDETERMINISTIC.search(str(error))
    return match and (match["op"] or match["blas"])
