#!/usr/bin/env bash
# torch 2.15.0, torchvision 0.29.2: FlopCounterMode around an evaluation with torch's own attention layers.
#
# One expects the count of a forward pass not to depend on whether gradients are on. Seen:
# - nn.TransformerEncoderLayer in eval mode under no_grad: 0 FLOPs; with gradients on all of them. torch then takes a
#   fast path, one fused operation for the whole layer, which its counter has no formula for. It says nothing.
# - nn.MultiheadAttention in the same way: 0, though it has four linear layers and two products.
# - torchvision's ViT-B/16 calls the latter in each block, so an evaluation of one image counts about a third less.
#   timm's ViT-B/16, whose attention has layers of its own, is counted alike either way.
# - torch.backends.mha.set_fastpath_enabled(False) gives the whole count, under no_grad as well.
# So: who counts a torchvision transformer switches the fast path off for the count.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 timm==1.0.31
cat >"$folder/check.py" <<'PY'
import timm
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

PINNED = {"torch": torch.__version__.partition("+")[0], "torchvision": torchvision.__version__.partition("+")[0]}
assert PINNED == {"torch": "2.15.0", "torchvision": "0.29.2"}, PINNED


def counted(call, gradients):
    with torch.set_grad_enabled(gradients), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


L, D = 16, 32
x = torch.zeros(1, L, D)
layer = nn.TransformerEncoderLayer(D, 4, 2 * D, batch_first=True).eval()
attention = nn.MultiheadAttention(D, 4, batch_first=True).eval()
of_attention = 2 * (4 * L * D * D + 2 * L * L * D)  # four linear layers, two products; 2 FLOPs a multiply-add
whole = of_attention + 2 * (2 * L * D * 2 * D)
for name, call, closed in (
    ("TransformerEncoderLayer", lambda: layer(x), whole),
    ("MultiheadAttention", lambda: attention(x, x, x, need_weights=False), of_attention),
):
    on, off = (counted(call, gradients) for gradients in (True, False))
    torch.backends.mha.set_fastpath_enabled(False)
    slow = counted(call, False)
    torch.backends.mha.set_fastpath_enabled(True)
    print(f"{name}: gradients on {on}, off {off}, off without the fast path {slow}, closed form {closed}")
    assert (on, off, slow) == (closed, 0, closed)

images = torch.zeros(1, 3, 224, 224)
for name, network in (
    ("torchvision", torchvision.models.vit_b_16().eval()),
    ("timm", timm.create_model("vit_base_patch16_224").eval()),
):
    on, off = (counted(lambda: network(images), gradients) for gradients in (True, False))
    print(f"ViT-B/16 of {name}: gradients on {on / 1e9:.2f} GFLOPs, off {off / 1e9:.2f}, {off / on:.2f} of it")
    assert (off == on) if name == "timm" else 0.6 < off / on < 0.75
PY
cd "$folder"
"$folder/venv/bin/python" "$folder/check.py" 2>/dev/null
echo "as stated"
