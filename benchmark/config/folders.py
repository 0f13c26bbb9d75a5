"""Where the suite lies, where it works, and what comes with it."""

from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
"""The folder of benchmark, datasets, methods and results: a checkout, or the installed package."""

IN_CHECKOUT = (HOME / "pyproject.toml").is_file()

WORK = HOME if IN_CHECKOUT else Path.cwd()
"""The folder below which results and caches go by default: the checkout, or where an installed command is typed."""

SHIPPED = HOME / "results" / "standin"
"""Records, adapters' backbones and tables of the stand-ins, as they come with the suite."""

PUBLISHED = HOME / "results" / "published"
"""Figures read in papers, as CSV files."""
