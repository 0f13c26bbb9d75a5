"""Reads other people's PyTorch checkpoints without executing anything in them.

A pickle is a program. Here its instructions are listed by `pickletools`, which runs none of them, and a small
machine of our own follows the ones that a checkpoint needs: lists, dictionaries, numbers, strings. It imports
nothing and calls nothing by name: a class or function is only a name that it knows what to put in place of,
or refuses. So a module of a class that does not exist here is read as its saved state, and a name such as
`os.system` ends the reading. Python's own Unpickler with a `find_class` of ours would still trust the file with
memory (a memo index of 4 billion, a string of 8 EB), and this does not.

Two formats: the zip archive of today, and the legacy one (one stream: magic number, version, machine, object,
storages): https://github.com/pytorch/pytorch/blob/main/torch/serialization.py. What names stand for is told in
`pickle_names`, where in the object the weights are in `torch_checkpoint`.
"""

import io
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from visual_decathlon.benchmark.backbones.known_names import SIZES
from visual_decathlon.benchmark.backbones.limits import LARGEST
from visual_decathlon.benchmark.backbones.pickle_names import (
    Described,
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
from visual_decathlon.benchmark.backbones.state_dicts import MOST_VISITS, StateDict, only, state_dicts
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import open_plain, read_plain
from visual_decathlon.datasets.zip_file import open_zip

if TYPE_CHECKING:
    import torch

Choose = Callable[[list[StateDict]], dict[str, Described]]
"""Of the state dicts of a file the tensors to read, under the names that they are to have."""

_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
LEGACY_HEADS = (b"\x80", b"L%dL\n" % _LEGACY_MAGIC)  # the second of protocols 0 and 1, which name no protocol
_MOST_STEPS = 1_000_000  # instructions of a pickle, each below 300 bytes of memory; RA's ten tasks need some 250,000


def _persistent(saved: Any, storages: dict[str, Storage]) -> Any:
    """What the pickle keeps outside itself: a storage, or a class with its source text (which is not read)."""
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
    """What `_persistent` takes, of the text by which protocol 0 refers to it."""
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


_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NEW = {"EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_DICT": dict}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OF_MARKED = {"TUPLE": tuple, "LIST": list, "FROZENSET": list, "DICT": _paired}


def follow(stream: BinaryIO, storages: dict[str, Storage]) -> Any:
    """Follows one pickle to its STOP, leaving `stream` behind it, and returns what it describes.

    Storages that it refers to are added to `storages`. Sets are read as lists, Python 2's strings as Latin-1.
    Raises `Refused`, or whatever a damaged stream ends in (`_DAMAGE`).
    """
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[int, Any] = {}
    budget = [MOST_VISITS]
    for step, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        if step > _MOST_STEPS:
            raise Refused("has a longer pickle than any checkpoint: do not trust the file.")
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
                raise Refused("numbers its objects as no checkpoint does: do not trust the file.")
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
                put(stack[-1], key, value)
        elif code == "SETITEM":
            value, key = stack.pop(), stack.pop()
            put(stack[-1], key, value)
        elif code in ("GLOBAL", "STACK_GLOBAL"):
            module, name = argument.split(" ", 1) if code == "GLOBAL" else (stack.pop(-2), stack.pop())
            stack.append(find_class(module, name))
        elif code in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(call(function, arguments, budget, new=code == "NEWOBJ"))
        elif code == "BUILD":
            state = stack.pop()
            build(stack[-1], state)
        elif code == "BINPERSID":
            stack.append(_persistent(stack.pop(), storages))
        elif code == "PERSID":
            stack.append(_persistent(_persistent_of_text(argument), storages))
        elif code == "POP_MARK":
            stack = marks.pop()
        elif code == "POP":
            stack.pop()
        elif code == "STOP":
            return stack.pop()
        elif code not in ("PROTO", "FRAME"):
            what = f"{code} {argument[:80]!a}" if code == "INST" else code
            raise Refused(f"uses the pickle instruction {what}, which weights have no need of: do not trust the file.")
    raise EOFError


def _extend(target: Any, items: list[Any]) -> None:
    if type(target) is Inert:
        return  # a subclass of list or set, which holds no weights
    if type(target) is not list:
        raise Refused("appends to what is no list: the file is damaged, get it again.")
    target.extend(items)


def _assemble(found: dict[str, Described], data: Callable[[Storage], bytearray]) -> "dict[str, torch.Tensor]":
    """Tensors on the CPU from their storages' bytes, each storage read once and shared where the file shares it."""
    import torch

    raw: dict[str, bytearray] = {}
    flat: dict[tuple[str, str], torch.Tensor] = {}
    tensors = {}
    for name, wanted in found.items():
        key = wanted.storage.key
        if (key, wanted.dtype) not in flat:
            if key not in raw:
                raw[key] = data(wanted.storage) if wanted.storage.numel else bytearray()
            dtype = getattr(torch, wanted.dtype)
            # frombuffer refuses an empty buffer
            made = torch.frombuffer(raw[key], dtype=dtype) if raw[key] else torch.empty(0, dtype=dtype)
            flat[key, wanted.dtype] = made
        tensors[name] = torch.as_strided(flat[key, wanted.dtype], wanted.size, wanted.stride, wanted.offset)
    return tensors


def _bytes_of(storage: Storage) -> int:
    return storage.numel * SIZES[storage.dtype]


def _little_endian(little: bool) -> None:
    if not little:
        raise Refused("was written on a big-endian machine: save it again on a little-endian one.")


def _from_zip(path: Path, choose: Choose) -> "dict[str, torch.Tensor]":
    left = path.stat().st_size  # what may still be read: entries that lie over one another cannot multiply
    with open_plain(path, LARGEST) as file, open_zip(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}

        def read(name: str, size: int | None = None) -> bytearray:
            nonlocal left
            entry = entries[name]
            if entry.compress_type != zipfile.ZIP_STORED:
                raise Refused("is a compressed zip archive, not what torch.save writes: save it again.")
            left -= entry.file_size
            if left < 0 or size not in (None, entry.file_size):
                raise EOFError
            return bytearray(archive.read(entry))

        pickles = [name for name in entries if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
        if len(pickles) != 1:
            raise Refused("is a zip archive, but not one that torch.save writes: give a checkpoint of PyTorch.")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in entries:
            raise Refused("is a TorchScript archive: load it by torch.jit.load, and torch.save its state_dict().")
        if f"{folder}byteorder" in entries:
            _little_endian(read(f"{folder}byteorder") == b"little")
        found = choose(state_dicts(follow(io.BytesIO(read(pickles[0])), {})))
        return _assemble(found, lambda storage: read(f"{folder}data/{storage.key}", _bytes_of(storage)))


def _from_legacy(path: Path, choose: Choose) -> "dict[str, torch.Tensor]":
    whole = read_plain(path, LARGEST)
    stream = io.BytesIO(whole)
    storages: dict[str, Storage] = {}
    if (top := follow(stream, {})) != _LEGACY_MAGIC:
        what = f" of {top.kind[:80]!a}" if type(top) is Inert else ""
        raise Refused(f"is a pickle{what}, but not one that torch.save writes: give a checkpoint of PyTorch.")
    if follow(stream, {}) != _LEGACY_VERSION:
        raise Refused("is of an unknown version of PyTorch's legacy format: save it again with a newer PyTorch.")
    _little_endian(follow(stream, {})["little_endian"] is True)
    found = choose(state_dicts(follow(stream, storages)))
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


_FOREIGN = {
    b"<": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS (`git lfs pull` fetches the file)",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x1f\x8b": "a gzip archive",
}


def read_pickled(path: Path, choose: Choose = only) -> "dict[str, torch.Tensor]":
    """The weights of a PyTorch checkpoint by `state_dict` name, on the CPU; nothing in the file is executed.

    Whole modules and state dicts, bare or in a dictionary; zip and legacy format. Without `choose` the plainest
    state dict is taken, less what wraps all of its names (`module.`). Raises InputError for anything else.
    """
    try:
        with open_plain(path, LARGEST) as file:
            head = file.read(32)
        if head.startswith(b"PK"):
            return _from_zip(path, choose)
        if head.startswith(LEGACY_HEADS):
            return _from_legacy(path, choose)
        if not head:
            raise Refused("is empty: get it again.")
        if len(head) >= 4 and (1 <= int.from_bytes(head[:4], "little") <= 8 or re.match(rb"[1-8]\n", head)):
            raise Refused("is a file of Lua Torch7, not of PyTorch: give the PyTorch checkpoint.")
        what = next((f" but {what}" for magic, what in _FOREIGN.items() if head.startswith(magic)), "")
        raise Refused(f"is no PyTorch checkpoint{what}: give a file that torch.save wrote, or a safetensors file.")
    except Refused as refusal:
        raise refusal.error(f"{path} {refusal}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): check the path and its rights.") from None
    except MemoryError:
        raise InputError(f"{path} needs more memory than there is: give a checkpoint of the weights alone.") from None
    except (*_DAMAGE, *_ZIP_DAMAGE):
        raise InputError(f"{path} is cut off or damaged as a PyTorch checkpoint: get it again.") from None
