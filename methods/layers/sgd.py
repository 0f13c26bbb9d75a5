"""torch's own SGD, called without the import of torch's compiler.

In torch 2.15 an optimiser's `add_param_group`, `step` and `zero_grad` are wrapped so that torch.compile leaves them
alone, and the first call of a wrapper imports torch._dynamo: 1.6 to 2.5 s of a processor in every process that trains.
The functions within the wrappers are the same.
"""

import inspect

import torch


class SGD(torch.optim.SGD):
    """`torch.optim.SGD` to the bit, with the same arguments and state. It cannot be differentiated or compiled."""

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))
