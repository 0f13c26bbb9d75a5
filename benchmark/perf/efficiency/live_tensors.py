"""The peak memory of the tensors that a forward pass makes: exact, and the same on every device and in every run."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_activation(network: nn.Module, x: Tensor) -> int:
    """The most bytes of x and of the tensors made by network(x) that exist at the same time, after any operation.

    Nothing is kept for gradients. Weights are not counted, nor what a kernel needs only while it runs.
    """
    with torch.no_grad(), LiveTensors() as live:
        live.add(x)
        network(x)
    return live.peak


class LiveTensors(TorchDispatchMode):
    """Context that follows the storages which the operations within it make, until they are freed.

    Views share the storage of their base. A storage that an operation is given and returns was not made by it: so a
    view of a weight does not count.
    """

    def __init__(self):
        super().__init__()
        self.peak = 0  # bytes
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def add(self, tensor: Tensor) -> None:
        """Follow a tensor that was made before."""
        reference = StorageWeakRef(storage := tensor.untyped_storage())
        self._live.setdefault(reference.cdata, (reference, storage.nbytes()))
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run one operation of torch."""
        given = {_storage(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        made = function(*args, **(kwargs or {}))
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
        for value in tree_leaves(made):
            if isinstance(value, Tensor) and _storage(value) not in given:
                self.add(value)
        return made


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
