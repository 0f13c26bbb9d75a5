"""PyTorch checkpoints are read bit for bit, in every published format."""

import collections
import io
import pickle
import struct
import sys
import types

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.benchmark.backbones.golden import golden_weights, shared
from tests.benchmark.backbones.torch_files import (
    LEGACY_HEAD,
    Calls,
    bring_models,
    refused,
    same,
    saved,
    tensor_pickle,
)
from visual_decathlon.benchmark.backbones.torch_checkpoint import read_pickled
from visual_decathlon.benchmark.backbones.weights import read_weights
from visual_decathlon.datasets.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")


def test_the_published_format_gives_the_golden_weights():
    weights, metadata = read_weights(shared("golden/ra_checkpoint_bn.pt"))
    expected = golden_weights("bn", 0.25)
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
    weights["kept"] += 1  # the memory is not the file's: it is writable


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
        """Writes storages and the source of classes outside the pickle."""

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
