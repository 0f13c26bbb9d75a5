"""The import root in a checkout: `datasets`, `methods` and `benchmark` of it are the folders next to this file.

An installed package has the same three below a folder `visual_decathlon` (pyproject.toml maps them), so that nothing of
the suite is called `datasets` at the top level, which is Hugging Face's name.
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parent)]
