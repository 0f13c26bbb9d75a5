"""The console that every command prints on: text is text, no markup, and nothing in it steers the terminal."""

import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from visual_decathlon.datasets.text import printable


class PlainConsole(Console):
    """Shows names from outside as they are: no `[red]` in one is markup, no escape sequence reaches the terminal.

    A terminal is as wide as it is; elsewhere a line has `wide` columns.
    """

    def __init__(self, wide: int | None = None, **options):
        width = None if sys.stdout.isatty() else wide
        super().__init__(highlight=False, markup=False, emoji=False, **{"width": width, **options})

    def render_str(self, text: str, **options) -> Text:
        """Before its width is measured: a table's lines stay straight."""
        return super().render_str(_printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What was no plain string before (`Text`), too; `control` is rich's own."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else _printable(text), style, control)


def _printable(text: str) -> str:
    return text if text.isprintable() else "\n".join(map(printable, text.split("\n")))
