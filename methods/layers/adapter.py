"""What takes the place of a backbone's module: the hooks of every adapter."""

import torch
from torch import Tensor, nn

from visual_decathlon.datasets.errors import InputError

# What libraries read from their layers while they compute: a device, a kernel's size, a norm's epsilon.
_LAYER_ATTRIBUTES = frozenset(
    ("weight", "bias", "eps", "num_features", "normalized_shape", "in_channels", "out_channels")
    + ("in_features", "out_features", "kernel_size", "stride", "padding", "padding_mode", "dilation", "groups")
)

# Methods of adapters before 2026-12, which nothing calls any more, and their names now.
_RENAMED = {"folded": "merge", "weight": "adapted_weight", "bias": "adapted_bias"}


class Adapter(nn.Module):
    """Replaces a module of the backbone; it holds that shared module and the domain's tensors.

    The shared module is the first one that it registers: where a library reads `layer.weight.device` or
    `layer.kernel_size`, it gets that one's.
    """

    any_axis = False  # it computes with the weight alone, so that a linear layer can take a 1x1 convolution's place

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        for old in _RENAMED.keys() & vars(cls).keys():
            if callable(vars(cls)[old]):
                where = f"{cls.__module__}.{cls.__qualname__}"
                raise InputError(f"{where} defines `{old}`, which is now `{_RENAMED[old]}`; rename it")

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """As nn.Module's; an own tensor may have the name of one of the shared module."""
        if name in _LAYER_ATTRIBUTES:  # torch refuses the name of an attribute that a module has already
            self._parameters.setdefault(name, None)
        super().register_parameter(name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """As `register_parameter`."""
        if name in _LAYER_ATTRIBUTES:
            self._buffers.setdefault(name, None)
        super().register_buffer(name, tensor, persistent)

    def __getattr__(self, name: str):
        """An own parameter or submodule, or the shared module's attribute. Raises AttributeError for any other name."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            modules = self.__dict__.get("_modules")
            if name not in _LAYER_ATTRIBUTES or not modules:
                raise
        return getattr(next(iter(modules.values())), name)

    def merge(self) -> nn.Module:
        """One module of the replaced kind that computes the same in eval mode; the adapter does not change.

        Raises AttributeError for an adapter that cannot merge, as here.
        """
        raise AttributeError(f"{type(self).__name__} does not merge into the module it replaces")

    def stored(self) -> dict[str, Tensor] | None:
        """Tensors that are written to disk instead of this module's own; None where its own tensors are written."""
        return None

    def unpacked(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """This module's own tensors by name, as they were when `stored` gave these.

        A function of `stored` and of the shapes of this module's tensors only: their values may have been freed. A
        loaded domain calls it at every batch.
        """
        raise NotImplementedError

    def held(self, stored: dict[str, Tensor]) -> nn.Module | None:
        """A module that computes the same at inference and holds these tensors of `stored` in place of its own.

        None where they are unpacked for each batch instead, as here.
        """
        return None

    def may_store(self, name: str, shape: torch.Size) -> bool:
        """Whether `stored` may give a tensor of this name and shape after another training than this module's.

        For adapters whose size training decides; it is asked about shapes that differ from those of `stored`.
        """
        return False
