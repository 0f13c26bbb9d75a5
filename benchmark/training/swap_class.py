"""Modules that compute in another way for a while."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from torch import nn


class SwappedClass:
    """Mixin of a subclass that modules of the class `plain` are turned into and back. Copies of them are plain."""

    plain: ClassVar[type[nn.Module]]
    drops: ClassVar[tuple[str, ...]] = ()  # attributes that a copy does not have

    def __reduce_ex__(self, protocol):
        return object.__new__, (self.plain,), {k: v for k, v in self.__dict__.items() if k not in self.drops}


@contextmanager
def swap_class(modules: Iterable[nn.Module], kind: type[SwappedClass]) -> Iterator[None]:
    """Within, those of the modules that are of class `kind.plain`, and of no subclass, are of class `kind`.

    A module that is of that kind already is left to whoever made it so.
    """
    chosen = [module for module in modules if type(module) is kind.plain]
    for module in chosen:
        module.__class__ = kind
    try:
        yield
    finally:
        for module in chosen:
            module.__class__ = kind.plain
            for name in kind.drops:
                module.__dict__.pop(name, None)
