"""The choice between kernels that give the same numbers up to rounding: memory layout and batch norm."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LAYOUTS, NORMS = ("channels_last", "contiguous"), ("plain", "fused")


@dataclass(frozen=True)
class KernelChoice:
    """A memory layout of LAYOUTS and a batch norm of NORMS."""

    layout: str
    norm: str

    @property
    def memory_format(self) -> "torch.memory_format":
        """The layout as torch's constant."""
        import torch

        return torch.channels_last if self.layout == "channels_last" else torch.contiguous_format
