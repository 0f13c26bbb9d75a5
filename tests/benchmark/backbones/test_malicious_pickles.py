"""Nothing in a checkpoint is ever executed.

The malicious pickles here are written by hand or through `__reduce__`; each would leave a canary file if anything
of it ran, and `test_the_canaries_sing` shows that they do under Python's own unpickler.
"""

import os
import pickle
from pathlib import Path

import pytest
import torch

from tests.benchmark.backbones.torch_files import (
    Calls,
    everywhere,
    refused,
    tensor_pickle,
    text,
    zipped,
)
from visual_decathlon.benchmark.backbones.pickle_names import Refused, find_class
from visual_decathlon.benchmark.backbones.torch_checkpoint import read_pickled

Attacks = dict[str, tuple[bytes, str]]
"""Name -> (pickle, the name that the sentence must give)."""


def names_that_run_code(canary: Path) -> Attacks:
    """Names of functions that a pickle calls, or that no checkpoint needs."""
    touch = f"touch {canary}"
    shell = text(touch)
    code = f"open({str(canary)!r}, 'w').close()"
    return {
        "os.system": (pickle.dumps(Calls(os.system, touch), 2), f"'{os.name}.system'"),
        "os.system, protocol 4": (pickle.dumps(Calls(os.system, touch), 4), f"'{os.name}.system'"),
        "eval": (pickle.dumps(Calls(eval, code), 2), "'__builtin__.eval'"),
        "exec": (pickle.dumps(Calls(exec, code), 4), "'builtins.exec'"),
        "STACK_GLOBAL": (b"\x80\x04" + text("os") + text("system") + b"\x93" + shell + b"\x85R.", "'os.system'"),
        "STACK_GLOBAL of no text": (b"\x80\x04" + text("os") + b"K\x01\x93.", "whose name is no text"),
        "__main__": (b"\x80\x02c__main__\nNet\n)\x81.", "'__main__.Net'"),
        "GLOBAL with dots": (b"\x80\x04cmodels\nResNet.os.system\n" + shell + b"\x85R.", "models.ResNet.os.system"),
        "a function of a package": (b"\x80\x02ctrainer.tools\nrun\n" + shell + b"\x85R.", "'trainer.tools.run'"),
        "a function of torch that is only named": (b"\x80\x02ctorch.nn.functional\nrelu\n)R.", "functional.relu'"),
        "a numpy function": (b"\x80\x02cnumpy.testing\nrundocs\n" + text("x") + b"\x85R.", "'numpy.testing.rundocs'"),
        "operator": (b"\x80\x02c_operator\nmethodcaller\n" + text("x") + b"\x85R.", "'_operator.methodcaller'"),
        "an item of what is no type": (b"\x80\x02c_operator\ngetitem\n]K\x00\x86R.", "'_operator.getitem'"),
        "torch.load": (b"\x80\x02ctorch\nload\n" + text(str(canary)) + b"\x85R.", "'torch.load'"),
        "torch.hub": (b"\x80\x02ctorch.hub\nload\n" + text("x") + b"\x85R.", "'torch.hub.load'"),
        "numpy's loader": (b"\x80\x02cnumpy\nload\n" + text("x") + b"\x85R.", "'numpy.load'"),
        "a jit function": (b"\x80\x02ctorch.jit\nload\n" + text("x") + b"\x85R.", "'torch.jit.load'"),
        "getattr": (
            b"\x80\x02c__builtin__\ngetattr\ncmodels\nNet\n" + text("__init__") + b"\x86R.",
            "'__builtin__.getattr'",
        ),
        "an escape sequence in the name": (
            b"\x80\x04" + text("os\x1b[2J\n") + text("system") + b"\x93.",
            r"os\\x1b[2J\\n",
        ),
    }


def hidden_calls(canary: Path) -> Attacks:
    """Calls within containers, objects and partial functions."""
    touch = f"touch {canary}"
    shell = text(touch)
    inert = b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81"
    return {
        "in a module's state": (
            inert + b"}(" + text("_modules") + b"}" + text("x") + b"cos\nsystem\n" + shell + b"\x85Rub.",
            "'os.system'",
        ),
        "in a list in a dictionary": (pickle.dumps({"net": [1, [Calls(os.system, touch)]]}, 2), f"'{os.name}.system'"),
        "partial": (b"\x80\x02cfunctools\npartial\ncos\nsystem\n" + shell + b"\x86R)R.", "'os.system'"),
        "a partial that is called": (
            b"\x80\x02cfunctools\npartial\nc__main__\nrun\n" + shell + b"\x86R)R.",
            "calls something that is not a function",
        ),
        "in a Namespace": (
            b"\x80\x02cargparse\nNamespace\n)\x81}" + text("x") + b"cos\nsystem\n" + shell + b"\x85Rsb.",
            "'os.system'",
        ),
        "as the factory of a default": (b"\x80\x02ccollections\ndefaultdict\ncos\nsystem\n\x85R.", "'os.system'"),
    }


