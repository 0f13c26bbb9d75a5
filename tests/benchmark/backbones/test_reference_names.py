"""The names of the residual adapters' released code and renamed, both ways, on the golden networks."""

import pytest
import torch

from tests.benchmark.backbones.golden import MODES, SETS, SLIM, golden_weights, shared
from tests.benchmark.backbones.torch_files import (
    same,
)
from visual_decathlon.benchmark.backbones.reference_names import from_reference, mode, tasks, to_reference, width
from visual_decathlon.benchmark.backbones.weights import read_weights
from visual_decathlon.datasets.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")


@pytest.mark.parametrize("factor", SETS)
@pytest.mark.parametrize("kind", MODES)
def test_names_of_the_golden_networks(kind, factor):
    state = golden_weights(kind, factor)
    assert (mode(state), tasks(state), width(state)) == (kind, 2, factor)
    for task in (0, 1):
        renamed = from_reference(state, task)
        assert mode(renamed) == kind and width(renamed) == factor
        back = to_reference(renamed)
        assert len(back) == len(renamed) and tasks(back) == 1
        at_home = {name for name in state if name.startswith("layer") and ".conv.weight" in name and "bns" not in name}
        assert at_home - set(back) == (
            {n for n in at_home if ".parallel_conv.1." in n} if kind == "parallel" else set()
        )
        assert back["linears.0.weight"] is state[f"linears.{task}.weight"]
        assert back["layer3.1.conv2.1.conv.weight"] is state["layer3.1.conv2.1.conv.weight"]
        assert back["end_bns.0.0.running_var"] is state[f"end_bns.{task}.0.running_var"]
        same(from_reference(back), renamed)
    with pytest.raises(InputError, match=r"net\.t7: has no task 2"):
        from_reference(state, 2, "net.t7")


def test_where_each_name_goes():
    """Spelled out, so that a slip in the table that both ways share is seen."""
    series, parallel, bn = golden_weights("series"), golden_weights("parallel"), golden_weights("bn")
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
    state = golden_weights("series")
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
    renamed = from_reference(state)
    del renamed["head.bias"]
    with pytest.raises(InputError, match=r"'linears|'head\.bias' is missing"):
        to_reference(renamed)


def test_old_batch_norm_counts_from_zero():
    state = {name: value for name, value in golden_weights("bn").items() if not name.endswith("num_batches_tracked")}
    renamed = from_reference(state)
    assert renamed["body.norm.num_batches_tracked"].equal(torch.tensor(0)) and width(state) == SLIM
    assert set(renamed) == set(from_reference(golden_weights("bn")))
