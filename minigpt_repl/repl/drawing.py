"""Draws with rich, for terminals, pipes and comparisons alike.

The last of the places where a string of others leaves: whatever a table or a text
holds, no character of it steers the terminal. Knows nothing of what is drawn.
"""

from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from minigpt_repl.shown import shown


def draw(
    content: RenderableType,
    out: TextIO,
    width: int,
    height: int | None = None,
    has_color: bool = False,
) -> None:
    """Write what rich can draw; a text is not wrapped if there is no `height`."""
    console = Console(
        file=out,
        width=width,
        height=height,
        force_terminal=has_color,
        no_color=not has_color,
        color_system="auto" if has_color else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    is_line = height is None and isinstance(content, Text)
    console.print(_Shown(content), soft_wrap=is_line)


@dataclass(frozen=True)
class _Shown:
    """What rich draws of something, the controls in its strings made visible."""

    content: RenderableType

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        for text, style, control in console.render(self.content, options):
            yield Segment(text if control else shown(text), style, control)
