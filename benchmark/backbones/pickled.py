"""Reads other people's PyTorch checkpoints without executing anything in them.

A pickle is a program. Here its instructions are listed by `pickletools`, which runs none of them, and a small
machine of our own follows the ones that a checkpoint needs: lists, dictionaries, numbers, strings. It imports
nothing and calls nothing by name: a class or function is only a name that it knows what to put in place of,
or refuses. So a module of a class that does not exist here is read as its saved state, and a name such as
`os.system` ends the reading. Python's own Unpickler with a `find_class` of ours would still trust the file with
memory (a memo index of 4 billion, a string of 8 EB), and this does not.

Read are the three things that are published: `torch.save` of a whole module (or of a dictionary with it under
`net`, as the residual adapters' authors did in 2018), `torch.save` of a state dict, and each in the legacy format
(one stream: magic number, version, machine, object, storages) or in the zip format of today. Formats:
https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
"""

import io
import math
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from datasets.errors import BadInput
from datasets.io import open_plain, read_plain
from datasets.zip_file import open_zip

if TYPE_CHECKING:
    import torch

LARGEST = 2**32  # bytes of a file of weights: several times a ResNet-152 with its optimiser's state
_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
_MOST_STEPS = 1_000_000  # instructions of a pickle, each below 300 bytes of memory; RA's ten tasks need some 250,000
_MOST_VISITS = 300_000  # modules, parameters and buffers of a network, shared ones counted at each place
_DEEPEST, _LONGEST_NAME, _MOST_DIMS, _LARGEST = 32, 128, 8, 2**40

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_INERT = {  # what stands beside the weights in a checkpoint: known, never imported, never looked into
    ("torch", "device"),
    ("torch.nn.backends.thnn", "_get_thnn_function_backend"),  # in each module of PyTorch 0.3
    ("torch.nn.parallel.data_parallel", "DataParallel"),
    ("torch.nn.parallel.distributed", "DistributedDataParallel"),
    ("numpy", "dtype"),  # RA's `acc` is a numpy scalar, that is dtype, scalar and (from Python 3) its bytes by encode
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
    *(("torch", dtype) for dtype in _STORAGES.values()),
}
_MODULE_PLACES = re.compile(r"torch\.nn\.modules\.[a-z_0-9]+|models(\.[A-Za-z_0-9]+)?")


class _Refused(Exception):
    """The rest of the sentence that begins with the file's name."""


@dataclass(slots=True)
class _Inert:
    """In place of an object whose class is never imported: the state it was saved with, and no behaviour."""

    state: Any = None


@dataclass(frozen=True, slots=True)
class _Storage:
    """A run of numbers in the file: `numel` of one dtype under `key`, of which a view sees `length` from `start`."""

    key: str
    dtype: str
    numel: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class _Described:
    """A tensor as the pickle describes it, its bounds checked; sizes and strides in elements, `offset` from 0."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that the pickle asked for and may have: `make(*args)` gives what stands in for calling it."""

    make: Callable[..., Any] | None = None
    dtype: str | None = None  # of a storage class


def _counts(*values: Any) -> bool:
    return all(type(value) is int and 0 <= value < _LARGEST for value in values)


def _describe(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Described:
    """Stands for `torch._utils._rebuild_tensor` and `_v2`; refuses what would reach beyond its storage."""
    shaped = type(storage) is _Storage and type(size) is tuple and type(stride) is tuple
    if not (shaped and len(size) == len(stride) <= _MOST_DIMS and _counts(offset, *size, *stride)):
        raise _Refused("describes a tensor that makes no sense: the file is damaged, get it again.")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if 0 not in size else offset - 1
    # More elements than the storage holds means overlap: a small file that unfolds to any size.
    if last >= storage.length or math.prod(size) > storage.length or math.prod(n or 1 for n in size) >= _LARGEST:
        raise _Refused(f"has a tensor of shape {size} that reaches beyond its own data: get the file again.")
    return _Described(storage, storage.start + offset, size, stride)


def _ordered(items: Any = (), *_: Any) -> dict:
    """Stands for `collections.OrderedDict`, whose items Python 2 gives as one list of pairs."""
    made: dict = {}
    for key, value in items:
        _put(made, key, value)
    return made


def _put(target: Any, key: Any, value: Any) -> None:
    """One item of a dictionary. Only keys whose hash is cheap and cannot be made to collide."""
    if type(target) is not dict or not (type(key) is str or (type(key) is int and abs(key) < 2**60)):
        raise _Refused("has a dictionary key that is neither a name nor a number: no checkpoint needs one.")
    target[key] = value


_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered,
    ("torch._utils", "_rebuild_tensor"): _describe,
    ("torch._utils", "_rebuild_tensor_v2"): _describe,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch.nn.parameter", "Parameter"): lambda data, *_: data,  # PyTorch 0.3
    ("torch", "Size"): lambda sizes=(): sizes,
    ("__builtin__", "set"): lambda members=(): members,
    ("builtins", "set"): lambda members=(): members,
}


