"""The list of installed packages that records name."""

import hashlib
import importlib.metadata
import platform
import re
import sys
import sysconfig
from pathlib import Path

import pytest

from visual_decathlon.benchmark.records import environment as module
from visual_decathlon.benchmark.records.environment import environment, installed, list_environment


@pytest.fixture(autouse=True)
def anew():
    """The list is made once a process: these tests change what is installed."""
    installed.cache_clear()
    yield
    installed.cache_clear()


def package(folder: Path, name: str, version: str) -> None:
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_the_list_is_that_of_pip():
    first, *lines = installed().splitlines()
    assert first == f"python=={platform.python_version()}" and lines == sorted(lines)
    for name in ("torch", "numpy", "timm"):
        assert f"{name}=={importlib.metadata.version(name)}" in lines
    assert all(re.fullmatch(r"[a-z0-9.-]+==\S+", line) for line in lines), lines
    assert environment() == hashlib.sha256(installed().encode()).hexdigest()[:16]


def test_another_package_is_another_environment_and_a_carried_copy_is_not(tmp_path: Path, monkeypatch):
    before, site = environment(), tmp_path / "site"
    package(site, "My_Methods", "1.0")
    package(site / "ray" / "thirdparty_files", "carried", "2.0")
    monkeypatch.setattr(sys, "path", [*sys.path, str(site), str(site / "ray" / "thirdparty_files")])
    monkeypatch.setattr(module.sysconfig, "get_path", lambda name: str(site))
    installed.cache_clear()
    assert "my-methods==1.0" in installed() and "carried" not in installed() and environment() != before


def test_it_is_written_once_and_kept(tmp_path: Path):
    list_environment(tmp_path)
    (path,) = tmp_path.rglob("*.txt")
    assert path == tmp_path / "environments" / f"{environment()}.txt" and path.read_text() == installed()
    path.write_text("kept")
    list_environment(tmp_path)
    assert path.read_text() == "kept"


def test_the_suite_s_own_environment_has_nothing_carried():
    sites = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    here = {d.name.lower().replace("_", "-") for d in importlib.metadata.distributions(path=list(sites)) if d.name}
    assert here <= {line.partition("==")[0] for line in installed().splitlines()}
