"""What a method costs: multiply-adds of the convolutions, by fvcore; one multiply-add counts once."""

import logging
import warnings

import torch

from methods.layers.network import Network


def conv_macs(network: Network, size: int) -> int:
    """Multiply-adds of the convolutions for one (3, size, size) image, the adapters as the network holds them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore scripts at import, which torch has deprecated
        from fvcore.nn.jit_analysis import JitModelAnalysis
        from fvcore.nn.jit_handles import conv_flop_jit

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    weight = next(network.parameters())
    x = torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype)
    was = network.training
    # fvcore reads the trace, which does not see into our fused convolutions: count the plain path.
    fused = [m for m in network.modules() if getattr(m, "fused", False)]
    try:
        for module in fused:
            module.fused = False
        # The convolutions alone: fvcore's handle for a matrix product fails on a matrix times a vector.
        count = JitModelAnalysis(network.eval(), x).set_op_handle("aten::_convolution", conv_flop_jit)
        return int(count.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())
    finally:
        for module in fused:
            module.fused = True
        network.train(was)
