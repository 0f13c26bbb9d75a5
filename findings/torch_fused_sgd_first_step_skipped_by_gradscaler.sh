#!/usr/bin/env bash
# PyTorch 2.15.0: SGD(momentum=0.9, fused=True) under GradScaler, where the very first step overflows (usual: the scale
# starts at 65,536 in order to come down).
#
# One expects a skipped step to leave weights and momentum as they were; plain and foreach SGD do. Fused SGD takes
# memory for the momentum as it finds it, is told to skip, and fills it no more: from the second step on, what lay in
# that memory counts as momentum. Seen: a second step with a gradient of 0 moves most of 1,000 weights, by what another
# tensor had left there (123); without `fused` none moves. No warning. On a new process's fresh memory, which is 0, it
# does not show, so a small trial passes.
# So: fill `optimizer.state[p]["momentum_buffer"]` with zeros before the first step; its result is the same otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.15.0 numpy==2.4.6
cat >"$folder/check.py" <<'PY'
import torch


def moved(fused, filled=False):
    """Of 1,000 weights of 1 how many differ after a step that overflows and one whose gradients are 0."""
    p = torch.nn.Parameter(torch.ones(1000))
    left = [torch.full((1000,), 123.0) for _ in range(50)]
    del left
    optimizer = torch.optim.SGD([p], 0.1, 0.9, fused=fused)
    if filled:
        optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    scaler = torch.amp.GradScaler("cpu")
    for slope in (1e38, 0.0):
        optimizer.zero_grad()
        scaler.scale((p * slope).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    return int((p.detach() != 1).sum())


plain, fused, filled = moved(False), moved(True), moved(True, filled=True)
print("weights that moved: plain", plain, "fused", fused, "fused, momentum filled with 0", filled)
assert plain == filled == 0 and fused > 500
PY
"$folder/venv/bin/python" "$folder/check.py"
echo "as stated"
