"""Several texts of one prompt as rich draws them: a row each, while they grow within
the screen's height, and whole at the end. Knows no engine and no command.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minigpt_repl.compare.comparison import Comparison
from minigpt_repl.compare.view import (
    CURSOR,
    FAINT,
    GAP,
    TextsView,
    column_names,
    label_width,
    seed_label,
)
from minigpt_repl.shown import shown

SHOWN_PROMPT = 3
"""Lines of a prompt that are shown while texts grow: its end."""


@dataclass(frozen=True)
class Row:
    """A text and what tells it from the others."""

    label: str
    text: str
    is_growing: bool = False


@dataclass(frozen=True)
class RowsView:
    """Texts one below the other.

    Attributes:
        prompt: what they continue.
        rows: the texts.
        is_whole: whether all of each is shown; else as many lines of each as the
            screen has room for: its last ones.
    """

    prompt: str
    rows: Sequence[Row]
    is_whole: bool = False

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        prompt = _lines(console, self.prompt, options.max_width)
        if not self.is_whole:
            prompt = prompt[-max(1, min(SHOWN_PROMPT, options.max_height // 4)) :]
        for line in prompt:
            line.stylize("bold")
            yield line
        rows, lines, left = self.rows, None, 0
        if not self.is_whole:
            room = max(1, options.max_height - 1 - len(prompt))
            if len(rows) > room:
                room = max(1, room - 1)
                left = len(rows) - room
                rows = sorted(rows, key=lambda row: not row.is_growing)[:room]
            lines = max(1, room // max(1, len(rows)))
        labels = [row.label for row in rows]
        indent = label_width(labels, options.max_width) + GAP
        for row in rows:
            label = Text(row.label, style=FAINT)
            label.truncate(indent - GAP, overflow="ellipsis", pad=True)
            text = row.text.strip() + CURSOR * row.is_growing
            wrapped = _lines(console, text, options.max_width - indent)
            for place, line in enumerate(wrapped[-lines:] if lines else wrapped):
                before = label if not place else " " * (indent - GAP)
                yield Text.assemble(before, " " * GAP, line)
        if left:
            yield Text(f"and {left} more", style=FAINT)


def _lines(console: Console, text: str, width: int) -> list[Text]:
    wrapped = Text(shown(text).expandtabs(1)).wrap(
        console, max(1, width), overflow="fold"
    )
    return list(wrapped)


@dataclass(frozen=True)
class GrowingView:
    """A comparison while it is made: side by side if that fits, else a row a text."""

    comparison: Comparison

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        beside = TextsView(self.comparison)
        lines = console.render_lines(beside, options, pad=False)
        if len(lines) < options.max_height:
            yield beside
        else:
            rows = list(_rows(self.comparison))
            yield RowsView(self.comparison.plan.prompt, rows)


def _rows(comparison: Comparison) -> Iterator[Row]:
    """The texts that are there."""
    names = column_names(comparison)
    for name, column in zip(names, comparison.columns, strict=True):
        for index, text in enumerate(column.texts):
            label = f"{name} {seed_label(comparison, column, index)}"
            is_growing = index >= len(column.generations)
            yield Row(label if comparison.plan.count > 1 else name, text, is_growing)
