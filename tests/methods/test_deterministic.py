"""A training step uses no operation that gives different bits each time on a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.runtime.numerics import set_deterministic
from visual_decathlon.benchmark.training import macs
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import entries

# Of torch's documentation of use_deterministic_algorithms: what raises on CUDA, by the name of its operation. Those
# with a deterministic form (index_add, index_put, scatter_add, gather and index_select backward, convolutions) do not.
UNSETTLED = {
    *("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward"),
    *("avg_pool3d_backward", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward"),
    *("max_pool3d_with_indices_backward", "max_unpool2d", "max_unpool3d", "grid_sampler_2d_backward"),
    *("grid_sampler_3d_backward", "upsample_linear1d_backward", "upsample_bilinear2d_backward"),
    *("upsample_bicubic2d_backward", "upsample_trilinear3d_backward", "_upsample_bilinear2d_aa_backward"),
    *("_upsample_bicubic2d_aa_backward", "reflection_pad1d_backward", "reflection_pad3d_backward"),
    *("replication_pad1d_backward", "replication_pad2d_backward", "replication_pad3d_backward"),
    *("nll_loss2d_forward", "_ctc_loss_backward", "_embedding_bag", "put_", "put", "histc", "bincount", "kthvalue"),
    *("median", "nanmedian", "cumsum", "cumsum_", "scatter_reduce", "resize_", "_cdist_backward", "_pdist_backward"),
}
METHODS = [method for method in (entry() for entry in entries()) if not method.unsupported_reason("resnet26")]


class Operations(TorchDispatchMode):
    """Records the names of the operations that run inside."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(operation.overloadpacket.__name__)
        return operation(*args, **(kwargs or {}))


@pytest.fixture
def repeating():
    set_deterministic(True)
    yield
    set_deterministic(False)


def placed(method: Method, classes: int = 3):
    torch.manual_seed(0)
    source = resnet26(3, 0.125)
    source = source.for_size(16)
    if method.backbone_structure == "series":
        put_series(source)
    return method.place(source.requires_grad_(False).eval(), classes)


def test_no_method_computes_with_what_a_gpu_does_not_settle(repeating):
    x, y = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    unsettled = {}
    for method in METHODS:
        network = placed(method).train()
        with Operations() as ran:
            loss, _ = method.loss(network, x, y, F.cross_entropy)
            loss.backward()
            method.after_step(network, 1, 10)
            network.eval()(x)
        assert "convolution" in ran.names
        unsettled |= {method.name: ran.names & UNSETTLED} if ran.names & UNSETTLED else {}
    assert unsettled == {}


COUNTED = {"feature", "res_adapter", "par_adapter", "lora", "piggyback", "spottune", "side", "taps", "snell", "mona"}


@pytest.mark.slow
def test_multiply_adds_are_those_of_the_structure():
    """The count is the same for any head and any trained values, so that one count is enough."""
    for method in METHODS:
        one, other = placed(method), placed(method, 7)
        with torch.no_grad():
            for parameter in other.parameters():
                if parameter.requires_grad:
                    parameter.normal_()
        assert list(map(repr, macs._structure(one))) == list(map(repr, macs._structure(other))), method.name
        if method.name in COUNTED:  # a trace takes a second
            assert macs._count(one, 16) == macs._count(other, 16), method.name


def test_another_structure_is_counted_anew(monkeypatch):
    counted = []
    monkeypatch.setattr(macs, "_COUNTED", {})
    monkeypatch.setattr(macs, "_count", lambda network, size: counted.append(size) or len(counted))
    one = placed(METHODS[0])
    assert [macs.conv_macs(one, 16), macs.conv_macs(placed(METHODS[0], 7), 16), macs.conv_macs(one, 24)] == [1, 1, 2]
    one.get_submodule("body.stem.conv").stride = (2, 2)
    assert macs.conv_macs(one, 16) == 3
    assert macs.conv_macs(resnet26(3, 0.25), 16) == 4


def test_the_workspace_of_cublas_is_set_before_anything_uses_a_gpu():
    script = (
        "import os, torch\nfrom dataclasses import replace\n"
        "from visual_decathlon.benchmark.runtime.numerics import configure_torch\n"
        "from visual_decathlon.benchmark.config.profiles import PROFILES\nplain = PROFILES['standin']\n"
        "for profile, device in ((plain, 'cpu'), (replace(plain, deterministic=False), 'cuda:0'), (plain, 'cuda:0')):\n"
        "    configure_torch(profile, device)\n"
        "    print(torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,\n"
        "          os.environ['CUBLAS_WORKSPACE_CONFIG'])\n"
    )
    environment = {"CUBLAS_WORKSPACE_CONFIG": ":0:0", "PATH": "/usr/bin:/bin"}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["False False :0:0", "False False :0:0", "True True :4096:8"], done.stderr
