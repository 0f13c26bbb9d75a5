"""Changes the class of modules for a while, so that they compute in another way."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from torch import nn


class SwappedClass:
    """Mixin for a subclass of `plain` that modules of class `plain` can be changed to and back. Copies are plain."""

    plain: ClassVar[type[nn.Module]]
    drops: ClassVar[tuple[str, ...]] = ()  # attributes that are left out of copies

    def __reduce_ex__(self, protocol):
        return object.__new__, (self.plain,), {k: v for k, v in self.__dict__.items() if k not in self.drops}


@contextmanager
def swap_class(modules: Iterable[nn.Module], kind: type[SwappedClass]) -> Iterator[None]:
    """Context in which the modules of class `kind.plain`, but of no subclass, are of class `kind`.

    A module that has this class already is left as it is, also at the end.
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
