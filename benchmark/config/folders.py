"""Folders: of the suite itself, of its output by default, and of the results that are shipped with it."""

from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
"""The folder that has benchmark, datasets, methods and results in it: a checkout, or the installed package."""

IN_CHECKOUT = (HOME / "pyproject.toml").is_file()

WORK = HOME if IN_CHECKOUT else Path.cwd()
"""The folder for results and caches by default: the checkout, or the working directory of an installed command."""

SHIPPED = HOME / "results" / "standin"
"""Records and tables of the stand-ins on the ResNet-26, and all backbones, which are shipped with the suite."""

SHIPPED_RECORDS = (SHIPPED, HOME / "results" / "standin-vit", HOME / "results" / "backbones")
"""The folders of all shipped records: the ResNet-26's, those on a vision transformer, those on other networks."""

PUBLISHED = HOME / "results" / "published"
"""Numbers published in papers, as CSV files."""
