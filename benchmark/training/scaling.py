"""fp16's dynamic loss scale: a loss times so much that no gradient vanishes in half precision (Micikevicius 2018).

torch's GradScaler decides: a step whose gradients overflow is skipped and the scale halved; after 2,000 good ones it is
doubled. How many were skipped is counted on the device. Weights and momentum stay fp32.
"""

import torch
from torch import Tensor


class Scaling:
    """A GradScaler, and the number of steps it skipped."""

    def __init__(self, device: torch.device):
        self._one = torch.ones((), device=device)
        self._make()
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)

    def _make(self) -> None:
        self._scaler = torch.amp.GradScaler(self._one.device.type)
        self._scaler.scale(self._one)  # makes its tensors

    def recover(self, optimiser: torch.optim.Optimizer) -> None:
        """After a `step` that was broken off: the scale and its growth are as before it. Waits for the device."""
        state = self.state()
        self._make()
        self.load(state)
        for name in ("grad_scale", "found_inf"):  # what the scaler lends an optimiser for its step
            vars(optimiser).pop(name, None)

    def begin(self) -> None:
        """An epoch: the count of skipped steps starts at 0."""
        self._skipped.zero_()

    def step(self, value: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Backward and the optimiser's step, or none where a gradient is not finite."""
        before = self._scaler.scale(self._one)
        self._scaler.scale(value).backward()
        self._scaler.step(optimiser)
        self._scaler.update()
        self._skipped.add_(self._scaler.scale(self._one) < before)

    def skipped(self) -> int:
        """Steps of the epoch. Waits for the device."""
        return int(self._skipped)

    def state(self) -> dict[str, float]:
        """What a resumed run goes on from. Waits for the device."""
        return self._scaler.state_dict()

    def load(self, state: dict[str, float]) -> None:
        self._scaler.load_state_dict(state)
