"""Substitutes for the classes and functions that a pickle names: nothing is imported, and nothing is called.

There are three kinds of names (see `known_names`):

- the parts of a checkpoint (`_CALLS`, storages): tensors, parameters, dictionaries. They are understood.
- data next to the weights: an `argparse.Namespace`, a path, a date, a DataFrame, an optimiser, a configuration or
  network class of any package. The substitute is an `Inert` with the saved state and without behaviour.
- functions: they may be named (`functional.relu`, a Namespace's `func=main`). A file that calls one is refused, and so
  is a file that only names one that can run code (`os.system`, `builtins.eval`, `subprocess.Popen`, `torch.load`).

The refusals are not needed for safety here, since nothing runs in any case; they warn whoever opens the file elsewhere.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from visual_decathlon.benchmark.backbones.known_names import SIZES, Kind, kind_of
from visual_decathlon.datasets.errors import InputError

_MOST_DIMS, _MOST_ELEMENTS = 8, 2**40  # of a tensor

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
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",  # of `_rebuild_tensor_v3`, in bytes
    "QInt8Storage": "int8",  # of quantised tensors, which are known and not read
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
}


class Refused(Exception):
    """The rest of a sentence that begins with the file's name; `error` is raised with the whole sentence."""

    error: type[InputError] = InputError


@dataclass(slots=True)
class Inert:
    """Substitute for an object whose class is never imported: its saved state, without behaviour."""

    kind: str  # the class's name
    state: Any = None
    items: dict | None = None  # of a subclass of dict

    @property
    def is_module(self) -> bool:
        """Whether it was an nn.Module, by its saved state."""
        return type(self.state) is dict and type(self.state.get("_modules")) is dict


@dataclass(frozen=True, slots=True)
class Storage:
    """A sequence of numbers in the file: `numel` of one dtype under `key`; a view has `length` of them from `start`."""

    key: str
    dtype: str
    numel: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor as the pickle describes it, its bounds checked; sizes and strides in elements, `offset` from 0."""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A tensor of a kind that is known but not read, and how to save it instead."""

    fault: str


@dataclass(frozen=True, slots=True)
class Name:
    """An allowed name of a pickle: `make(*args)` gives the substitute for the result of a call."""

    module: str
    name: str
    make: Callable[..., Any]
    dtype: str | None = None  # of a storage class
    runs: bool = False  # a function: it may be named but not called


# --- tensors ----------------------------------------------------------------------------------------------------


def counts(*values: Any) -> bool:
    """Whether all values are whole numbers from 0 to below the largest size of a tensor."""
    return all(type(value) is int and 0 <= value < _MOST_ELEMENTS for value in values)