def detours(canary: Path) -> Attacks:
    """Names that are reached through a module or class that is harmless itself."""
    touch = f"touch {canary}"
    shell = text(touch)
    return {
        "through a package's own import": (
            b"\x80\x02c__builtin__\ngetattr\nctrainer\nTools\n" + text("os") + b"\x86R" + text("system") + b"\x86R.",
            "'trainer.Tools.os'",
        ),
        "odd torch._utils": (
            b"\x80\x02ctorch._utils\n_import_dotted_name\n" + text("os.system") + b"\x85R" + shell + b"\x85R.",
            "'torch._utils._import_dotted_name'",
        ),
        "a door in an allowed module": (
            b"\x80\x02ctorch._utils\nimportlib\n0cos\nsystem\n" + shell + b"\x85R.",
            "'torch._utils.importlib'",
        ),
        "dotted through an allowed module": (
            b"\x80\x04" + text("torch._utils") + text("importlib.import_module") + b"\x93" + text("os") + b"\x85R.",
            "'torch._utils.importlib.import_module'",
        ),
        "dotted through a module class": (
            b"\x80\x04" + text("torch.nn.modules.module") + text("Module.forward.__globals__") + b"\x93.",
            "Module.forward.__globals__",
        ),
    }


def instructions(canary: Path) -> Attacks:
    """Instructions of pickles other than GLOBAL and REDUCE that import or call."""
    touch = f"touch {canary}"
    shell = text(touch)
    return {
        "INST": (b"\x80\x02(" + shell + b"ios\nsystem\n.", "INST 'os system'"),
        "OBJ": (b"\x80\x02(cos\nsystem\n" + shell + b"o.", "'os.system'"),
        "OBJ of an allowed class": (b"\x80\x02(cmodels\nResNet\no.", "OBJ"),
        "NEWOBJ": (b"\x80\x02csubprocess\nPopen\n" + shell + b"\x85\x81.", "'subprocess.Popen'"),
        "NEWOBJ_EX": (
            b"\x80\x04csubprocess\nPopen\n" + shell + b"\x85}" + text("shell") + b"\x88s\x92.",
            "'subprocess.Popen'",
        ),
        "NEWOBJ_EX of an allowed class": (b"\x80\x04cmodels\nResNet\n)}\x92.", "NEWOBJ_EX"),
        "EXT1": (b"\x80\x02\x82\x01" + shell + b"\x85R.", "EXT1"),
        "EXT2": (b"\x80\x02\x83\x01\x00" + shell + b"\x85R.", "EXT2"),
        "EXT4": (b"\x80\x02\x84\x01\x00\x00\x00" + shell + b"\x85R.", "EXT4"),
        "PERSID": (b"\x80\x02Pstorage\n.", "PERSID"),
        "PERSID with a function": (
            b"\x80\x02P('module', <class 'os.system'>, 'x', 'y')\n" + shell + b"\x85R.",
            "'os.system'",
        ),
        "PERSID that calls": (b"\x80\x02P('storage', <class 'torch.load'>, '0', 'cpu', 4)\n.", "'torch.load'"),
    }


def objects_in_the_place_of_functions(canary: Path) -> Attacks:
    """Calls of objects and states set on what has none."""
    touch = f"touch {canary}"
    shell = text(touch)
    code = f"open({str(canary)!r}, 'w').close()"
    python = text(code)
    inert = b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81"
    return {
        "an object of a base that runs": (
            b"\x80\x02ccopy_reg\n_reconstructor\ncos\nsystem\n" + shell + b"N\x87R.",
            "'os.system'",
        ),
        "a call of an object that was made again": (
            b"\x80\x02ccopy_reg\n_reconstructor\nc__main__\nNet\nc__builtin__\nobject\nN\x87R" + shell + b"\x85R.",
            "calls something that is not a function",
        ),
        "the registry itself": (b"\x80\x02ccopyreg\nadd_extension\n)R.", "'copyreg.add_extension'"),
        "BUILD on a function": (b"\x80\x02ccollections\nOrderedDict\n}" + python + b"Nsb.", "sets the state"),
        "BUILD on a text": (b"\x80\x02" + python + b"}b.", "sets the state"),
        "a call of an instance": (
            inert + b"}" + text("__call__") + b"Nsb" + shell + b"\x85R.",
            "calls something that is not a function",
        ),
        "a call of a text": (
            b"\x80\x02" + text("os.system") + shell + b"\x85R.",
            "calls something that is not a function",
        ),
        "a call of a storage class": (
            b"\x80\x02ctorch\nFloatStorage\nK\x01\x85R.",
            "calls something that is not a function",
        ),
    }