def find_class(module: str, name: str) -> _Name:
    """What stands in for `module.name`; nothing is imported, and a name that is not listed is refused."""
    if type(module) is not str or type(name) is not str:
        raise _Refused("asks for a class whose name is no text: do not trust the file, get it from its authors.")
    where = (module, name)
    if where in _CALLS:
        return _Name(_CALLS[where])
    if module in ("torch", "torch.cuda") and name in _STORAGES:
        return _Name(dtype=_STORAGES[name])
    if where in _INERT or (_MODULE_PLACES.fullmatch(module) and name.isidentifier()):
        return _Name(lambda *_: _Inert())
    asked = f"{module}.{name}"[:80]
    raise _Refused(
        f"asks for {asked!a}, which weights have no need of: do not trust the file, get it from its authors."
    )


def _persistent(saved: Any, storages: dict[str, _Storage]) -> Any:
    """What the pickle keeps outside itself: a storage, or a class with its source text (which is not read)."""
    if type(saved) is tuple and len(saved) == 4 and saved[0] == "module":
        return saved[1]
    if type(saved) is not tuple or len(saved) not in (5, 6) or saved[0] != "storage":
        raise _Refused("refers to something that is no storage: the file is damaged, get it again.")
    _, kind, key, _, numel, view = (*saved, None)[:6]
    start, length = view[1:] if view else (0, numel)
    if type(kind) is not _Name or not kind.dtype or type(key) is not str or not _counts(numel, start, length):
        raise _Refused("describes a storage that makes no sense: the file is damaged, get it again.")
    whole = storages.setdefault(key, _Storage(key, kind.dtype, numel, 0, numel))
    if (whole.dtype, whole.numel) != (kind.dtype, numel) or start + length > numel:
        raise _Refused("describes one storage in two ways: the file is damaged, get it again.")
    return _Storage(key, kind.dtype, numel, start, length)


def _call(function: Any, arguments: Any, budget: list[int]) -> Any:
    if type(function) is not _Name or function.make is None or type(arguments) is not tuple:
        raise _Refused("calls what is no function: do not trust the file, get it from its authors.")
    if function.make is _ordered:  # the one call that copies: many copies of one long list would fill the memory
        budget[0] -= sum(len(items) for items in arguments)
        if budget[0] < 0:
            raise _Refused("unfolds to more than a checkpoint can hold: do not trust the file.")
    return function.make(*arguments)


def _build(target: Any, state: Any) -> None:
    """The state of an object: kept for a module, dropped where it can say nothing about weights."""
    if type(target) is _Inert:
        target.state = state
    elif type(target) not in (_Described, dict):  # a parameter's hooks, an OrderedDict's `_metadata`
        raise _Refused("sets the state of what has none: do not trust the file, get it from its authors.")


_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NEW = {"EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_DICT": dict}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OF_MARKED = {"TUPLE": tuple, "LIST": list, "FROZENSET": list}


