#!/usr/bin/env bash
# HF PEFT 0.21.2 (torch 2.15.0, transformers 5.23.0): LoRA on a network with batch norm.
#
# One expects the base to be frozen, so that switching the adapter off gives the base back, and that the saved adapter
# on the same base is the trained network. Neither holds: in training mode the frozen layers' running statistics follow
# the new images, and save_pretrained stores none of them. Seen with a shifted input and 40 steps: switched off, the
# base's logits have moved by 1.0; saved and loaded, they differ by 0.9 where the largest is 0.3. No warning. That
# parameters are frozen, which one checks, says nothing: statistics are buffers.
# So: name the norms in modules_to_save (then loading is exact and the base keeps its own), or keep them in eval mode.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  peft==0.21.2 torch==2.15.0 transformers==5.23.0 accelerate==1.15.0 numpy==2.4.6
cat >"$folder/check.py" <<'PY'
import copy
import sys
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

warnings.filterwarnings("ignore")
folder = sys.argv[1]
torch.manual_seed(0)
base = nn.Sequential()
base.add_module("conv", nn.Conv2d(3, 16, 3, bias=False))
base.add_module("norm", nn.BatchNorm2d(16))
base.add_module("act", nn.ReLU())
base.add_module("pool", nn.AdaptiveAvgPool2d(1))
base.add_module("flat", nn.Flatten())
base.add_module("head", nn.Linear(16, 4))
x = 2 + 3 * torch.randn(256, 3, 12, 12)
y = torch.arange(256) % 4


def trained(**options):
    model = get_peft_model(copy.deepcopy(base), LoraConfig(r=4, target_modules=["conv"], **options))
    step = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.05)
    model.train()
    for i in range(40):
        step.zero_grad()
        nn.functional.cross_entropy(model(x[i % 8 :: 8]), y[i % 8 :: 8]).backward()
        step.step()
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model.eval()(x)


before = logits(copy.deepcopy(base))
model = trained(modules_to_save=["head"])
frozen = [n for n, p in model.named_parameters() if "norm" in n and p.requires_grad]
print("trained tensors of the batch norm:", frozen)
with model.disable_adapter():
    moved = (logits(model) - before).abs().max().item()
print(f"adapter switched off, largest change of the base's logits: {moved:.2f}")
model.save_pretrained(folder)
loaded = PeftModel.from_pretrained(copy.deepcopy(base), folder)
lost = (logits(loaded) - logits(model)).abs().max().item()
print(f"saved and loaded on the same base, largest change of the logits: {lost:.2f} of {logits(model).abs().max().item():.2f}")
assert not frozen and moved > 0.1 and lost > 0.1

model = trained(modules_to_save=["head", "norm"])
model.save_pretrained(folder)
loaded = PeftModel.from_pretrained(copy.deepcopy(base), folder)
kept = (logits(loaded) - logits(model)).abs().max().item()
with model.disable_adapter():
    still = (logits(model) - before).abs().max().item()
print(f"with the norm in modules_to_save: loaded {kept:.2g}, switched off {still:.2g}")
assert kept < 1e-5 and still < 1e-5
PY
"$folder/venv/bin/python" "$folder/check.py" "$folder/saved"
