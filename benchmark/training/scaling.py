"""fp16's dynamic loss scale: the loss is multiplied so that gradients do not vanish (Micikevicius et al. 2018).

torch's GradScaler decides: it skips a step whose gradients overflow and halves the scale; after 2,000 good steps it
doubles the scale. Skipped steps are counted on the device. Weights and momentum stay fp32.
"""

import torch
from torch import Tensor


class Scaling:
    """A GradScaler and the number of steps it skipped."""

    def __init__(self, device: torch.device):
        self._one = torch.ones((), device=device)
        self._make()
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)

    def _make(self) -> None:
        self._scaler = torch.amp.GradScaler(self._one.device.type)
        self._scaler.scale(self._one)  # creates its tensors

    def recover(self, optimiser: torch.optim.Optimizer) -> None:
        """Restores the scale and its growth after an interrupted `step`. Waits for the device."""
        state = self.state()
        self._make()
        self.load(state)
        for name in ("grad_scale", "found_inf"):  # the scaler sets them on an optimiser during its step
            vars(optimiser).pop(name, None)

    def begin(self) -> None:
        """Begins an epoch: the count of skipped steps is 0."""
        self._skipped.zero_()

    def step(self, value: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Runs backward and the optimiser's step, which is skipped where a gradient is not finite."""
        before = self._scaler.scale(self._one)
        self._scaler.scale(value).backward()
        self._scaler.step(optimiser)
        self._scaler.update()
        self._skipped.add_(self._scaler.scale(self._one) < before)

    def skipped(self) -> int:
        """Number of skipped steps of the epoch. Waits for the device."""
        return int(self._skipped)

    def state(self) -> dict[str, float]:
        """State from which a run is resumed. Waits for the device."""
        return self._scaler.state_dict()

    def load(self, state: dict[str, float]) -> None:
        """Restores a `state`."""
        self._scaler.load_state_dict(state)
