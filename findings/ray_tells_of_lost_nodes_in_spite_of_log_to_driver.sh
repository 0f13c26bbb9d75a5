#!/usr/bin/env bash
# Ray 2.60.0: ray.init(log_to_driver=False), and a node of the cluster that is killed.
#
# One expects a driver that was told to print no logs, at logging level ERROR, to print nothing of its own. Seen: when the
# node is lost, Ray prints its reasons in several dozen lines to the driver's standard output, with memory counters of
# the lost node, and the logging level does not matter: it is no log but an "error message", printed by a thread of its
# own. What filters it is a variable of the log deduplication, RAY_DEDUP_LOGS_SKIP_REGEX, read when Ray is imported.
# So: a program whose standard output is its result sets that variable before the import.
set -euo pipefail
folder=$(mktemp -d)
export HOME="$folder" RAY_USAGE_STATS_ENABLED=0 RAY_TMPDIR="$folder/ray" RAY_AUTH_MODE=disabled
mkdir "$folder/ray"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check ray==2.60.0
cat >"$folder/check.py" <<'PY'
import os
import signal
import time

import ray
from ray.cluster_utils import Cluster

assert ray.__version__ == "2.60.0"
small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=small)
node = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
(raylet,) = node.all_processes["raylet"]
os.kill(raylet.process.pid, signal.SIGKILL)
while sum(each["Alive"] for each in ray.nodes()) == 2:
    time.sleep(0.5)
time.sleep(3)  # for the thread that prints
ray.shutdown()
cluster.shutdown()
PY
cd "$folder"
plain=$("$folder/venv/bin/python" check.py 2>/dev/null | grep -c . || true)
filtered=$(RAY_DEDUP_LOGS_SKIP_REGEX='(?s).*' "$folder/venv/bin/python" check.py 2>/dev/null | grep -c . || true)
echo "lines on standard output: $plain; with the filter: $filtered"
[ "$plain" -gt 5 ] && [ "$filtered" -eq 0 ]
echo "as stated"
