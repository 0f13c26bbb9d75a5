#!/usr/bin/env bash
# PyTorch 2.15.0: torch.utils.flop_counter.FlopCounterMode on a training step of grouped and depthwise convolutions.
#
# One expects a training step to count three times the forward pass (output, and the gradients of input and weight), as
# it does for a plain convolution. With g groups it counts g + 2 times: the gradient of the weight is counted as that of
# a plain convolution, while the two others are divided by g. Seen for 64 channels: 3, 4, 10 and 66 forward passes for
# 1, 2, 8 and 64 groups. The forward pass is right, so a check of inference does not show it: a depthwise layer's
# training is overstated 22 times, and tables of training cost turn against networks that are made of such layers.
# So: count training as three forward passes there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.15.0 numpy==2.4.6
cat >"$folder/check.py" <<'PY'
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def counted(groups, train):
    """Operations of the forward pass, and with `train` of the backward pass too."""
    conv = nn.Conv2d(64, 64, 3, padding=1, groups=groups, bias=False)
    x = torch.randn(2, 64, 16, 16, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        y = conv(x)
        if train:
            y.sum().backward()
    return counter.get_total_flops()


for groups in (1, 2, 8, 64):
    right = 2 * 2 * 16 * 16 * 64 * (64 // groups) * 9  # images, 2 a multiply-add, pixels, cout, cin, taps
    forward, step = counted(groups, False) / right, counted(groups, True) / right
    print(f"{groups} groups: forward {forward:g}, training step {step:g} (3 is right)")
    assert (forward, step) == (1, groups + 2)
PY
"$folder/venv/bin/python" "$folder/check.py"
