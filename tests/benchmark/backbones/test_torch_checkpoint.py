"""Weights from outside: read bit for bit, in every published format, and nothing in the file is ever executed.

The malicious pickles here are written by hand or through `__reduce__`; each would leave a canary file if anything
of it ran, and `test_the_canaries_sing` shows that they do under Python's own unpickler.
"""

import collections
import io
import math
import os
import pickle
import random
import struct
import sys
import tracemalloc
import types
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from visual_decathlon.benchmark.backbones.pickle_names import Refused, find_class
from visual_decathlon.benchmark.backbones.reference_names import from_reference, mode, tasks, to_reference, width
from visual_decathlon.benchmark.backbones.torch_checkpoint import read_pickled
from visual_decathlon.benchmark.backbones.weights import read_weights
from visual_decathlon.datasets.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")

SHARED = Path(__file__).parents[4] / "shared"
LEGACY_HEAD = b"".join(
    pickle.dumps(part, 2)
    for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
)


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"../shared/{name} is not here")
    return path


def golden(kind: str) -> dict[str, torch.Tensor]:
    tensors, _ = read_weights(shared(f"golden/golden_{kind}.safetensors"))
    return {name.removeprefix("weights/"): value for name, value in tensors.items() if name.startswith("weights/")}


def same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert list(got) == list(wanted)
    for name, value in wanted.items():
        assert got[name].dtype == value.dtype and got[name].shape == value.shape, name
        assert got[name].contiguous().numpy().tobytes() == value.detach().contiguous().numpy().tobytes(), name


class conv_task(nn.Module):  # RA's name
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.bns = nn.ModuleList([nn.BatchNorm2d(4) for _ in range(2)])


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.pre_layers_conv = conv_task()
        self.layer1 = nn.Sequential(nn.ReLU(True), conv_task())
        self.linears = nn.ModuleList([nn.Linear(4, 5), nn.Linear(4, 2)])
        self.again = self.linears[1]
        self.nothing = None
        self.register_parameter("absent", None)
        self.register_buffer("kept", torch.arange(6).reshape(2, 3).t())
        self.register_buffer("hidden", torch.zeros(2), persistent=False)


conv_task.__module__ = ResNet.__module__ = "models"


def bring_models() -> None:
    """Makes the module `models` that pickling looks the classes up in; `saved` takes it away."""
    sys.modules["models"] = types.ModuleType("models")
    sys.modules["models"].__dict__.update(conv_task=conv_task, ResNet=ResNet)


@pytest.fixture
def network():
    bring_models()
    yield ResNet()
    sys.modules.pop("models", None)


def saved(path: Path, thing: object, legacy: bool, **how: object) -> Path:
    torch.save(thing, path, _use_new_zipfile_serialization=not legacy, **how)
    sys.modules.pop("models", None)  # from here on the classes do not exist
    return path


# --- what is read -----------------------------------------------------------------------------------------------