def follow(stream: BinaryIO, storages: dict[str, _Storage]) -> Any:
    """Follows one pickle to its STOP, leaving `stream` behind it, and returns what it describes.

    Storages that it refers to are added to `storages`. Sets are read as lists, Python 2's strings as Latin-1.
    Raises `_Refused`, or whatever a damaged stream ends in (`_DAMAGE`).
    """
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[int, Any] = {}
    budget = [_MOST_VISITS]
    for step, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        if step > _MOST_STEPS:
            raise _Refused("has a longer pickle than any checkpoint: do not trust the file.")
        code = instruction.name
        if code in _LITERALS:
            stack.append(argument)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _NEW:
            stack.append(_NEW[code]())
        elif code in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[code])]
            stack.append(tuple(reversed(items)))
        elif code in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(memo) if code == "MEMOIZE" else argument
            if not 0 <= index <= _MOST_STEPS:
                raise _Refused("numbers its objects as no checkpoint does: do not trust the file.")
            memo[index] = stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif code == "MARK":
            marks.append(stack)
            stack = []
        elif code in _OF_MARKED:
            items, stack = stack, marks.pop()
            stack.append(_OF_MARKED[code](items))
        elif code in ("APPENDS", "ADDITEMS"):
            items, stack = stack, marks.pop()
            _extend(stack[-1], items)
        elif code == "APPEND":
            value = stack.pop()
            _extend(stack[-1], [value])
        elif code == "SETITEMS":
            items, stack = stack, marks.pop()
            for key, value in zip(items[::2], items[1::2], strict=True):
                _put(stack[-1], key, value)
        elif code == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _put(stack[-1], key, value)
        elif code in ("GLOBAL", "STACK_GLOBAL"):
            module, name = argument.split(" ", 1) if code == "GLOBAL" else (stack.pop(-2), stack.pop())
            stack.append(find_class(module, name))
        elif code in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments, budget))
        elif code == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        elif code == "BINPERSID":
            stack.append(_persistent(stack.pop(), storages))
        elif code == "POP_MARK":
            stack = marks.pop()
        elif code == "POP":
            stack.pop()
        elif code == "STOP":
            return stack.pop()
        elif code not in ("PROTO", "FRAME"):
            what = f"{code} {argument[:80]!a}" if code == "INST" else code
            raise _Refused(f"uses the pickle instruction {what}, which weights have no need of: do not trust the file.")
    raise EOFError


def _extend(target: Any, items: list[Any]) -> None:
    if type(target) is not list:
        raise _Refused("appends to what is no list: the file is damaged, get it again.")
    target.extend(items)


def _described(top: Any) -> dict[str, _Described]:
    """The tensors of a checkpoint's object under the names that `state_dict` would give them."""
    if type(top) is dict:
        inside = (top.get(key) for key in ("net", "state_dict", "model"))
        top = next((value for value in inside if type(value) in (_Inert, dict)), top)
    found = _of_module(top) if type(top) is _Inert else top
    if type(found) is not dict or not found:
        raise _Refused("holds no weights: give a checkpoint with a network or a state dict in it.")
    for name, value in found.items():
        if type(name) is not str or type(value) is not _Described:
            raise _Refused(f"has under {ascii(name)[:80]} something that is no tensor: give its state dict alone.")
    if all(name.startswith("module.") for name in found):  # DataParallel
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found


def _of_module(root: _Inert) -> dict[str, Any]:
    """Flat names over a tree of modules, in the order of `state_dict`. A module may stand at several places."""
    found: dict[str, Any] = {}
    waiting, visits = [("", root, 0)], 0
    while waiting:
        prefix, module, depth = waiting.pop()
        state = module.state if type(module) is _Inert else None
        if type(state) is not dict or type(children := state.get("_modules")) is not dict or depth > _DEEPEST:
            raise _Refused("holds something in place of a module, or modules without end: get the file again.")
        hidden = state.get("_non_persistent_buffers_set") or []
        parameters, buffers = state.get("_parameters"), state.get("_buffers")
        visits += 1 + len(hidden) + len(parameters) + len(buffers) + len(children)
        if visits > _MOST_VISITS:
            raise _Refused("unfolds to more modules than a network has: do not trust the file.")
        hidden = {name for name in hidden if type(name) is str}
        tensors = [*parameters.items(), *((key, value) for key, value in buffers.items() if key not in hidden)]
        for key in (*children, *parameters, *buffers):
            if type(key) is not str or len(key) > _LONGEST_NAME:
                raise _Refused("has a parameter whose name is no name: the file is damaged, get it again.")
        found.update((prefix + key, value) for key, value in tensors if value is not None)
        waiting += [
            (f"{prefix}{key}.", child, depth + 1) for key, child in reversed(children.items()) if child is not None
        ]
    return found


def _assemble(found: dict[str, _Described], data: Callable[[_Storage], bytearray]) -> "dict[str, torch.Tensor]":
    """Tensors on the CPU from their storages' bytes, each storage read once and shared where the file shares it."""
    import torch

    flat: dict[str, torch.Tensor] = {}
    tensors = {}
    for name, wanted in found.items():
        storage = wanted.storage
        if storage.key not in flat:
            dtype = getattr(torch, storage.dtype)
            # frombuffer refuses an empty buffer
            flat[storage.key] = (
                torch.frombuffer(data(storage), dtype=dtype) if storage.numel else torch.empty(0, dtype=dtype)
            )
        tensors[name] = torch.as_strided(flat[storage.key], wanted.size, wanted.stride, wanted.offset)
    return tensors


