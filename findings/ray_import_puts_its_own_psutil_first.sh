#!/usr/bin/env bash
# Ray 2.60.0: `import ray` in an environment that has a psutil of its own.
#
# One expects an import to leave alone what other imports find. Seen: Ray puts a folder of its package in front of
# sys.path, in which it carries psutil and colorama with their metadata. After `import ray`, `import psutil` gives Ray's
# version and not the one that was installed and pinned; importlib.metadata.version("psutil") changes with it; and
# importlib.metadata.distributions() lists colorama, which was never installed. The processes that Ray starts have this
# path from the start, so a record of versions made there differs from one made before the import.
# So: a list of an environment leaves out what lies inside another package; who needs the pinned psutil imports it first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check ray==2.60.0 psutil==5.9.8
cat >"$folder/check.py" <<'PY'
import importlib.metadata as metadata
import sys


def state():
    names = {package.name for package in metadata.distributions()}
    return metadata.version("psutil"), "colorama" in names


before = state()
import ray  # noqa: E402

after = state()
import psutil  # noqa: E402

place = psutil.__file__.partition("site-packages/")[2]
print(f"before: psutil {before[0]}, colorama listed: {before[1]}")
print(f"after:  psutil {after[0]}, colorama listed: {after[1]}; import psutil gives {psutil.__version__} of {place}")
assert ray.__version__ == "2.60.0" and before == ("5.9.8", False)
assert after[0] != "5.9.8" and after[1] and psutil.__version__ == after[0] and place.startswith("ray/")
assert sys.path[0].endswith("ray/thirdparty_files")
PY
cd "$folder"
"$folder/venv/bin/python" "$folder/check.py" 2>/dev/null
echo "as stated"
