#!/usr/bin/env bash
# HF PEFT 0.21.2 (torch 2.15.0, transformers 5.23.0): adapters of a dilated convolution.
#
# One expects an adapter that starts at the identity to leave the outputs of a Conv2d(dilation=2, padding=2) as they
# are, or the layer to be refused, as OFT does with ValueError. Wrapping succeeds for all others. Then
#   HRA and BOFT  compute an undilated convolution, without an error: the map is 2 pixels higher and wider
#                 (11 x 10 for 9 x 8). Behind a global average pool nothing fails, training goes on, and
#                 merge_and_unload gives a network with the dilation again, with maps of another size and other outputs
#   LoRA, DoRA    raise RuntimeError at the first batch: their own convolution has no dilation, and the sum does not fit
#   LoHa, LoKr    are right, before and after the merge
# So: on networks with an output stride (dilated stages, as of segmentation) compare the outputs of the wrapped network
# with those of the plain one before training, and the merged ones with those before the merge.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  peft==0.21.2 torch==2.15.0 transformers==5.23.0 accelerate==1.15.0 numpy==2.4.6
cat >"$folder/check.py" <<'PY'
import copy
import warnings

import peft
import torch
from torch import nn

warnings.filterwarnings("ignore")
torch.manual_seed(0)
base = nn.Sequential(nn.Conv2d(16, 24, 3, padding=2, dilation=2))
pooled = nn.Sequential(*base, nn.AdaptiveAvgPool2d(1))
x = torch.randn(2, 16, 9, 8)
size = tuple(base(x).shape[2:])
assert size == (9, 8)


def wrapped(network, config):
    return peft.get_peft_model(copy.deepcopy(network), config).eval()


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


with torch.no_grad():
    for name, config in {
        "HRA": lambda: peft.HRAConfig(r=4, target_modules=["0"]),
        "BOFT": lambda: peft.BOFTConfig(boft_block_size=4, target_modules=["0"]),
    }.items():
        model = wrapped(base, config())
        before, after = tuple(model(x).shape[2:]), tuple(model.merge_and_unload()(x).shape[2:])
        model = wrapped(pooled, config())
        start = difference(model(x), pooled(x))
        merged = difference(model.merge_and_unload()(x), pooled(x))
        print(f"{name}: map {before} for {size}, {after} once merged; pooled features off by {start:.2f}, {merged:.1g}")
        assert before == (11, 10) and after == size and start > 0.1 and merged < 1e-5
    for name, config in {
        "LoHa": lambda: peft.LoHaConfig(r=4, target_modules=["0"]),
        "LoKr": lambda: peft.LoKrConfig(r=4, target_modules=["0"]),
    }.items():
        model = wrapped(base, config())
        for parameter in model.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.1)
        assert difference(before := model(x), base(x)) > 1e-3 and difference(model.merge_and_unload()(x), before) < 1e-5
        print(f"{name}: right")
    for name, dora in (("LoRA", False), ("DoRA", True)):
        model = wrapped(base, peft.LoraConfig(r=4, target_modules=["0"], use_dora=dora))
        try:
            model(x)
        except RuntimeError as error:
            print(f"{name}: RuntimeError, {error}")
        else:
            raise SystemExit(f"{name} computes it now")
try:
    wrapped(base, peft.OFTConfig(r=0, oft_block_size=4, target_modules=["0"]))
except ValueError as error:
    print(f"OFT: ValueError, {error}")
else:
    raise SystemExit("OFT takes it now")
PY
"$folder/venv/bin/python" "$folder/check.py"
