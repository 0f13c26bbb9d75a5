"""torch's own SGD, without the import of torch's compiler.

In torch 2.15 an optimiser's `add_param_group`, `step` and `zero_grad` are wrapped so that torch.compile skips them, and
the first call of a wrapper imports torch._dynamo: 1.6 to 2.5 s of CPU time in every process that trains. The functions
inside the wrappers are used here, unchanged.
"""

import inspect

import torch


class SGD(torch.optim.SGD):
    """Computes the same bits as `torch.optim.SGD`, with the same arguments and state. It cannot be differentiated or
    compiled."""

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))
