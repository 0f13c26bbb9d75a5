"""What a method costs: multiply-adds of the convolutions, by fvcore; one multiply-add counts once."""

import logging
import warnings

import torch

from methods.layers.network import Network


def conv_macs(network: Network, size: int) -> int:
    """Multiply-adds of the convolutions for one (3, size, size) image, the adapters as the network holds them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore scripts at import, which torch has deprecated
        from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    weight = next(network.parameters())
    x = torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype)
    was = network.training
    # fvcore reads the trace, which does not see into our fused convolutions: count the plain path.
    fused = [m for m in network.modules() if getattr(m, "fused", False)]
    try:
        for module in fused:
            module.fused = False
        count = FlopCountAnalysis(network.eval(), x)
        return int(count.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()["conv"])
    finally:
        for module in fused:
            module.fused = True
        network.train(was)
