"""The environment of a run: every installed package with its version, listed once for all runs in it."""

import hashlib
import importlib.metadata
import os
import platform
import sysconfig
from functools import cache
from pathlib import Path

from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.datasets.io import write_bytes

_NODE = "VISUAL_DECATHLON_NODE"


@cache
def installed() -> str:
    """Lines `name==version`: Python and all packages that it can import, as pip lists them, by name.

    Copies of packages that another package carries inside itself are left out: `import ray` puts some on the path, and
    the environment would seem another one in the processes that Ray starts.
    """
    found = [package for package in importlib.metadata.distributions() if not _carried(package)]
    lines = {f"{(package.name or 'unknown').lower().replace('_', '-')}=={package.version}" for package in found}
    return "\n".join([f"python=={platform.python_version()}", *sorted(lines), ""])


def _carried(package: importlib.metadata.Distribution) -> bool:
    place = Path(str(package.locate_file("")))
    sites = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    return any(site in place.parents for site in sites)


def environment() -> str:
    """The digest of `installed`, 16 hexadecimal digits."""
    return hashlib.sha256(installed().encode("utf-8", "backslashreplace")).hexdigest()[:16]


def list_environment(results: Path) -> None:
    """Write the list of this environment below a results folder, unless it is there. Raises InputError as a write."""
    path = ResultsFolder(results).environment(environment())
    if not path.is_file():
        write_bytes(installed().encode("utf-8", "backslashreplace"), path)


def name_node(name: str) -> None:
    """Let records of this process, and of those that it starts, name the machine of a cluster."""
    os.environ[_NODE] = name


def node() -> str | None:
    """The name that `name_node` gave; None where the run is not executed on a cluster."""
    return os.environ.get(_NODE)
