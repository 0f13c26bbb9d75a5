"""`python -m benchmark` in a checkout, `python -m visual_decathlon.benchmark` anywhere: the command line."""

import sys
from pathlib import Path

from visual_decathlon.benchmark.cli.main import console

_CHECKOUT = str(Path(__file__).resolve().parents[1])
if _CHECKOUT in sys.path:  # to the end, so that an installed package `datasets` comes before the folder
    sys.path.remove(_CHECKOUT)
    sys.path.append(_CHECKOUT)

if __name__ == "__main__":
    console()
