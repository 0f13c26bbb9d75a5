#!/usr/bin/env bash
# torch 2.15.0, timm 1.0.31 (torchvision 0.29.2): FlopCounterMode around an evaluation, `with torch.no_grad()`.
#
# One expects the count of a forward pass not to depend on which parameters are trainable. Seen:
# - a module that is called with an expanded parameter, as a class token repeated for the batch: with a trainable token
#   the pass under no_grad ends in AssertionError "Expected gradient function to be set"; with the token frozen, or with
#   gradients on, or with the token as it is, the count is right.
# - timm's CaiT and PiT are such networks: a fresh model in eval mode under no_grad is not counted; after
#   requires_grad_(False) it is. ViT, DeiT, Swin and others, which concatenate the token first, are counted either way.
# So: who counts a trained network freezes its parameters for the count.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 timm==1.0.31
cat >"$folder/check.py" <<'PY'
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

PINNED = {"torch": torch.__version__.partition("+")[0], "timm": timm.__version__}
assert PINNED == {"torch": "2.15.0", "timm": "1.0.31"}, PINNED


class Reader(nn.Module):
    """Calls a linear layer with its token, repeated for the batch or not."""

    def __init__(self, repeated):
        super().__init__()
        self.token, self.layer, self.repeated = nn.Parameter(torch.zeros(1, 1, 4)), nn.Linear(4, 4), repeated
        self.inner = nn.Sequential(self.layer)

    def forward(self, x):
        return x + self.inner(self.token.expand(len(x), -1, -1) if self.repeated else self.token)


def counted(network, x, gradients=False):
    """FLOPs of a pass, or the message of the error."""
    try:
        with torch.set_grad_enabled(gradients), FlopCounterMode(display=False) as counter:
            network.eval()(x)
        return counter.get_total_flops()
    except AssertionError as error:
        return str(error)


message = "Expected gradient function to be set"
x = torch.zeros(2, 1, 4)
for repeated, gradients, trained in ((True, False, True), (True, True, True), (True, False, False), (False, False, True)):
    network = Reader(repeated)
    network.token.requires_grad_(trained)
    got = counted(network, x, gradients)
    print(f"repeated {repeated}, gradients {gradients}, token trained {trained}: {got}")
    assert got == (message if (repeated, gradients, trained) == (True, False, True) else 32 * (1 + repeated)), got

images = torch.zeros(1, 3, 224, 224)
for name, fails in (("cait_xxs24_224", True), ("pit_ti_224", True), ("vit_tiny_patch16_224", False)):
    network = timm.create_model(name)
    first = counted(network, images)
    then = counted(network.requires_grad_(False), images)
    print(f"{name}: fresh {first}, frozen {then}")
    assert (first == message) == fails and isinstance(then, int) and (fails or first == then), name
PY
cd "$folder"
"$folder/venv/bin/python" "$folder/check.py" 2>/dev/null
echo "as stated"
