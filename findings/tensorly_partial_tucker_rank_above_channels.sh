#!/usr/bin/env bash
# tensorly 0.10.0 (numpy 2.4.6, scipy 1.17.1): partial_tucker with a rank above the channels of a convolution.
#
# The stem of a vision network has 3 input channels: a kernel of 64 x 3 x 3 x 3. Asked for ranks (32, 8) on the channel
# modes, one expects rank 3 on the second mode (3 is all there is) and an exact result, or an error.
# Seen: a warning says that the rank is set to 3, and the returned factor has 6 columns (for 4 it has 4), the columns
# beyond the third are random and not orthogonal, so two calls differ. The result is worse the more rank is
# asked for: relative error 0.00 at rank (32, 3), about 0.6 at (32, 4), 1.00 at (32, 8), the last as bad as no kernel at all.
# At (8, 8) the error that tensorly returns is 0.28, and the true one is 1.00.
# So: limit the ranks by the size of each unfolding before the call.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check tensorly==0.10.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PY'
import warnings

import numpy as np
import tensorly as tl
from tensorly.decomposition import partial_tucker

kernel = np.random.default_rng(0).standard_normal((64, 3, 3, 3))


def decompose(ranks):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.random.seed(0)
        (core, factors), errors = partial_tucker(kernel, rank=ranks, modes=[0, 1])
    rebuilt = tl.tenalg.multi_mode_dot(core, factors, modes=[0, 1])
    true = float(tl.norm(kernel - rebuilt) / tl.norm(kernel))
    overlap = float(np.abs(factors[1].T @ factors[1] - np.eye(factors[1].shape[1])).max())
    print(ranks, "factors", [f.shape for f in factors], f"error said {errors[-1]:.2f} true {true:.2f}",
          f"not orthogonal by {overlap:.2f}", {str(w.message)[-30:] for w in caught})
    return factors[1].shape[1], float(errors[-1]), true, overlap, " ".join(str(w.message) for w in caught)


columns, said, true, overlap, _ = decompose([32, 3])
assert columns == 3 and true < 1e-9 and overlap < 1e-9
columns, said, true, overlap, warned = decompose([32, 4])
assert columns == 4 and 0.3 < true < 0.8 and overlap > 0.3 and "to 3" in warned
columns, said, true, overlap, warned = decompose([32, 8])
assert columns == 6 and true > 0.99 and "to 3" in warned
columns, said, true, overlap, warned = decompose([8, 8])
assert said < 0.5 and true > 0.9, (said, true)
PY
echo "as stated"