def attacks(canary: Path) -> Attacks:
    """All of them; each runs `touch` or the like when really unpickled."""
    groups = (names_that_run_code, hidden_calls, detours, instructions, objects_in_the_place_of_functions)
    return {name: attack for group in groups for name, attack in group(canary).items()}


ATTACKS = list(attacks(Path("x")))


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_executed(tmp_path, name):
    canary = tmp_path / "canary"
    body, named = attacks(canary)[name]
    for path in everywhere(tmp_path, body):
        sentence = refused(path)
        assert named.replace("\\\\", "\\") in sentence, sentence
    assert not canary.exists()


@pytest.mark.parametrize("name", ["os.system", "os.system, protocol 4", "eval", "exec", "STACK_GLOBAL", "INST", "OBJ"])
def test_the_canaries_sing(tmp_path, name):
    """The control: Python's unpickler does run them, so the test above could have failed."""
    body, _ = attacks(tmp_path / "canary")[name]
    pickle.loads(body)
    assert (tmp_path / "canary").exists()


def test_setstate_and_hooks_of_placeholders_are_only_data(tmp_path):
    """A state that names dunder methods, hooks and `forward` changes nothing, and the weights are still read."""
    state = b"}(" + text("_parameters") + b"}" + text("w") + tensor_pickle(alone=True) + b"s" + text("_buffers") + b"}"
    state += (
        text("_modules") + b"}" + b"".join(text(n) + text("boom") for n in ("__setstate__", "__class__", "forward"))
    )
    body = b"\x80\x02cmodels\nNet\n" + text("argument") + b"\x85R" + state + b"ub."
    path = zipped(tmp_path / "x.pt", body, {"7": torch.arange(6.0).numpy().tobytes()})
    assert read_pickled(path)["w"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "_rebuild_device_tensor_from_numpy"),
        ("torch._utils", "_rebuild_wrapper_subclass"),
        ("torch", "save"),
        ("torch.cuda", "memory"),
        ("models\nos", "system"),
        ("models", ""),
        ("numpy", "frombuffer"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("__builtin__", "open"),
        ("io", "open"),
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "__import__"),
        ("subprocess", "Popen"),
        ("importlib.machinery", "SourceFileLoader"),
        ("code", "InteractiveInterpreter"),
        ("multiprocessing.context", "Process"),
        ("trainer", "os.system"),
        ("trainer.os", "Config"),
        ("trainer", "Config.__init__"),
        ("numpy.f2py", "compile"),
        ("commands", "getoutput"),
        ("types", "FunctionType"),
    ],
)
def test_names_that_are_not_listed(module, name):
    with pytest.raises(Refused):
        find_class(module, name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch.utils.data", "default_collate"),
        ("torch.nn.functional", "relu"),
        ("builtins", "object"),
        ("builtins", "len"),
        ("operator", "gt"),
        ("_operator", "methodcaller"),
        ("threading", "Thread"),
        ("tempfile", "mkdtemp"),
        ("copyreg", "add_extension"),
        ("numpy", "less"),
        ("pandas", "read_csv"),
        ("pyarrow.lib", "memory_map"),
        ("cloudpickle.cloudpickle", "_make_function"),
    ],
)
def test_functions_may_be_named_and_not_called(tmp_path, module, name):
    named = b"\x80\x02c" + f"{module}\n{name}\n".encode()
    body = named + b"0}" + text("w") + tensor_pickle(alone=True) + b"s."
    assert list(read_pickled(zipped(tmp_path / "x.pt", body, {"7": bytes(24)}))) == ["w"]
    for called in (b")R.", b"]\x85R."):
        for path in everywhere(tmp_path, named + called):
            refused(path, f"calls the function '{module}.{name}'")