def _bytes_of(storage: _Storage) -> int:
    import torch

    return storage.numel * getattr(torch, storage.dtype).itemsize


def _little_endian(little: bool) -> None:
    if not little:
        raise _Refused("was written on a big-endian machine: save it again on a little-endian one.")


def _from_zip(path: Path) -> "dict[str, torch.Tensor]":
    left = path.stat().st_size  # what may still be read: entries that lie over one another cannot multiply
    with open_plain(path, LARGEST) as file, open_zip(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}

        def read(name: str, size: int | None = None) -> bytearray:
            nonlocal left
            entry = entries[name]
            if entry.compress_type != zipfile.ZIP_STORED:
                raise _Refused("is a compressed zip archive, not what torch.save writes: save it again.")
            left -= entry.file_size
            if left < 0 or size not in (None, entry.file_size):
                raise EOFError
            return bytearray(archive.read(entry))

        pickles = [name for name in entries if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
        if len(pickles) != 1:
            raise _Refused("is a zip archive, but not one that torch.save writes: give a checkpoint of PyTorch.")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in entries:
            _little_endian(read(f"{folder}byteorder") == b"little")
        found = _described(follow(io.BytesIO(read(pickles[0])), {}))
        return _assemble(found, lambda storage: read(f"{folder}data/{storage.key}", _bytes_of(storage)))


def _from_legacy(path: Path) -> "dict[str, torch.Tensor]":
    whole = read_plain(path, LARGEST)
    stream = io.BytesIO(whole)
    storages: dict[str, _Storage] = {}
    if follow(stream, {}) != _LEGACY_MAGIC:
        raise _Refused("is a pickle, but not one that torch.save writes: give a checkpoint of PyTorch.")
    if follow(stream, {}) != _LEGACY_VERSION:
        raise _Refused("is of an unknown version of PyTorch's legacy format: save it again with a newer PyTorch.")
    _little_endian(follow(stream, {})["little_endian"] is True)
    found = _described(follow(stream, storages))
    spans: dict[str, slice] = {}
    for key in follow(stream, {}):  # the data follow in this order: number of elements (int64), elements
        storage = storages[key] if type(key) is str else None
        (numel,) = struct.unpack("<q", stream.read(8))
        if storage is None or numel != storage.numel:
            raise EOFError
        start = stream.tell()
        stop = start + _bytes_of(storage)
        if stop > len(whole):
            raise EOFError
        spans[key] = slice(start, stop)
        stream.seek(stop)
    return _assemble(found, lambda storage: bytearray(memoryview(whole)[spans[storage.key]]))


# What reading bytes that are not what they should be can end in: short reads (struct, EOF), unknown instructions
# and bad text (ValueError), an empty stack or an unknown entry (LookupError), a number where a list should be
# (TypeError, AttributeError), zip's own errors (BadZipFile; RuntimeError for encryption and unknown versions).
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, EOFError, struct.error)
_ZIP_DAMAGE = (zipfile.BadZipFile, RuntimeError)


def read_pickled(path: Path) -> "dict[str, torch.Tensor]":
    """The weights of a PyTorch checkpoint by `state_dict` name, on the CPU; nothing in the file is executed.

    Whole modules and state dicts, bare or under `net`, `state_dict` or `model`; zip and legacy format. A
    `module.` before every name (DataParallel) is taken off. Raises BadInput for anything else.
    """
    try:
        with open_plain(path, LARGEST) as file:
            head = file.read(4)
        if head.startswith(b"PK"):
            return _from_zip(path)
        if head.startswith(b"\x80"):
            return _from_legacy(path)
        if not head:
            raise _Refused("is empty: get it again.")
        if len(head) == 4 and (1 <= int.from_bytes(head, "little") <= 8 or re.match(rb"[1-8]\n", head)):
            raise _Refused("is a file of Lua Torch7, not of PyTorch: give the PyTorch checkpoint.")
        raise _Refused("is no PyTorch checkpoint: give a file that torch.save wrote, or a safetensors file.")
    except _Refused as refusal:
        raise BadInput(f"{path} {refusal}") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}): check the path and its rights.") from None
    except MemoryError:
        raise BadInput(f"{path} needs more memory than there is: give a checkpoint of the weights alone.") from None
    except (*_DAMAGE, *_ZIP_DAMAGE):
        raise BadInput(f"{path} is cut off or damaged as a PyTorch checkpoint: get it again.") from None