def test_the_published_format_gives_the_golden_weights():
    weights, metadata = read_weights(shared("golden/ra_checkpoint_bn.pt"))
    expected = golden("bn")
    assert metadata == {} and len(weights) == 289
    same({name: weights[name] for name in expected}, expected)
    assert set(weights) == set(expected)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_module_of_a_class_that_is_gone(tmp_path, network, legacy, protocol):
    expected = network.state_dict()
    path = saved(
        tmp_path / "ckpt.t7", {"net": network, "acc": 7.5, "epoch": 3, "when": "2018"}, legacy, pickle_protocol=protocol
    )
    weights = read_pickled(path)
    same(weights, expected)
    assert "hidden" not in weights and "absent" not in weights
    assert weights["again.weight"].data_ptr() == weights["linears.1.weight"].data_ptr(), "shared stays shared"
    weights["kept"] += 1  # the memory is ours, and writable


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_state_dicts_and_data_parallel(tmp_path, network, legacy):
    expected = network.state_dict()
    parallel = nn.DataParallel(network)
    for thing in (expected, parallel.state_dict(), parallel, {"state_dict": expected, "epoch": 1}, network):
        bring_models()
        same(read_pickled(saved(tmp_path / "x.pth", thing, legacy)), expected)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_every_dtype_and_view(tmp_path, legacy):
    whole = torch.randn(4, 5, 6)
    dtypes = (torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    state = {
        "whole": whole,
        "part": whole[1:3, :, 2],
        "turned": whole.permute(2, 0, 1),
        "one": whole[3, 4, 5],
        "none": torch.empty(0),
        "scalar": torch.tensor(3),
        **{str(dtype): (torch.randn(7) * 9).to(dtype) for dtype in dtypes},
    }
    same(read_pickled(saved(tmp_path / "x.pt", state, legacy)), state)
    bfloat = {"b": torch.randn(5).bfloat16()}
    assert torch.equal(read_pickled(saved(tmp_path / "x.pt", bfloat, legacy))["b"], bfloat["b"])


class OldPickler(pickle._Pickler):
    """Writes tensors, parameters and modules as PyTorch 0.3 did, and strings as Python 2."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_old_text(self, text):
        raw = text.encode("latin1")
        self.write(b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)))
        self.write(raw)

    dispatch[str] = save_old_text

    def save_old_ordered(self, ordered):  # Python 2: OrderedDict([[key, value], ...])
        items = [[key, value] for key, value in ordered.items()]
        self.save_reduce(collections.OrderedDict, (items,), obj=ordered)

    dispatch[collections.OrderedDict] = save_old_ordered

    def reducer_override(self, thing):
        if type(thing) is nn.Parameter:
            return nn.Parameter, (thing.data,), (thing.requires_grad, False, collections.OrderedDict())
        if type(thing) is torch.Tensor:
            storage = thing._typed_storage()
            return torch._utils._rebuild_tensor, (storage, thing.storage_offset(), tuple(thing.size()), thing.stride())
        return NotImplemented


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_as_pytorch_03_under_python_2_wrote_it(tmp_path, network):
    """RA's own: CUDA storages, `_backend` in every module, no `num_batches_tracked`, `acc` a numpy scalar."""
    numpy = pytest.importorskip("numpy")
    backend = types.ModuleType("torch.nn.backends.thnn")
    backend._get_thnn_function_backend = types.FunctionType(bring_models.__code__, {}, "_get_thnn_function_backend")
    backend._get_thnn_function_backend.__qualname__ = "_get_thnn_function_backend"
    backend._get_thnn_function_backend.__module__ = backend.__name__

    for module in network.modules():
        module.__dict__["_backend"] = Calls(backend._get_thnn_function_backend)
        module._buffers.pop("num_batches_tracked", None)
        module._buffers = collections.OrderedDict(module._buffers)
        module._modules = collections.OrderedDict(module._modules)
    del network._buffers["hidden"]
    expected = network.state_dict()
    storages: dict[str, torch.Tensor] = {}
    classes = set()

    class Pickler(OldPickler):
        def persistent_id(self, thing):
            if isinstance(thing, torch.storage.TypedStorage):
                key = str(thing._cdata)
                storages[key] = thing
                return ("storage", getattr(torch.cuda, thing.pickle_storage_type()), key, "cuda:0", thing.size(), None)
            if isinstance(thing, type) and issubclass(thing, nn.Module) and thing not in classes:
                classes.add(thing)
                return ("module", thing, "models.py", "class source: pass")
            return None

    sys.modules[backend.__name__] = backend
    sys.modules["torch.nn.backends"] = types.ModuleType("torch.nn.backends")
    try:
        out = io.BytesIO()
        Pickler(out, 2).dump({"net": network, "acc": numpy.float64(38.0), "epoch": 119})
    finally:
        del sys.modules[backend.__name__], sys.modules["torch.nn.backends"], sys.modules["models"]
    body = out.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")  # as it was called before numpy 2
    assert b"torch.cuda\nFloatStorage" in body and b"cnumpy.core.multiarray\nscalar" in body and b"thnn" in body
    assert b"_rebuild_tensor\n" in body and b"U\x03net" in body
    data = b"".join(struct.pack("<q", s.size()) + bytes(s._untyped_storage.tolist()) for s in storages.values())
    path = tmp_path / "resnet26.t7"
    path.write_bytes(LEGACY_HEAD + body + pickle.dumps(list(storages), 2) + data)
    same(read_pickled(path), expected)


def test_legacy_views_of_one_storage(tmp_path):
    """`view_metadata`: a storage that is a part of another; the offset counts from the part's beginning."""
    data = torch.arange(10, dtype=torch.float32)
    path = tmp_path / "views.t7"
    tail = pickle.dumps(["7"], 2) + struct.pack("<q", 10) + data.numpy().tobytes()
    path.write_bytes(LEGACY_HEAD + tensor_pickle(numel=10, view=("8", 4, 5), offset=1, size=(2, 2)) + tail)
    assert read_pickled(path)["w"].tolist() == [[5.0, 6.0], [7.0, 8.0]]
    path.write_bytes(LEGACY_HEAD + tensor_pickle(numel=10, view=("8", 4, 7), offset=1, size=(2, 2)) + tail)
    refused(path, "describes one storage in two ways")


def test_safetensors_by_content_with_metadata(tmp_path):
    state = {"a": torch.randn(3, 2)}
    save_file(state, tmp_path / "a.t7", {"width": "0.5"})
    tensors, metadata = read_weights(tmp_path / "a.t7")
    same(tensors, state)
    assert metadata == {"width": "0.5"}
    same(read_weights(saved(tmp_path / "b.safetensors", state, True))[0], state)
    whole = (tmp_path / "a.t7").read_bytes()
    for length in range(9, len(whole)):
        (tmp_path / "half").write_bytes(whole[:length])
        with pytest.raises(InputError, match="half is cut off or damaged as a safetensors file"):
            read_weights(tmp_path / "half")


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bn", "series", "parallel"])
def test_names_of_the_golden_networks(kind):
    state = golden(kind)
    assert (mode(state), tasks(state), width(state)) == (kind, 2, 0.25)
    for task in (0, 1):
        ours = from_reference(state, task)
        assert mode(ours) == kind and width(ours) == 0.25
        back = to_reference(ours)
        assert len(back) == len(ours) and tasks(back) == 1
        at_home = {name for name in state if name.startswith("layer") and ".conv.weight" in name and "bns" not in name}
        assert at_home - set(back) == (
            {n for n in at_home if ".parallel_conv.1." in n} if kind == "parallel" else set()
        )
        assert back["linears.0.weight"] is state[f"linears.{task}.weight"]
        assert back["layer3.1.conv2.1.conv.weight"] is state["layer3.1.conv2.1.conv.weight"]
        assert back["end_bns.0.0.running_var"] is state[f"end_bns.{task}.0.running_var"]
        same(from_reference(back), ours)
    with pytest.raises(InputError, match=r"net\.t7: has no task 2"):
        from_reference(state, 2, "net.t7")


def test_where_each_name_goes():
    """Spelled out, so that a slip in the table that both ways share is seen."""
    series, parallel, bn = golden("series"), golden("parallel"), golden("bn")
    got = from_reference(series, 1)
    assert got["body.stages.1.2.unit2.conv.conv.weight"] is series["layer2.2.conv2.1.conv.weight"]
    assert got["body.stages.1.2.unit2.conv.norm.bias"] is series["layer2.2.conv2.1.bns.1.0.conv.0.bias"]
    assert got["body.stages.1.2.unit2.conv.mix.weight"] is series["layer2.2.conv2.1.bns.1.0.conv.1.weight"]
    assert got["body.stages.1.2.unit2.bn.weight"] is series["layer2.2.conv2.1.bns.1.1.weight"]
    got = from_reference(parallel, 1)
    assert got["body.stem.conv.conv.weight"] is parallel["pre_layers_conv.conv.weight"]
    assert got["body.stem.conv.side.weight"] is parallel["pre_layers_conv.parallel_conv.1.conv.weight"]
    assert got["body.stem.bn.running_mean"] is parallel["pre_layers_conv.bns.1.running_mean"]
    got = from_reference(bn, 0)
    assert got["body.stages.2.3.unit1.conv.weight"] is bn["layer3.3.conv1.conv.weight"]
    assert got["body.stages.0.0.unit1.bn.num_batches_tracked"] is bn["layer1.0.conv1.bns.0.num_batches_tracked"]
    assert got["body.norm.weight"] is bn["end_bns.0.0.weight"] and got["head.bias"] is bn["linears.0.bias"]


@pytest.mark.parametrize("kind", ["bn", "series"])
def test_names_of_the_shared_backbones(kind):
    state, metadata = read_weights(shared(f"backbone/resnet26_w0.5_{kind}.safetensors"))
    assert mode(state) == kind and width(state) == 0.5 == float(metadata["width"])
    back = to_reference(from_reference(state))
    assert set(back) == set(state) and all(back[name] is state[name] for name in state)


def test_wrong_names_and_shapes():
    state = golden("series")
    for change, match in (
        (lambda s: s.pop("layer2.1.conv1.bns.1.1.bias"), r"f\.t7: 'layer2.1.conv1.bns.1.1.bias' is missing"),
        (lambda s: s.update(extra=s["linears.0.bias"]), r"'extra' is not part of"),
        (
            lambda s: s.update({"layer4.0.conv1.conv.weight": s["linears.0.bias"], "y": 0}),
            r"and 1 more are not part of",
        ),
        (lambda s: s.pop("linears.0.weight"), r"heads linears\.0"),
        (lambda s: s.pop("pre_layers_conv.bns.0.0.conv.1.weight"), r"not the names of a decathlon ResNet-26"),
    ):
        changed = dict(state)
        change(changed)
        with pytest.raises(InputError, match=match):
            from_reference(changed, 0, "f.t7")
    for name, value in (
        ("layer3.3.conv2.1.conv.weight", torch.zeros(64, 64, 1, 1)),
        ("layer1.0.conv1.bns.1.0.conv.0.running_var", torch.zeros(17)),
        ("linears.1.bias", torch.zeros(8)),
        ("linears.1.weight", torch.zeros(7)),
        ("pre_layers_conv.conv.weight", torch.zeros(9, 3, 3, 3)),
        ("pre_layers_conv.conv.weight", torch.zeros(8)),
    ):
        with pytest.raises(InputError, match=r"f\.t7: .* has shape"):
            width(state | {name: value}, "f.t7")
    for foreign in ({}, {"conv1.weight": torch.zeros(1)}):
        for function in (mode, from_reference, to_reference, width):
            with pytest.raises(InputError, match="not the names of a decathlon ResNet-26"):
                function(foreign)
    ours = from_reference(state)
    del ours["head.bias"]
    with pytest.raises(InputError, match=r"'linears|'head\.bias' is missing"):
        to_reference(ours)


def test_old_batch_norm_counts_from_zero():
    state = {name: value for name, value in golden("bn").items() if not name.endswith("num_batches_tracked")}
    ours = from_reference(state)
    assert ours["body.norm.num_batches_tracked"].equal(torch.tensor(0)) and width(state) == 0.25
    assert set(ours) == set(from_reference(golden("bn")))


# --- what is refused --------------------------------------------------------------------------------------------


def refused(path: Path, match: str | None = None) -> str:
    with pytest.raises(InputError, match=match) as caught:
        read_pickled(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path)) and sentence.count("\n") == 0 and sentence.isprintable()
    return sentence


