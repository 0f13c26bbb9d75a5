#!/usr/bin/env bash
# torch 2.15.0, torchvision 0.29.2, timm 1.0.31: which transformers call F.scaled_dot_product_attention, and with what.
#
# One expects each attention of a timm or torchvision transformer to call it once, with (images, heads, tokens,
# channels): that is what a hook on it, an attention map or learned keys rely on. Seen, for a pass in eval mode:
# - ViT, DeiT, EVA02, BEiT, PiT, VOLO: once an attention, as expected.
# - Swin: never by default. timm calls it there only with TIMM_FUSED_ATTN=2, which must be set before timm is imported,
#   or after `fused_attn = True` on its modules. torchvision's Swin never does; torchvision's ViT only with gradients on.
# - XCiT: by default only for its class token. With `fused_attn` set, once an attention, but over channels: the "tokens"
#   are the channels of a head and the "channels" the patches, so that the last axis grows with the image.
# - CaiT: only for its class token; all its other blocks write the product out.
# - Twins and NesT: with a fifth axis for windows, on which the heads are at different places.
# - a ViT with timm's differential attention: twice an attention.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 timm==1.0.31
cat >"$folder/check.py" <<'PY'
import os
import sys

import timm
import torch
import torch.nn.functional as F
import torchvision

PINNED = {"torch": torch.__version__.partition("+")[0], "timm": timm.__version__}
assert PINNED == {"torch": "2.15.0", "timm": "1.0.31"}, PINNED
own, seen = F.scaled_dot_product_attention, []


def watched(q, k, v, *args, **options):
    seen.append((tuple(q.shape), tuple(k.shape)))
    return own(q, k, v, *args, **options)


F.scaled_dot_product_attention = watched


def calls(network, size, gradients=False):
    seen.clear()
    with torch.set_grad_enabled(gradients):
        network.eval()(torch.zeros(1, 3, size, size))
    return list(seen)


SMALL = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 4}
SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "depths": (2, 2), "embed_dim": 16, "num_heads": (2, 2)}
if sys.argv[1] == "swin":
    got = len(calls(timm.create_model("swin_tiny_patch4_window7_224", **SWIN), 32))
    fused = os.environ.get("TIMM_FUSED_ATTN", "")
    print(f"swin, TIMM_FUSED_ATTN={fused or 'not set'}: {got} calls of 4 attentions")
    assert got == (4 if fused == "2" else 0)
    raise SystemExit

for name, arguments, size, attentions in (
    ("vit_tiny_patch16_224", SMALL, 32, 2),
    ("deit_tiny_patch16_224", SMALL, 32, 2),
    ("eva02_tiny_patch14_224", SMALL, 32, 2),
    ("beit_base_patch16_224", SMALL, 32, 2),
    ("pit_ti_224", {}, 224, 12),
):
    got = calls(timm.create_model(name, **arguments), size)
    print(f"{name}: {len(got)} calls of {attentions} attentions, first {got[0][0]}")
    assert len(got) == attentions and all(len(q) == 4 and q[2] > q[3] / 2 for q, _ in got)



def fused(network):
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = True
    return network


got = calls(fused(timm.create_model("swin_tiny_patch4_window7_224", **SWIN)), 32)
print(f"swin with fused_attn set: {len(got)} calls of 4 attentions")
assert len(got) == 4
vit, shifted = torchvision.models.vit_b_32(), torchvision.models.swin_t()
counts = [len(calls(vit, 224, gradients)) for gradients in (True, False)] + [len(calls(shifted, 224, True))]
print(f"torchvision: vit_b_32 with gradients {counts[0]}, without {counts[1]}; swin_t {counts[2]}, of 12 attentions")
assert counts == [12, 0, 0]

xcit = {"patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 4}
for size, patches in ((32, 16), (64, 64)):
    network = timm.create_model("xcit_nano_12_p8_224", img_size=size, **xcit)
    usual, got = calls(network, size), calls(fused(network), size)
    print(f"xcit, {patches} patches, 4 heads of 8 channels: queries {usual[0][0]}, with fused_attn set {got[0][0]}")
    assert {q for q, _ in usual} == {(1, 4, 1, 8)} and got[0][0] == (1, 4, 8, patches)
got = calls(timm.create_model("cait_xxs24_224", depth_token_only=1, **SMALL), 32)
print(f"cait: {len(got)} calls of 3 attentions, queries {got[0][0]}")
assert len(got) == 1 and got[0][0][2] == 1
sizes = {"embed_dims": (16,) * 4, "num_heads": (2,) * 4, "depths": (1,) * 4, "wss": (2,) * 4}
twins = calls(timm.create_model("twins_svt_small", img_size=32, **sizes), 32)
nest = calls(timm.create_model("nest_tiny"), 224)
print(f"twins: queries {twins[0][0]} with 2 heads; nest: {nest[0][0]} with 3 heads")
assert len(twins[0][0]) == len(nest[0][0]) == 5 and twins[0][0][2] == 2 and nest[0][0][1] == 3
got = calls(timm.create_model("vit_tiny_patch16_224", attn_layer="diff", **SMALL), 32)
print(f"vit with differential attention: {len(got)} calls of 2 attentions")
assert len(got) == 4
PY
cd "$folder"
"$folder/venv/bin/python" "$folder/check.py" all 2>/dev/null
"$folder/venv/bin/python" "$folder/check.py" swin 2>/dev/null
TIMM_FUSED_ATTN=2 "$folder/venv/bin/python" "$folder/check.py" swin 2>/dev/null
echo "as stated"