def _describe(storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> Described:
    """Replaces `torch._utils._rebuild_tensor` and `_v2` (more: requires_grad, hooks, metadata)."""
    if type(storage) is not Storage:
        raise Refused("describes a tensor that makes no sense: the file is damaged, get it again.")
    return _bounded(storage, storage.dtype, storage.start, storage.length, offset, size, stride, more[2:])


def _describe_v3(storage: Any, offset: Any, size: Any, stride: Any, _: Any, __: Any, dtype: Any, *more: Any):
    """Replaces `torch._utils._rebuild_tensor_v3`: with a storage in bytes, for dtypes without their own storage."""
    kind = dtype.name if type(dtype) is Name and dtype.module == "torch" else ""
    each = SIZES.get(kind, 0)
    if type(storage) is not Storage or not each or storage.dtype != "uint8" or storage.start % each:
        raise Refused("describes a tensor that makes no sense: the file is damaged, get it again.")
    return _bounded(storage, kind, storage.start // each, storage.length // each, offset, size, stride, more)


def _bounded(
    storage: Storage, dtype: str, start: int, length: int, offset: Any, size: Any, stride: Any, about: tuple
) -> Described:
    """The tensor; refuses one that reaches beyond its storage of `length` elements from `start` on."""
    shaped = type(size) is tuple and type(stride) is tuple
    if not (shaped and len(size) == len(stride) <= _MOST_DIMS and counts(offset, *size, *stride)):
        raise Refused("describes a tensor that makes no sense: the file is damaged, get it again.")
    if any(type(each) is dict and (each.get("conj") or each.get("neg")) for each in about):
        raise Refused("has a tensor with a pending conjugation or sign: save its resolve_conj().resolve_neg().")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if 0 not in size else offset - 1
    # More elements than the storage holds means overlap: a small file that unfolds to any size.
    if last >= length or math.prod(size) > length or math.prod(n or 1 for n in size) >= _MOST_ELEMENTS:
        raise Refused(f"has a tensor of shape {size} that reaches beyond its own data: get the file again.")
    return Described(storage, dtype, start + offset, size, stride)


def _of_type(make: Any, _: Any, arguments: Any, *__: Any) -> Any:
    """Replaces `torch._tensor._rebuild_from_type_v2`: a tensor with attributes, which are left out."""
    if type(make) is not Name or make.make not in _TENSORS or type(arguments) is not tuple:
        raise Refused("describes a tensor that makes no sense: the file is damaged, get it again.")
    return make.make(*arguments)


def _data(data: Any, *_: Any) -> Any:
    return data


def _unreadable(fault: str) -> Callable[..., Unreadable]:
    return lambda *_: Unreadable(fault)


# --- containers and objects -------------------------------------------------------------------------------------


def ordered(items: Any = (), *_: Any) -> dict:
    """Replaces `collections.OrderedDict`, whose items Python 2 gives as one list of pairs."""
    made: dict = {}
    for key, value in items:
        put(made, key, value)
    return made


class _Opaque:
    """Substitute for a dictionary key that is no name: never equal to another, so its hash is cheap."""


def put(target: Any, key: Any, value: Any) -> None:
    """Puts one item into a dictionary. Only keys whose hash is cheap and cannot be made to collide are allowed."""
    if type(target) is Inert:
        target.items = target = target.items if target.items is not None else {}
    if type(key) in (float, bool, bytes, type(None), Name, Inert, Described, Unreadable) or _plain_tuple(key):
        key = _Opaque()
    if type(target) is not dict or not (type(key) in (str, _Opaque) or (type(key) is int and abs(key) < 2**60)):
        raise Refused("has a dictionary key that is neither a name nor a number: no checkpoint needs one.")
    target[key] = value


def _plain_tuple(key: Any) -> bool:
    return type(key) is tuple and len(key) <= 8 and all(type(part) in (str, int, float, bool) for part in key)


def _attribute(of: Any, name: Any = None, *_: Any) -> Any:
    """Replaces `getattr`: a class within a class, or a method of an object, which is only kept."""
    if type(name) is str and name.isidentifier() and not name.startswith("__"):
        if type(of) is Name and not of.runs:
            return find_class(of.module, f"{of.name}.{name}")
        if type(of) is Inert:
            return Inert(f"{of.kind}.{name}")
    raise Refused("calls '__builtin__.getattr', which weights have no need of: do not trust the file.")


def _item(of: Any, *_: Any) -> Inert:
    """Replaces `operator.getitem`, by which types such as `Optional[int]` are saved."""
    if (type(of) is Name and of.module == "typing") or type(of) is Inert:
        return Inert("typing")
    raise Refused("calls '_operator.getitem', which weights have no need of: do not trust the file.")


def _reduced(function: Any = None, *_: Any) -> Inert:
    """Replaces `functools.reduce`, by which types such as `int | None` are saved."""
    if type(function) is Name and function.name == "or_":
        return Inert("types.UnionType")
    raise Refused("calls 'functools.reduce', which weights have no need of: do not trust the file.")


def _reconstructed(of: Any, _: Any = None, state: Any = None, *__: Any) -> Inert:
    """Replaces `copyreg._reconstructor`, by which protocols 0 and 1 make an object: `state` is a dict subclass's."""
    if type(of) is not Name or of.dtype:
        _refuse_call()
    return Inert(f"{of.module}.{of.name}", items=state if type(state) is dict else None)


_TENSORS = (_describe, _describe_v3, _data)
_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): ordered,
    ("collections", "defaultdict"): lambda *_: {},
    ("collections", "Counter"): lambda counted=None, *_: counted if type(counted) is dict else {},
    ("collections", "deque"): lambda *_: [],
    ("torch._utils", "_rebuild_tensor"): _describe,
    ("torch._utils", "_rebuild_tensor_v2"): _describe,
    ("torch._utils", "_rebuild_tensor_v3"): _describe_v3,
    ("torch._utils", "_rebuild_parameter"): _data,
    ("torch._utils", "_rebuild_parameter_with_state"): _data,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _data,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
    ("torch.nn.parameter", "Parameter"): _data,  # PyTorch 0.3
    ("torch._dynamo.eval_frame", "OptimizedModule"): _data,  # made of the module that was compiled
    ("torch._utils", "_rebuild_qtensor"): _unreadable("a quantised tensor: save its dequantize()"),
    ("torch._utils", "_rebuild_sparse_tensor"): _unreadable("a sparse tensor: save its to_dense()"),
    ("torch._utils", "_rebuild_nested_tensor"): _unreadable("a nested tensor: save its parts"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _unreadable("a tensor without data (device meta): save one"),
    ("torch", "Size"): lambda sizes=(): sizes,
    ("__builtin__", "set"): lambda members=(): members,
    ("builtins", "set"): lambda members=(): members,
    ("__builtin__", "frozenset"): lambda members=(): members,
    ("builtins", "frozenset"): lambda members=(): members,
    ("__builtin__", "getattr"): _attribute,
    ("builtins", "getattr"): _attribute,
    ("_operator", "getitem"): _item,
    ("operator", "getitem"): _item,
    ("__builtin__", "reduce"): _reduced,
    ("copy_reg", "_reconstructor"): _reconstructed,
    ("copyreg", "_reconstructor"): _reconstructed,
    ("functools", "reduce"): _reduced,
    ("_functools", "reduce"): _reduced,
}


# --- names and calls -------------------------------------------------------------------------------------------


def find_class(module: Any, name: Any) -> Name:
    """The substitute for `module.name`; nothing is imported. Raises `Refused` for a name that can run code."""
    if type(module) is not str or type(name) is not str:
        raise Refused("asks for a class whose name is no text: do not trust the file, get it from its authors.")
    if made := _CALLS.get((module, name)):
        return Name(module, name, made)
    if module in ("torch", "torch.cuda", "torch.storage") and name in _STORAGES:
        return Name(module, name, _refuse_call, dtype=_STORAGES[name])
    asked, kind = f"{module}.{name}", kind_of(module, name)
    if module == "torch._utils" and name.startswith("_rebuild_"):
        raise Refused(f"has a tensor of a kind that is not read here ({asked[:80]!a}): save plain, dense tensors.")
    if kind is Kind.CODE:
        raise _unneeded(module, name)
    return Name(module, name, lambda *_: Inert(asked), runs=kind is Kind.FUNCTION)


def _unneeded(module: str, name: str) -> Refused:
    asked = f"{module}.{name}"[:80]
    return Refused(
        f"asks for {asked!a}, which weights have no need of: do not trust the file, get it from its authors."
    )


def _refuse_call(*_: Any) -> None:
    raise Refused("calls something that is not a function: do not trust the file, get it from its authors.")


def call(function: Any, arguments: Any, budget: list[int], new: bool = False) -> Any:
    """The substitute for `function(*arguments)`; with `new` for a new object of a class, which runs nothing either.

    `budget` is the number of items that may still be copied. Raises `Refused` for an unknown function.
    """
    if type(function) is not Name or type(arguments) is not tuple:
        _refuse_call()
    if function.runs and not new:
        called = f"{function.module}.{function.name}"[:80]
        raise Refused(
            f"calls the function {called!a}, which weights have no need of: do not trust the file, "
            "get it from its authors, or save the state dict alone."
        )
    if function.make is ordered:  # the one call that copies: many copies of one long list would fill the memory
        budget[0] -= sum(len(items) for items in arguments)
        if budget[0] < 0:
            raise Refused("unfolds to more than a checkpoint can hold: do not trust the file.")
    return function.make(*arguments)


def build(target: Any, state: Any) -> None:
    """Sets the state of an object: kept for an `Inert`, dropped where it has no information about weights."""
    if type(target) is Inert:
        target.state = state
    elif type(target) not in (Described, Unreadable, dict, list):  # hooks, `_metadata`, attributes of a dict
        raise Refused("sets the state of what has none: do not trust the file, get it from its authors.")