def zipped(path: Path, body: bytes, data: dict[str, bytes] | None = None, **how: object) -> Path:
    with zipfile.ZipFile(path, "w", **how) as archive:
        archive.writestr("x/data.pkl", body)
        archive.writestr("x/byteorder", b"little")
        for key, raw in (data or {}).items():
            archive.writestr(f"x/data/{key}", raw)
    return path


def everywhere(folder: Path, body: bytes) -> list[Path]:
    """The same pickle as a whole file, as the object of a legacy file, and in a zip."""
    (folder / "bare.t7").write_bytes(body)
    (folder / "legacy.t7").write_bytes(LEGACY_HEAD + body + pickle.dumps([], 2))
    return [folder / "bare.t7", folder / "legacy.t7", zipped(folder / "zip.pt", body)]


class Calls:
    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def attacks(canary: Path) -> dict[str, tuple[bytes, str]]:
    """Name -> (pickle, what the sentence must name); each runs `touch` or the like when really unpickled."""
    touch = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    shell, python = text(touch), text(code)
    inert = b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81"
    return {
        "os.system": (pickle.dumps(Calls(os.system, touch), 2), f"'{os.name}.system'"),
        "os.system, protocol 4": (pickle.dumps(Calls(os.system, touch), 4), f"'{os.name}.system'"),
        "eval": (pickle.dumps(Calls(eval, code), 2), "'__builtin__.eval'"),
        "exec": (pickle.dumps(Calls(exec, code), 4), "'builtins.exec'"),
        "in a module's state": (
            inert + b"}(" + text("_modules") + b"}" + text("x") + b"cos\nsystem\n" + shell + b"\x85Rub.",
            "'os.system'",
        ),
        "in a list in a dictionary": (pickle.dumps({"net": [1, [Calls(os.system, touch)]]}, 2), f"'{os.name}.system'"),
        "partial": (b"\x80\x02cfunctools\npartial\ncos\nsystem\n" + shell + b"\x86R)R.", "'os.system'"),
        "a partial that is called": (
            b"\x80\x02cfunctools\npartial\nc__main__\nrun\n" + shell + b"\x86R)R.",
            "calls what is no function",
        ),
        "a function of a package": (b"\x80\x02ctrainer.tools\nrun\n" + shell + b"\x85R.", "'trainer.tools.run'"),
        "a function of torch that is only named": (b"\x80\x02ctorch.nn.functional\nrelu\n)R.", "functional.relu'"),
        "through a package's own import": (
            b"\x80\x02c__builtin__\ngetattr\nctrainer\nTools\n" + text("os") + b"\x86R" + text("system") + b"\x86R.",
            "'trainer.Tools.os'",
        ),
        "in a Namespace": (
            b"\x80\x02cargparse\nNamespace\n)\x81}" + text("x") + b"cos\nsystem\n" + shell + b"\x85Rsb.",
            "'os.system'",
        ),
        "as the factory of a default": (b"\x80\x02ccollections\ndefaultdict\ncos\nsystem\n\x85R.", "'os.system'"),
        "a numpy function": (b"\x80\x02cnumpy.testing\nrundocs\n" + text("x") + b"\x85R.", "'numpy.testing.rundocs'"),
        "operator": (b"\x80\x02c_operator\nmethodcaller\n" + text("x") + b"\x85R.", "'_operator.methodcaller'"),
        "an item of what is no type": (b"\x80\x02c_operator\ngetitem\n]K\x00\x86R.", "'_operator.getitem'"),
        "torch.load": (b"\x80\x02ctorch\nload\n" + text(str(canary)) + b"\x85R.", "'torch.load'"),
        "torch.hub": (b"\x80\x02ctorch.hub\nload\n" + text("x") + b"\x85R.", "'torch.hub.load'"),
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
        "GLOBAL with dots": (b"\x80\x04cmodels\nResNet.os.system\n" + shell + b"\x85R.", "models.ResNet.os.system"),
        "STACK_GLOBAL": (b"\x80\x04" + text("os") + text("system") + b"\x93" + shell + b"\x85R.", "'os.system'"),
        "STACK_GLOBAL of no text": (b"\x80\x04" + text("os") + b"K\x01\x93.", "whose name is no text"),
        "__main__": (b"\x80\x02c__main__\nNet\n)\x81.", "'__main__.Net'"),
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
        "an object of a base that runs": (
            b"\x80\x02ccopy_reg\n_reconstructor\ncos\nsystem\n" + shell + b"N\x87R.",
            "'os.system'",
        ),
        "a call of an object that was made again": (
            b"\x80\x02ccopy_reg\n_reconstructor\nc__main__\nNet\nc__builtin__\nobject\nN\x87R" + shell + b"\x85R.",
            "calls what is no function",
        ),
        "the registry itself": (b"\x80\x02ccopyreg\nadd_extension\n)R.", "'copyreg.add_extension'"),
        "BUILD on a function": (b"\x80\x02ccollections\nOrderedDict\n}" + python + b"Nsb.", "sets the state"),
        "BUILD on a text": (b"\x80\x02" + python + b"}b.", "sets the state"),
        "a call of an instance": (
            inert + b"}" + text("__call__") + b"Nsb" + shell + b"\x85R.",
            "calls what is no function",
        ),
        "a call of a text": (b"\x80\x02" + text("os.system") + shell + b"\x85R.", "calls what is no function"),
        "a call of a storage class": (b"\x80\x02ctorch\nFloatStorage\nK\x01\x85R.", "calls what is no function"),
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
    state = b"}(" + text("_parameters") + b"}" + text("w") + tensor_pickle(bare=True) + b"s" + text("_buffers") + b"}"
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
    beside = named + b"0}" + text("w") + tensor_pickle(bare=True) + b"s."
    assert list(read_pickled(zipped(tmp_path / "x.pt", beside, {"7": bytes(24)}))) == ["w"]
    for called in (b")R.", b"]\x85R."):
        for path in everywhere(tmp_path, named + called):
            refused(path, f"calls the function '{module}.{name}'")


# --- damaged, lying and endless files -----------------------------------------------------------------------------


def tensor_pickle(numel=6, offset=0, size=(2, 3), stride=None, view=None, key="7", bare=False) -> bytes:
    """A pickle of {'w': one float tensor}, in the legacy way, that may lie about its numbers."""
    stride = stride if stride is not None else tuple(math.prod(size[n + 1 :]) for n in range(len(size)))

    def value(thing) -> bytes:
        return pickle.dumps(thing, 2)[2:-1].replace(b"q\x00", b"").replace(b"q\x01", b"").replace(b"q\x02", b"")

    saved_id = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + value(numel)
    saved_id += (value(view) if view or not bare else b"") + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + saved_id + value(offset) + value(size) + value(stride) + b"tR"
    return tensor if bare else b"\x80\x02}" + text("w") + tensor + b"s."


@pytest.mark.parametrize(
    ("lie", "match"),
    [
        ({"size": (2, 4)}, "reaches beyond"),
        ({"offset": 1}, "reaches beyond"),
        ({"stride": (4, 1)}, "reaches beyond"),
        ({"size": (10**9, 10**9), "stride": (0, 0)}, "reaches beyond"),
        ({"size": (7,), "stride": (0,)}, "reaches beyond"),
        ({"size": (0, 2**39, 2**39)}, "reaches beyond|no sense"),
        ({"size": (0, 2**39, 2**39), "stride": (1, 1, 1)}, "reaches beyond"),
        ({"size": (0,), "offset": 7}, "reaches beyond"),
        ({"view": ("8", 0, 5)}, "reaches beyond"),
        ({"stride": (-3, 1)}, "a tensor that makes no sense"),
        ({"stride": (3,)}, "a tensor that makes no sense"),
        ({"offset": -1}, "a tensor that makes no sense"),
        ({"size": (1,) * 9}, "a tensor that makes no sense"),
        ({"size": (2**70, 0), "stride": (1, 1)}, "a tensor that makes no sense"),
        ({"size": (2, 3.0), "stride": (3, 1)}, "a tensor that makes no sense"),
        ({"size": [2, 3], "stride": (3, 1)}, "a tensor that makes no sense"),
        ({"size": (True, 3), "stride": (3, 1)}, "a tensor that makes no sense"),
        ({"numel": 2**62, "size": (2**62,), "stride": (1,)}, "a storage that makes no sense"),
        ({"numel": -6}, "a storage that makes no sense"),
        ({"numel": "6"}, "a storage that makes no sense"),
        ({"view": ("8", -1, 6)}, "a storage that makes no sense"),
        ({"view": ("8", 3, 6)}, "one storage in two ways"),
        ({"view": (1, 2)}, "cut off or damaged"),
        ({"numel": 2**39, "size": (2**39,)}, "cut off or damaged"),
        ({"numel": 7}, "cut off or damaged"),
        ({"key": "8"}, "cut off or damaged"),
        ({"key": "../../../etc/passwd"}, "cut off or damaged"),
    ],
    ids=str,
)
def test_lying_numbers(tmp_path, lie, match):
    raw = torch.arange(6.0).numpy().tobytes()
    (tmp_path / "legacy.t7").write_bytes(
        LEGACY_HEAD + tensor_pickle(**lie) + pickle.dumps(["7"], 2) + struct.pack("<q", 6) + raw
    )
    tracemalloc.start()
    refused(tmp_path / "legacy.t7", match)
    if "numel" in lie and type(lie["numel"]) is int:  # the same lie beside the data itself
        where = tmp_path / "legacy2.t7"
        where.write_bytes(
            LEGACY_HEAD + tensor_pickle() + pickle.dumps(["7"], 2) + struct.pack("<q", lie["numel"]) + raw
        )
        refused(where)
    refused(zipped(tmp_path / "zip.pt", tensor_pickle(**lie), {"7": raw}), match)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_the_truth_is_read(tmp_path):
    """The control of the lies above."""
    raw = torch.arange(6.0).numpy().tobytes()
    path = tmp_path / "x.t7"
    path.write_bytes(LEGACY_HEAD + tensor_pickle() + pickle.dumps(["7"], 2) + struct.pack("<q", 6) + raw)
    assert read_pickled(path)["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read_pickled(zipped(path, tensor_pickle(), {"7": raw}))["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


def bombs() -> dict[str, bytes]:
    deep = b"\x80\x02]q\x00" + b"".join(b"(h\x00h\x00tq\x00" for _ in range(60))  # 2^60 leaves
    module = b"cmodels\nNet\n)\x81}(" + text("_parameters") + b"}" + text("_buffers") + b"}" + text("_modules") + b"}"
    doubled = b"\x80\x02" + module + b"ubq\x000"
    for _ in range(30):  # each holds the one before twice: 2^30 modules
        doubled += module + b"(" + text("a") + b"h\x00" + text("b") + b"h\x00uubq\x000"
    endless = b"\x80\x02cmodels\nNet\n)\x81q\x00}(" + text("_parameters") + b"}" + text("_buffers") + b"}"
    endless += text("_modules") + b"}" + text("a") + b"h\x00sub."
    pairs = pickle.dumps([(k, k) for k in range(10_000)], 2)[:-1] + b"r\x00\x00\x01\x000"
    return {
        "a memo index of four billion": b"\x80\x02Nr\xff\xff\xff\xff.",
        "a text of eight exabytes": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "a number of two gigabytes": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "a frame of eight exabytes": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
        "a bytearray of eight exabytes": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "a digit sum without end": b"\x80\x02I" + b"9" * 1_000_000 + b"\n.",
        "tuples within tuples": deep + b".",
        "tuples within tuples as a key": deep + b"}h\x00Ns.",
        "tuples within tuples in a set": deep + b"c__builtin__\nset\n]h\x00a\x85R.",
        "numbers of one hash": b"\x80\x02}("
        + b"".join(b"\x8a\x0b" + (k * (2**61 - 1)).to_bytes(11, "little") + b"N" for k in range(1, 50_000))
        + b"u.",
        "a module of a billion": doubled + b"h\x00.",
        "a module within itself": endless,
        "a long list as many dictionaries": pairs
        + b"ccollections\nOrderedDict\nr\x01\x00\x01\x000"
        + b"j\x01\x00\x01\x00j\x00\x00\x01\x00\x85R" * 20_000
        + b".",
        "lists of one list": b"\x80\x02]q\x00}"
        + text("loss")
        + b"Nsa0"
        + b"".join(b"](" + b"h%c" % n * 300 + b"eq%c0" % (n + 1) for n in range(4))
        + b"h\x04.",
        "instructions without end": b"\x80\x02" + b"N0" * 500_001 + b".",
        "lists within lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "marks without end": b"\x80\x02" + b"(" * 200_000 + b".",
        "a dictionary without partner": b"\x80\x02}(" + text("a") + b"u.",
        "nothing on the stack": b"\x80\x02.",
        "a mark that is not there": b"\x80\x02t.",
    }


@pytest.mark.parametrize("name", list(bombs()))
def test_bombs(tmp_path, name):
    for path in everywhere(tmp_path, bombs()[name]):
        sentence = refused(path)
    for part, named in (
        ("memo index", "numbers its objects"),
        ("as a key", "dictionary key"),
        ("one hash", "dictionary key"),
        ("of a billion", "more modules than a network has"),
        ("within itself", "modules without end"),
        ("dictionaries", "more than a checkpoint can hold"),
        ("lists of one list", "more dictionaries than"),
        ("instructions", "longer pickle than any"),
    ):
        assert part not in name or named in sentence


def test_bombs_fill_no_memory(tmp_path):
    chosen = [body for name, body in bombs().items() if "memo" in name or "bytes" in name or "dictionaries" in name]
    for body in chosen:
        paths = everywhere(tmp_path, body)
        tracemalloc.start()
        for path in paths:
            refused(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**27


def test_foreign_files(tmp_path):
    path = tmp_path / "x.t7"
    for raw, match in (
        (b"", "is empty"),
        (struct.pack("<ii", 4, 1) + b"\x03\x00\x00\x00V 1", "Lua Torch7"),
        (b"4\n1\n3\nV 1\n13\nnn.Sequential\n", "Lua Torch7"),
        (b"<html>404</html>", "no PyTorch checkpoint"),
        (b"\x89PNG\r\n\x1a\n", "no PyTorch checkpoint"),
        (b"cos\nsystem\n(S'true'\ntR.", "no PyTorch checkpoint"),
        (pickle.dumps({"a": 1}), "not one that torch.save writes"),
        (pickle.dumps(1), "not one that torch.save writes"),
        (LEGACY_HEAD.replace(b"M\xe9\x03.\x80", b"M\xea\x03.\x80", 1), "unknown version"),
        (LEGACY_HEAD.replace(b"\x88", b"\x89"), "big-endian"),
        (LEGACY_HEAD + pickle.dumps({"acc": 1}, 2) + pickle.dumps([], 2), "something that is no tensor"),
        (LEGACY_HEAD + pickle.dumps({}, 2) + pickle.dumps([], 2), "holds no weights"),
        (LEGACY_HEAD + pickle.dumps([1], 2) + pickle.dumps([], 2), "holds no weights"),
        (b"PK\x03\x04 and no more", "cut off or damaged"),
    ):
        path.write_bytes(raw)
        refused(path, match)
    refused(tmp_path / "missing.t7", "cannot be read")
    refused(tmp_path, "cannot be read")
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(tmp_path / "missing")
    raw = torch.arange(6.0).numpy().tobytes()
    refused(zipped(path, tensor_pickle(), {"7": raw}, compression=zipfile.ZIP_DEFLATED), "compressed")
    refused(zipped(path, tensor_pickle(), {"7": raw[:-1]}), "cut off")
    refused(zipped(path, tensor_pickle(), {"7": raw + b"x"}), "cut off")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", b"<w/>")
    refused(path, "zip archive, but not one that torch.save writes")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/byteorder", b"big")
        archive.writestr("x/data.pkl", tensor_pickle())
    refused(path, "big-endian")


@pytest.mark.filterwarnings("ignore")
def test_zip_entries_over_one_another_do_not_multiply(tmp_path):
    """Many entries that point to the same bytes: refused once more is read than the file is long."""
    files = {"x/data.pkl": b"", **{f"x/data/{n:03}": b"" for n in range(40, 0, -1)}}
    body, blob, places = b"\x80\x02}(", bytes(400_000), []
    for name in list(files)[1:]:  # each file's bytes are all of the file behind its header, other headers with it
        key, numel = name[-3:], len(blob) // 4
        body += text(key) + tensor_pickle(numel=numel, size=(numel,), key=key, bare=True)
        files[name] = blob
        blob = entry_head(b"PK\x03\x04\x14\0", name, blob) + blob
    files["x/data.pkl"] = body + b"u."
    begins = entry_head(b"PK\x03\x04\x14\0", "x/data.pkl", files["x/data.pkl"]) + files["x/data.pkl"]
    for name, raw in files.items():
        at = 0 if name == "x/data.pkl" else len(begins) + len(blob) - len(raw) - 40
        fields = entry_head(b"PK\x01\x02\x14\0\x14\0", name, raw)
        places.append(fields[:-10] + struct.pack("<HHHII", 0, 0, 0, 0, at) + fields[-10:])
    middle = b"".join(places)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(places), len(places), len(middle), len(begins + blob), 0)
    path = tmp_path / "x.pt"
    path.write_bytes(begins + blob + middle + end)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()) == 41
    tracemalloc.start()
    refused(path, "cut off or damaged")
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()


def entry_head(signature: bytes, name: str, raw: bytes) -> bytes:
    """A zip entry's header, stored; names are 10 characters long, so that it is 40 bytes (a multiple of 4)."""
    assert len(name) == 10
    return (
        signature + struct.pack("<HHHHIIIHH", 0, 0, 0, 33, zlib.crc32(raw), len(raw), len(raw), 10, 0) + name.encode()
    )


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_half_files(tmp_path, network, legacy):
    whole = saved(tmp_path / "x.t7", {"net": network, "acc": 1.0}, legacy).read_bytes()
    half = tmp_path / "half.t7"
    cuts = sorted({*range(0, 400, 7), *range(0, len(whole), 97), *range(len(whole) - 60, len(whole))})
    for cut in cuts:
        half.write_bytes(whole[:cut])
        refused(half)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_flipped_bytes(tmp_path, network, legacy):
    """400 damaged files of each format: read as something or refused with a sentence, within seconds."""
    whole = saved(tmp_path / "x.t7", {"net": network, "acc": 1.0}, legacy).read_bytes()
    chance, path, ends = random.Random(26), tmp_path / "flipped.t7", collections.Counter()
    for _ in range(400):
        raw = bytearray(whole)
        for _ in range(chance.choice((1, 1, 3, 30))):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        path.write_bytes(raw)
        try:
            tensors = read_pickled(path)
        except InputError as error:
            ends["refused"] += str(error).startswith(str(path)) and str(error).isprintable()
        else:
            assert sum(tensor.numel() for tensor in tensors.values()) < len(whole)
            ends["read"] += 1
    assert ends.total() == 400, "a sentence that does not name the file, or is not printable"
    assert ends["refused"] > 50
