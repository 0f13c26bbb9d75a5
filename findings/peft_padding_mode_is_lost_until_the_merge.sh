#!/usr/bin/env bash
# HF PEFT 0.21.2 (torch 2.15.0, transformers 5.23.0): adapters on a convolution whose padding is not zeros.
#
# One expects the same network before and after `merge_and_unload`, the more so with safe_merge=True. That holds for
# padding_mode="zeros" (3e-7). For "reflect", "replicate" and "circular" merging changes the output by half of the
# largest value and more: 0.5 to 1.0 of it for LoRA, DoRA, LoHa and LoKr, without a warning. Before the merge the
# adapter's own convolution pads with zeros, afterwards its weights are padded as the layer's. So the network that was
# trained and measured is not the one that is exported.
# So: with such padding compare outputs before and after a merge, or train on a layer that pads by itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  peft==0.21.2 torch==2.15.0 transformers==5.23.0 accelerate==1.15.0 numpy==2.4.6
cat >"$folder/check.py" <<'PY'
import copy
import warnings

import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from torch import nn

warnings.filterwarnings("ignore")
torch.manual_seed(0)
x = torch.randn(2, 8, 9, 9)


def difference(config, mode):
    """Largest change of the output by merging, relative to the largest output."""
    base = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, padding_mode=mode))
    model = get_peft_model(copy.deepcopy(base), config).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    with torch.no_grad():
        before = model(x)
        return ((model.merge_and_unload(safe_merge=True)(x) - before).abs().max() / before.abs().max()).item()


for kind, config in {
    "LoRA": lambda: LoraConfig(r=4, target_modules=["0"]),
    "DoRA": lambda: LoraConfig(r=4, target_modules=["0"], use_dora=True),
    "LoHa": lambda: LoHaConfig(r=4, target_modules=["0"]),
    "LoKr": lambda: LoKrConfig(r=4, target_modules=["0"]),
}.items():
    found = {mode: difference(config(), mode) for mode in ("zeros", "reflect", "replicate", "circular")}
    print(kind, {mode: f"{value:.1g}" for mode, value in found.items()})
    assert found.pop("zeros") < 1e-5 and min(found.values()) > 0.1, found
PY
"$folder/venv/bin/python" "$folder/check.py"
