"""Classifies the names in a pickle as data, functions, or names that can run code, by the name alone.

Nothing is imported or called here in any case. A function next to the weights (`numpy.less`, a Namespace's `key=len`)
is only named; a file that calls one is refused. A constructor of data (a date, an array, pandas' DataFrame) is called
in the pickle of its object, whose content is not read. A name that can run code has no place next to weights, neither
named nor called.
"""

import re
import sys
from enum import Enum

SIZES = {  # bytes of an element
    **{"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "complex64": 8, "complex128": 16, "bool": 1},
    **{f"{sign}int{8 * size}": size for sign in ("", "u") for size in (1, 2, 4, 8)},
    **{f"float8_{kind}": 1 for kind in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")},
}


class Kind(Enum):
    """Permission of a name: data may be called, a function may only be named, code may be neither."""

    DATA = "data"
    FUNCTION = "function"
    CODE = "code"


_BUILTINS = (
    "int long float bool complex str unicode bytes bytearray list dict tuple slice range xrange type Ellipsis "
    "NotImplemented iter reversed enumerate zip"
)
_DATA = {  # module and what lies below it -> names that are data; "" is every name
    "argparse": "Namespace",
    "array": "array _array_reconstructor",
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "_codecs": "encode",  # bytes, as protocol 2 writes them
    "collections": "ChainMap UserDict UserList UserString",
    "_operator": "or_ itemgetter attrgetter",  # kept and never called
    "operator": "itemgetter attrgetter",
    "contextlib": "nullcontext",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "exceptions": "",  # of Python 2
    "fractions": "Fraction",
    "functools": "partial",  # kept and never called
    "ipaddress": "",
    "itertools": "",
    "logging": "Logger RootLogger getLogger",
    "pathlib": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
    "random": "Random",
    "re": "_compile",
    "time": "struct_time",
    "types": "SimpleNamespace GenericAlias NoneType",
    "typing": "",
    "uuid": "UUID SafeUUID",
    "zoneinfo": "ZoneInfo ZoneInfo._unpickle",
}
_TORCH_DATA = re.compile(
    rf"torch\|({'|'.join(SIZES)}|complex32|device|finfo|iinfo|q(u?int8|int32)|per_(tensor|channel)_affine"
    r"|strided|sparse_coo|sparse_csr|preserve_format|contiguous_format|channels_last(_3d)?)"
    r"|torch\._utils\|torch\.(preserve_format|contiguous_format|channels_last(_3d)?)"  # as protocol 4 writes them
    r"|torch\.serialization\|_get_layout|torch\.nn\.backends\.thnn\|_get_thnn_function_backend"  # of PyTorch 0.3
)
_NUMPY_DATA = re.compile(
    r"numpy\|(dtype|ndarray|matrix|recarray|void|object_|str_|bytes_|bool_?|longdouble|(u?int|float|complex|datetime"
    r"|timedelta)\d*_?)"
    r"|numpy\.(core|_core)\.multiarray\|(scalar|_reconstruct)|numpy\.(core|_core)\.numeric\|_frombuffer"
    r"|numpy\.(core|_core)\|_ufunc_reconstruct|numpy\.random\._pickle\|__(generator|bit_generator|randomstate)_ctor"
    r"|numpy\.random\.\w+\|__pyx_unpickle_SeedSequence|numpy\.ma\.core\|_mareconstruct"
)
_PACKAGES = re.compile(  # functions by which packages of data make their objects again
    r"pandas\.[\w.]+\|(_new_\w+|_unpickle_\w+|_\w+_unpickle)"
    r"|pyarrow\.lib\|(_re(store|construct)_\w+|type_for_alias|py_buffer|chunked_array|schema|field|scalar|list_|large_list"
    r"|struct|map_|dictionary|timestamp|time32|time64|duration|decimal128|decimal256|binary)"
    r"|dateutil\.[\w.]+\|tz\w+|pytz(\.\w+)?\|_(p|UTC)"
    r"|[\w.]+\|__pyx_unpickle_\w+"  # Cython's, of any package
)

_REACHED = {  # by these a dotted name leaves a module that is harmless itself
    *("os", "sys", "posix", "nt", "subprocess", "builtins", "__builtin__", "importlib", "ctypes", "shutil", "socket"),
    *("pty", "runpy", "pickle", "marshal"),
}
_CODE_MODULES = (_REACHED - {"builtins", "__builtin__"}) | {
    *("_ctypes", "_imp", "_pickle", "_posixsubprocess", "_socket", "asyncio", "bdb", "cPickle", "cProfile", "code"),
    *("codeop", "commands", "distutils", "imp", "multiprocessing", "pdb", "pkgutil", "popen2", "profile", "shelve"),
    *("timeit", "trace", "webbrowser", "zipimport"),
}
_CODE_BUILTINS = {
    *("eval", "exec", "execfile", "compile", "apply", "open", "file", "input", "raw_input", "breakpoint", "reload"),
    *("getattr", "setattr", "delattr", "globals", "locals", "vars", "exit", "quit", "help"),
}
_CODE_NAMES = {
    "builtins": _CODE_BUILTINS,
    "__builtin__": _CODE_BUILTINS,
    "io": {"open", "open_code", "FileIO"},
    "_io": {"open", "open_code", "FileIO"},
    "types": {"FunctionType", "LambdaType", "CodeType", "ModuleType"},
}
_CODE_FUNCTIONS = re.compile(  # of torch and numpy: they load code, or read and write files and memory
    r"(torch|numpy)\.([\w.]+\.)?((load|save|from(file|buffer))\w*|\w*import\w*)"
    r"|torch\.((hub|jit|package|utils\.cpp_extension)\.[\w.]+|cuda\.memory)|numpy\.(f2py|distutils)\.[\w.]+"
)
_STANDARD = sys.stdlib_module_names | {
    *("__builtin__", "commands", "copy_reg", "cPickle", "exceptions", "urllib2", "popen2", "distutils", "imp"),
}
_LONGEST = 200  # characters of a name


def kind_of(module: str, name: str) -> Kind:
    """The kind of the name `module.name`, by the conventions of its package."""
    top, *below = f"{module}.{name}".split(".")
    sane = all(part.isidentifier() and not (part.startswith("__") and part.endswith("__")) for part in below)
    if not sane or not top.isidentifier() or len(module) + len(name) > _LONGEST or _REACHED & set(below):
        return Kind.CODE
    a_class, where = _is_class(below[-1]), f"{module}|{name}"
    if top in _STANDARD:
        return _of_standard(top, module, name, a_class)
    if top in ("torch", "numpy"):
        if a_class or _TORCH_DATA.fullmatch(where) or _NUMPY_DATA.fullmatch(where):
            return Kind.DATA
        return Kind.CODE if _CODE_FUNCTIONS.fullmatch(f"{module}.{name}") else Kind.FUNCTION
    return Kind.DATA if a_class or _PACKAGES.fullmatch(where) else Kind.FUNCTION


def _of_standard(top: str, module: str, name: str, a_class: bool) -> Kind:
    """The kind of a name of the standard library: only known classes are data, since a constructor may do anything."""
    if top in _CODE_MODULES or name.split(".")[0] in _CODE_NAMES.get(module, ()):
        return Kind.CODE
    names = next((names for place, names in _DATA.items() if f"{module}.".startswith(f"{place}.")), None)
    an_exception = module in ("builtins", "__builtin__") and a_class
    known = names is not None and (not names or name in names.split())
    return Kind.DATA if known or an_exception else Kind.FUNCTION


def _is_class(name: str) -> bool:
    """Whether it is a class, by the convention of all packages: classes begin with a capital, functions do not."""
    return name.lstrip("_")[:1].isupper()
