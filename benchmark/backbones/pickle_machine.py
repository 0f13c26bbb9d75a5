"""Follows the instructions of a pickle without executing anything.

A pickle is a program. Here `pickletools` lists its instructions and runs none of them, and a small machine follows the
instructions that a checkpoint needs: lists, dictionaries, numbers, strings. It imports nothing and calls nothing by
name: for a class or function it puts a substitute (`pickle_names`), or refuses the file. So a module of a class that
does not exist here is read as its saved state, and a name such as `os.system` ends the reading. Python's own Unpickler
with a different `find_class` would still let the file fill the memory (a memo index of 4 billion, a string of 8 EB).
"""

import pickletools
import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from visual_decathlon.benchmark.backbones.pickle_names import (
    Inert,
    Name,
    Refused,
    Storage,
    build,
    call,
    counts,
    find_class,
    put,
)
from visual_decathlon.benchmark.backbones.state_dicts import MOST_VISITS

_MOST_STEPS = 1_000_000  # instructions of a pickle, each below 300 bytes of memory; RA's ten tasks need 250,000

# Errors that damaged bytes can end in: short reads (struct, EOF), unknown instructions and bad text (ValueError), an
# empty stack or an unknown entry (LookupError), a number where a list should be (TypeError, AttributeError).
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, EOFError, struct.error)


def _persistent(saved: Any, storages: dict[str, Storage]) -> Any:
    """An object that the pickle keeps outside itself: a storage, or a class with its source text (not read)."""
    if type(saved) is tuple and len(saved) == 4 and saved[0] == "module":
        return saved[1]
    if type(saved) is not tuple or len(saved) not in (5, 6) or saved[0] != "storage":
        raise Refused("refers to something that is no storage: the file is damaged, get it again.")
    _, kind, key, _, numel, view = (*saved, None)[:6]
    start, length = view[1:] if view else (0, numel)
    if type(kind) is not Name or not kind.dtype or type(key) is not str or not counts(numel, start, length):
        raise Refused("describes a storage that makes no sense: the file is damaged, get it again.")
    whole = storages.setdefault(key, Storage(key, kind.dtype, numel, 0, numel))
    if (whole.dtype, whole.numel) != (kind.dtype, numel) or start + length > numel:
        raise Refused("describes one storage in two ways: the file is damaged, get it again.")
    return Storage(key, kind.dtype, numel, start, length)


_PERSISTENT = re.compile(  # as protocol 0 writes it: str() of the tuple
    r"\('(?:(module)', <class '([\w.]{1,200})'>, .*"
    r"|storage', <class 'torch\.((?:cuda\.|storage\.)?\w{1,40})'>, '(\w{1,40})', '[\w:]{1,20}', (\d{1,15})"
    r"(?:, (?:None|\('(\w{1,40})', (\d{1,15}), (\d{1,15})\)))?\))",
    re.DOTALL,  # a class's source text
)


def _persistent_of_text(text: str) -> tuple:
    """The argument of `_persistent`, from the text that protocol 0 uses as reference."""
    match = _PERSISTENT.fullmatch(text)
    if not match:
        raise Refused(f"refers to {text[:80]!a} (PERSID), which is no storage: do not trust the file.")
    module, of, kind, key, numel, *view = match.groups()
    place, _, name = (of or f"torch.{kind}").rpartition(".")
    if module:
        return ("module", find_class(place, name), None, None)
    seen = (view[0], int(view[1]), int(view[2])) if view[0] else None
    return ("storage", find_class(place, name), key, "cpu", int(numel), seen)


def _paired(items: list[Any]) -> dict:
    made: dict = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        put(made, key, value)
    return made


