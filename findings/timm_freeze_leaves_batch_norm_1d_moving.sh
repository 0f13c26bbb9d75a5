#!/usr/bin/env bash
# timm 1.0.31 (torch 2.15.0, torchvision 0.29.2): timm.utils.freeze on a network with batch norm behind linear layers.
#
# One expects a network of which everything is frozen to compute the same in training mode (there is no dropout in it),
# and its state to stay as it is. That holds for ResNets, EfficientNets and RegNets: `freeze` replaces their BatchNorm2d,
# with or without activation, and `unfreeze` puts it back to the bit. BatchNorm1d is left as it is, only without
# gradients. LeViT has it behind every linear layer, 48 of them: in training mode a batch of its "frozen" network is
# normalised by its own statistics, the outputs change by more than their own size, and the running statistics move.
# After `unfreeze` and `eval` the network is another one, though no optimiser ever ran.
# So: call `eval()` on batch norm modules that are to stay as they are, of every dimension, and compare a state dict
# from before with one from after an epoch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  timm==1.0.31 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat >"$folder/check.py" <<'PY'
import warnings

import timm
import torch
from timm.utils import freeze, unfreeze
from torch import nn

warnings.filterwarnings("ignore")
x = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
for name, ones in (("resnet18", 0), ("efficientnet_b0", 0), ("regnetx_002", 0), ("levit_128s", 48)):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).eval()
    assert sum(isinstance(m, nn.BatchNorm1d) for m in model.modules()) == ones, name
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        wanted = model(x)
        freeze(model)
        assert not any(p.requires_grad for p in model.parameters())
        change = ((model.train()(x) - wanted).abs().max() / wanted.abs().max()).item()
        unfreeze(model)
    after = model.eval().state_dict()
    moved = [key for key, value in before.items() if not torch.equal(after[key], value)]
    print(f"{name}: output in training mode off by {change:.1g}, {len(moved)} of {len(before)} tensors moved")
    if ones:
        assert change > 1 and len(moved) == 3 * ones and all("running" in k or "num_batches" in k for k in moved)
    else:
        assert change < 1e-5 and not moved
PY
"$folder/venv/bin/python" "$folder/check.py"
