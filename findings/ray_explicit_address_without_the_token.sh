#!/usr/bin/env bash
# Ray 2.60.0: a cluster and a driver of the same user on the same machine, with a token in ~/.ray/auth_token.
#
# One expects the driver to reach the cluster by the address that `ray start` printed. Seen:
# - `ray start --head` finds the token and asks for it from then on.
# - ray.init("auto") finds the cluster and shows the token: it works.
# - ray.init("host:port") of the same cluster, or RAY_ADDRESS=host:port, does not show it: after about 20 s, and a line a
#   second on stderr, a ConnectionError that says nothing of tokens.
# - With RAY_AUTH_MODE=token the same call works. The token appears by itself: ray.init() that starts a local cluster
#   writes one. So a cluster that was reached by its address yesterday is out of reach after a local ray.init().
# - The other way round, RAY_AUTH_MODE=token against a cluster that was started without a token: ray.init and tasks work,
#   and an actor placed on a node is cancelled before it starts, with no word of tokens either.
# So: a program that takes an address sets RAY_AUTH_MODE=token where the user has a token.
set -euo pipefail
folder=$(mktemp -d)
export HOME="$folder" RAY_USAGE_STATS_ENABLED=0 RAY_TMPDIR="$folder/ray"
mkdir "$folder/ray"
trap '"$folder/venv/bin/ray" stop --force >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check ray==2.60.0
cat >"$folder/connect.py" <<'PY'
import sys

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

ray.init(sys.argv[1], log_to_driver=False)


@ray.remote(num_cpus=0)
class Actor:
    def answer(self):
        return 42


here = On(ray.get_runtime_context().get_node_id(), soft=False)
print("task", ray.get(ray.remote(lambda: 42).remote()))
print("actor", ray.get(Actor.options(scheduling_strategy=here).remote().answer.remote()))
PY
cd "$folder"
python="$folder/venv/bin/python"
"$folder/venv/bin/ray" get-auth-token --generate >/dev/null 2>&1
"$folder/venv/bin/ray" start --head --port=26379 --num-cpus=1 --include-dashboard=false >"$folder/start" 2>&1
address=$(grep -oE "address='[^']+'" "$folder/start" | head -n 1 | cut -d"'" -f2)
address=${address:-127.0.0.1:26379}
echo "auto: $("$python" connect.py auto 2>/dev/null | tr '\n' ' ')"
if "$python" connect.py "$address" >"$folder/out" 2>"$folder/err"; then
  echo "the address alone works now" && exit 1
fi
grep -q "ConnectionError" "$folder/err"
echo "host:port: $(grep -c InvalidAuthToken "$folder/err") lines on stderr, then $(grep -o 'ConnectionError' "$folder/err" | tail -n 1)"
echo "host:port, RAY_AUTH_MODE=token: $(RAY_AUTH_MODE=token "$python" connect.py "$address" 2>/dev/null | tr '\n' ' ')"
"$folder/venv/bin/ray" stop --force >/dev/null 2>&1
RAY_AUTH_MODE=disabled "$folder/venv/bin/ray" start --head --port=26379 --num-cpus=1 --include-dashboard=false >/dev/null 2>&1
if RAY_AUTH_MODE=token "$python" connect.py "$address" >"$folder/out" 2>"$folder/err"; then
  echo "a token against a cluster without one works now" && exit 1
fi
grep -q "task 42" "$folder/out"
grep -q "cancelled before it started" "$folder/err"
echo "RAY_AUTH_MODE=token, a cluster without one: $(cat "$folder/out"), actor cancelled before it started"
echo "as stated"