class _Machine:
    """The state of one pickle that is followed: stack, marks, memo and the storages it refers to."""

    def __init__(self, storages: dict[str, Storage]):
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages = storages
        self.budget = [MOST_VISITS]

    def marked(self) -> list[Any]:
        """Takes the items above the last mark off the stack, with the mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def push(self, argument: Any) -> None:
        """A number or a string."""
        self.stack.append(argument)

    def mark(self, _: Any) -> None:
        """MARK."""
        self.marks.append(self.stack)
        self.stack = []

    def pop(self, _: Any) -> None:
        """POP."""
        self.stack.pop()

    def pop_mark(self, _: Any) -> None:
        """POP_MARK."""
        self.stack = self.marks.pop()

    def remember(self, index: int) -> None:
        """PUT and the like: the top of the stack under an index of the memo."""
        if not 0 <= index <= _MOST_STEPS:
            raise Refused("numbers its objects as no checkpoint does: do not trust the file.")
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        """MEMOIZE."""
        self.remember(len(self.memo))

    def recall(self, index: int) -> None:
        """GET and the like."""
        self.stack.append(self.memo[index])

    def append(self, _: Any) -> None:
        """APPEND."""
        value = self.stack.pop()
        _extend(self.stack[-1], [value])

    def appends(self, _: Any) -> None:
        """APPENDS and ADDITEMS."""
        items = self.marked()
        _extend(self.stack[-1], items)

    def set_item(self, _: Any) -> None:
        """SETITEM."""
        value, key = self.stack.pop(), self.stack.pop()
        put(self.stack[-1], key, value)

    def set_items(self, _: Any) -> None:
        """SETITEMS."""
        items = self.marked()
        for key, value in zip(items[::2], items[1::2], strict=True):
            put(self.stack[-1], key, value)

    def find_global(self, names: str) -> None:
        """GLOBAL."""
        self.stack.append(find_class(*names.split(" ", 1)))

    def find_stack_global(self, _: Any) -> None:
        """STACK_GLOBAL."""
        module, name = self.stack.pop(-2), self.stack.pop()
        self.stack.append(find_class(module, name))

    def reduce(self, _: Any, new: bool = False) -> None:
        """REDUCE, and with `new` NEWOBJ."""
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(call(function, arguments, self.budget, new=new))

    def new_object(self, _: Any) -> None:
        """NEWOBJ."""
        self.reduce(None, new=True)

    def build(self, _: Any) -> None:
        """BUILD."""
        state = self.stack.pop()
        build(self.stack[-1], state)

    def persistent(self, _: Any) -> None:
        """BINPERSID."""
        self.stack.append(_persistent(self.stack.pop(), self.storages))

    def persistent_text(self, text: str) -> None:
        """PERSID."""
        self.stack.append(_persistent(_persistent_of_text(text), self.storages))


Instruction = Callable[[_Machine, Any], None]


def _constant(value: Any) -> Instruction:
    return lambda machine, _: machine.stack.append(value)


def _empty(kind: type) -> Instruction:
    return lambda machine, _: machine.stack.append(kind())


def _tuple_of(length: int) -> Instruction:
    def follow_it(machine: _Machine, _: Any) -> None:
        items = [machine.stack.pop() for _ in range(length)]
        machine.stack.append(tuple(reversed(items)))

    return follow_it


def _of_marked(kind: Callable[[list[Any]], Any]) -> Instruction:
    def follow_it(machine: _Machine, _: Any) -> None:
        items = machine.marked()
        machine.stack.append(kind(items))

    return follow_it


_LITERALS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_INSTRUCTIONS: dict[str, Instruction] = {
    **dict.fromkeys(_LITERALS, _Machine.push),
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), _Machine.appends),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "EMPTY_TUPLE": _constant(()),
    "EMPTY_LIST": _empty(list),
    "EMPTY_SET": _empty(list),
    "EMPTY_DICT": _empty(dict),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": _of_marked(tuple),
    "LIST": _of_marked(list),
    "FROZENSET": _of_marked(list),
    "DICT": _of_marked(_paired),
    "MEMOIZE": _Machine.memoize,
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "APPEND": _Machine.append,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.find_global,
    "STACK_GLOBAL": _Machine.find_stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
    "PERSID": _Machine.persistent_text,
}


def follow(stream: BinaryIO, storages: dict[str, Storage]) -> Any:
    """Follows one pickle to its STOP and returns the described object; `stream` is then behind the pickle.

    Adds the storages it refers to to `storages`. Sets are read as lists, Python 2's strings as Latin-1. Raises
    `Refused`, or one of `DAMAGE` for a damaged stream.
    """
    machine = _Machine(storages)
    for step, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        if step > _MOST_STEPS:
            raise Refused("has a longer pickle than any checkpoint: do not trust the file.")
        code = instruction.name
        if code == "STOP":
            return machine.stack.pop()
        if code not in _INSTRUCTIONS:
            shown = f"{code} {argument[:80]!a}" if code == "INST" else code
            raise Refused(f"uses the pickle instruction {shown}, which weights have no need of: do not trust the file.")
        _INSTRUCTIONS[code](machine, argument)
    raise EOFError


def _extend(target: Any, items: list[Any]) -> None:
    if type(target) is Inert:
        return  # a subclass of list or set, which holds no weights
    if type(target) is not list:
        raise Refused("appends to something that is not a list: the file is damaged, get it again.")
    target.extend(items)
