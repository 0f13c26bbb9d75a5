"""The connection to a cluster of Ray: its address, its token, and Ray kept quiet. Ray is imported here alone."""

import importlib.util
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError, reason

EXAMPLE = "head:6379"
ANSWER = 5.0  # s for a cluster to answer


def short(error: Exception) -> str:
    """The last line of an error of Ray, which says what happened; those before it are addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:160].rstrip(".")


def check_cluster() -> None:
    """Raise InputError where Ray is not installed, or nothing listens where RAY_ADDRESS says.

    Ray itself would try for more than five minutes.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError("ray needs the extra of this name: `pip install '.[ray]'`", field="engine")
    address = _address()
    if "://" in address:
        raise InputError(f"RAY_ADDRESS={address}: run the command on a machine of the cluster, with host:port")
    if address in ("local", "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port[:6]) < 2**16:
        raise InputError(f"RAY_ADDRESS={address} is no address; give host:port, as {EXAMPLE}, or auto")
    try:
        _reach(address)
    except OSError as error:
        raise InputError(
            f"RAY_ADDRESS={address}: no cluster answers ({reason(error)}); give the host:port that `ray start --head` "
            "printed, or auto for the cluster of this machine"
        ) from None


def _address() -> str:
    return os.environ.get("RAY_ADDRESS", "").strip() or "local"


def connected() -> Any:
    """Ray, connected to a cluster. Raises InputError where it is not installed, or the cluster does not answer."""
    check_cluster()
    address = _address()
    # `import ray` reads these. Without the first, Ray prints dozens of lines about a lost node, logs off or not.
    quiet = {"RAY_DEDUP_LOGS_SKIP_REGEX": "(?s).*", "RAY_USAGE_STATS_ENABLED": "0"}
    if address != "local":
        quiet["RAY_NUM_REDIS_GET_RETRIES"] = "1"  # not 20 tries of 40 s where something else listens
    os.environ.update({name: os.environ.get(name, value) for name, value in quiet.items()})
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    own = {"num_cpus": cores(), "include_dashboard": False, "object_store_memory": 2**29} if address == "local" else {}
    try:
        with _signals_kept():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        if address == "auto":
            raise InputError("RAY_ADDRESS=auto: no Ray runs on this machine; `ray start --head` starts it") from None
        raise InputError(f"RAY_ADDRESS={address}: no cluster answers ({short(error)}); see `ray status`") from None
    return ray


def use_token() -> bool:
    """Let Ray show the user's token, if there is one and RAY_AUTH_MODE does not decide; returns whether it does.

    A cluster that `ray start` made asks for it then. Ray alone shows it only to a cluster that it finds by itself.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return False
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    found = bool(named) or Path.home().joinpath(".ray", "auth_token").is_file()
    if found:
        os.environ["RAY_AUTH_MODE"] = "token"
    return found


def _reach(address: str) -> None:
    """Raise OSError where nothing listens at host:port."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()


def answers(address: str, tries: int = 3) -> bool:
    """Whether something listens at host:port, now or a second or two later."""
    for left in range(tries - 1, -1, -1):
        try:
            _reach(address)
            return True
        except OSError:
            time.sleep(1.0 if left else 0.0)
    return False


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself while it connects, and keeps it; within this it cannot."""
    real = signal.signal
    signal.signal = lambda number, handler: signal.getsignal(number)
    try:
        yield
    finally:
        signal.signal = real
