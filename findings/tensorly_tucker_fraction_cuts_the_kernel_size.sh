#!/usr/bin/env bash
# tensorly 0.10.0 (numpy 2.4.6, scipy 1.17.1): tucker with a fraction as rank, on the kernel of a convolution.
#
# `rank=0.5` asks for about half of the parameters. One expects the savings where they are, in the channels.
# Seen: all four modes shrink by one common factor, so that the 3 x 3 window becomes 2 x 2 (fractions 0.25 and 0.5) and
# 1 x 1 (0.1): at 0.1 a 3 x 3 convolution of 128 x 64 channels is a 1 x 1 convolution times a fixed window.
# The steps are coarse (0.25 gives 29 % of the parameters, 0.75 gives 95 %), and on a random kernel Tucker on the
# channels alone, given no more parameters, is off by less: relative error 0.70 against 0.80 at fraction 0.5.
# `partial_tucker`, which works on the channels alone, takes no fraction: TypeError, 'float' object is not iterable.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check tensorly==0.10.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PY'
import warnings

import numpy as np
import tensorly as tl
from tensorly.decomposition import partial_tucker, tucker

warnings.simplefilter("ignore")
kernel = np.random.default_rng(0).standard_normal((128, 64, 3, 3))
size = lambda core, factors: core.size + sum(f.size for f in factors)
off = lambda rebuilt: float(tl.norm(kernel - rebuilt) / tl.norm(kernel))
windows = {}
for fraction in (0.1, 0.25, 0.5, 0.75):
    core, factors = tucker(kernel, rank=fraction, n_iter_max=5)
    windows[fraction] = core.shape[2:]
    share, error = size(core, factors) / kernel.size, off(tl.tucker_to_tensor((core, factors)))
    print(f"fraction {fraction}: core {core.shape}, {share:.1%} of the parameters, relative error {error:.3f}")
    if fraction == 0.5:
        half, half_error = size(core, factors), error
assert windows == {0.1: (1, 1), 0.25: (2, 2), 0.5: (2, 2), 0.75: (3, 3)}, windows
out = next(r for r in range(128, 0, -1) if r * 64 // 128 and 128 * r + 64 * (r // 2) + 9 * r * (r // 2) <= half)
(core, factors), _ = partial_tucker(kernel, rank=[out, out // 2], modes=[0, 1], n_iter_max=5)
error = off(tl.tenalg.multi_mode_dot(core, factors, modes=[0, 1]))
print(f"channels alone, ranks {(out, out // 2)}: {size(core, factors) / kernel.size:.1%}, relative error {error:.3f}")
assert size(core, factors) <= half and error < half_error
try:
    partial_tucker(kernel, rank=0.5, modes=[0, 1])
except TypeError as raised:
    print("partial_tucker:", raised)
else:
    raise SystemExit("partial_tucker takes a fraction now")
PY
echo "as stated"
