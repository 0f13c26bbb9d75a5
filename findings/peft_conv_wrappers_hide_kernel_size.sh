#!/usr/bin/env bash
# peft 0.21.2, timm 1.0.31 (torch 2.15.0, torchvision 0.29.2): attributes of a layer after peft has wrapped it.
#
# One expects a wrapped convolution to answer what a convolution answers, as a wrapped linear layer does. Seen, the same
# for LoRA, LoHa, LoKr, OFT, HRA and BOFT:
# - a linear layer keeps weight, bias, in_features, out_features;
# - a convolution keeps weight and bias (and in_features, out_features, which it did not have), and loses in_channels,
#   out_channels, kernel_size, stride, padding, dilation, groups and padding_mode.
# - So a network that reads them in its forward pass fails: DaViT pads its downsampling by conv.kernel_size, and LoRA on
#   that convolution ends in AttributeError at the first pass, not when it is wrapped. XCiT, EdgeNeXt and ConViT read a
#   layer's weight.device and run.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  torch==2.15.0 torchvision==0.29.2 timm==1.0.31 peft==0.21.2
cat >"$folder/check.py" <<'PY'
import warnings

import peft
import timm
import torch
from peft import BOFTConfig, HRAConfig, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, get_peft_model
from torch import nn

warnings.simplefilter("ignore")
PINNED = {"timm": timm.__version__, "peft": peft.__version__}
assert PINNED == {"timm": "1.0.31", "peft": "0.21.2"}, PINNED
CONV = "weight bias in_channels out_channels kernel_size stride padding dilation groups padding_mode".split()
LINEAR = "weight bias in_features out_features".split()


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(self.conv(x))


def configs(targets):
    return {
        "LoRA": LoraConfig(target_modules=targets, r=2),
        "LoHa": LoHaConfig(target_modules=targets, r=2),
        "LoKr": LoKrConfig(target_modules=targets, r=2),
        "OFT": OFTConfig(target_modules=targets, oft_block_size=0, r=1),
        "HRA": HRAConfig(target_modules=targets, r=2),
        "BOFT": BOFTConfig(target_modules=targets, boft_block_size=2),
    }


for name, config in configs(["conv", "linear"]).items():
    pair = get_peft_model(Pair(), config).base_model.model
    lost = [attribute for attribute in CONV if not hasattr(pair.conv, attribute)]
    print(f"{name}: a convolution loses {', '.join(lost)}")
    assert lost == CONV[2:], lost
    assert all(hasattr(pair.linear, attribute) for attribute in LINEAR)

for name, layer, size in (
    ("davit_tiny", "downsample.conv", 224),
    ("xcit_nano_12_p8_224", "token_projection", 224),
    ("edgenext_xx_small", "token_projection", 256),
    ("convit_tiny", "qk", 224),
):
    network = timm.create_model(name, num_classes=3).eval()
    targets = [path for path, _ in network.named_modules() if path.endswith(layer)]
    adapted = get_peft_model(network, LoraConfig(target_modules=targets, r=2))
    try:
        with torch.no_grad():
            adapted(torch.zeros(1, 3, size, size))
        result = "runs"
    except AttributeError as error:
        result = str(error)
    print(f"{name}, LoRA on {len(targets)} layers: {result}")
    assert result == ("'Conv2d' object has no attribute 'kernel_size'" if name == "davit_tiny" else "runs")
PY
cd "$folder"
"$folder/venv/bin/python" "$folder/check.py" 2>/dev/null
echo "as stated"
