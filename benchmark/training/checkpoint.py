"""Checkpoints of an unfinished run: tensors and momentum as safetensors, written atomically."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from visual_decathlon.benchmark.backbones.safetensors_file import on_host, read_safetensors, write_safetensors
from visual_decathlon.datasets.errors import InputError, reason


class Checkpoint:
    """The tensors of one run and its optimiser's state, by name, with its history so far.

    Used as a context manager. With `aside` a thread writes the file while training goes on; it is complete at the next
    `save`, or at the end of the context.
    """

    def __init__(
        self,
        path: Path,
        state: dict[str, Tensor],
        trained: dict[str, Tensor],
        optimiser: torch.optim.Optimizer,
        aside: bool = False,
    ):
        self.path, self.state, self.trained, self.optimiser = path, state, trained, optimiser
        self._writer = ThreadPoolExecutor(1) if aside else None
        self._writing: Future | None = None

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, *_) -> None:
        if self._writer is not None:
            self._writer.shutdown()
            self._written()

    def _written(self) -> None:
        """Waits for the previous file. Raises the error that writing it raised."""
        if self._writing is not None:
            self._writing, done = None, self._writing
            done.result()

    def save(self, history: list[dict]) -> None:
        """Saves the present tensors and history. A full disk raises InputError, with `aside` here or later."""
        self._written()
        tensors = {f"state/{name}": t for name, t in self.state.items()}
        for name, p in self.trained.items():
            # The momentum buffer is None where momentum is 0.
            kept = {key: value for key, value in self.optimiser.state[p].items() if value is not None}
            tensors |= {f"optimiser/{key}/{name}": value for key, value in kept.items()}
        about = {"history": json.dumps(history)}
        if self._writer is None:
            write_safetensors(self.path, tensors, about)
        else:
            self._writing = self._writer.submit(write_safetensors, self.path, on_host(tensors, copy=True), about)

    @torch.no_grad()
    def load(self) -> list[dict]:
        """Copies the saved tensors back in place and returns the history; [] where nothing was saved.

        Raises InputError for a damaged file.
        """
        try:
            tensors, about = read_safetensors(self.path)
            history = json.loads(about["history"])
            for name, tensor in self.state.items():
                tensor.copy_(tensors[f"state/{name}"])
            # As in torch's own loader: fused and capturable optimisers keep all state on the parameter's device.
            on_device = (
                any(group.get("fused") or group.get("capturable") for group in self.optimiser.param_groups) or None
            )
            for entry, saved in tensors.items():
                part, _, rest = entry.partition("/")
                if part == "optimiser":
                    key, _, name = rest.partition("/")
                    p = self.trained[name]
                    like = p if saved.shape == p.shape else saved  # in the parameter's memory layout
                    self.optimiser.state[p][key] = torch.empty_like(like, device=on_device and p.device).copy_(saved)
            return history
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"the checkpoint {self.path} is damaged ({reason(error)}); "
                "remove it and run again, from the first epoch"
            ) from None
