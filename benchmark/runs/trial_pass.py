"""One pass of one image through an adapted network of a library, before it is trained."""

import torch

from visual_decathlon.benchmark.config.backbone_names import OWN
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.runtime.memory import is_out_of_memory
from visual_decathlon.benchmark.runtime.numerics import nondeterministic_operation
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import Network
from visual_decathlon.methods.method import Method


@torch.no_grad()
def check_pass(run: Run, method: Method, network: Network, device: str) -> None:
    """Raises InputError where the network of a library does not compute with the method's adapters in it.

    Not everything that code of others does with its layers can be read from their shapes. An error that says nothing
    about the network, that memory ran out or that a kernel is not deterministic, is raised unchanged. No random number
    is drawn.
    """
    if run.profile.network == OWN:
        return
    training, side = network.training, run.profile.crop
    with torch.random.fork_rng(devices=[] if torch.device(device).type == "cpu" else None):
        try:
            network.eval()(torch.zeros(1, 3, side, side, device=device))
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError) as error:
            if is_out_of_memory(error) or nondeterministic_operation(error):
                raise
            cause = " ".join(str(error).split())[:120]
            raise InputError(
                f"{method.spec} does not run on {run.profile.network} with images of {side} pixels ({cause}); choose "
                "another method, crop or network"
            ) from None
    network.train(training)
