"""torch's own Adam, without the import of torch's compiler: see `layers/sgd.py`."""

import inspect

import torch


class Adam(torch.optim.Adam):
    """Computes the same bits as `torch.optim.Adam`, with the same arguments and state. It cannot be differentiated or
    compiled."""

    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Adam.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
