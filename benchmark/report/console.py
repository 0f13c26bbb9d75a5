"""The console that every command prints on: text is never markup, and cannot control the terminal."""

import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from visual_decathlon.datasets.text import printable


class PlainConsole(Console):
    """Prints names from outside as plain text: `[red]` is no markup, and no escape sequence reaches the terminal.

    On a terminal a line is as wide as the terminal; elsewhere it has `wide` columns.
    """

    def __init__(self, wide: int | None = None, **options):
        width = None if sys.stdout.isatty() else wide
        super().__init__(highlight=False, markup=False, emoji=False, **{"width": width, **options})

    def render_str(self, text: str, **options) -> Text:
        """Make the text printable before rich measures its width, so that a table's lines stay straight."""
        return super().render_str(_printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Make the rest printable too, such as `Text` objects; `control` segments are rich's own and stay."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else _printable(text), style, control)


def _printable(text: str) -> str:
    return text if text.isprintable() else "\n".join(map(printable, text.split("\n")))
