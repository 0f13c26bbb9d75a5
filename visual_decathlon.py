"""The import root in a checkout: `datasets`, `methods` and `benchmark` of it are the folders next to this file.

The installed package has the same three in a folder `visual_decathlon` (pyproject.toml maps them). The suite has no
package `datasets` at the top level, because Hugging Face's package has that name.
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parent)]
