"""Texts as rich draws them: one below the other, or by the surprisal of their tokens;
and what all views have in common.

Each view asks for the room when it is drawn, so it fits any terminal and a pipe alike.
What colour says is said by a mark too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minigpt_repl.shown import shown

STRATEGIES = ("cyan", "yellow", "green", "magenta", "blue", "red")
"""Colours of strategies by their places, the same in texts, tables and plots."""
FAINT = "dim"
CURSOR = "▍"
SAME = "same for every seed"
WIDEST_LABEL = 1 / 3
"""Part of the screen that what stands before texts, figures or dots may take."""
GAP = 2
SHOWN_PROMPT = 3
"""Lines of a prompt that are shown while texts grow: its end."""

LEVELS = (1.0, 3.0, 6.0, 10.0)
"""Bits at which the next level begins."""

LEVEL_NAMES = ("under 1 bit", "1 to 3", "3 to 6", "6 to 10", "10 bits or more")
STYLES = ("green", "cyan", "yellow", "magenta", "bold red")
"""From the terminal's own palette, so that they suit a dark and a light one."""


def name_style(place: int) -> str:
    """How the name of a comparison's strategy is written."""
    return f"bold {STRATEGIES[place % len(STRATEGIES)]}"


def label_width(labels: Sequence[str], room: int, least: int = 0) -> int:
    """Columns for labels: as many as they need, but no more than their part of the
    room, or `least` where that is more."""
    needed = max(map(len, labels), default=0)
    return min(needed, max(least, int(room * WIDEST_LABEL)))


def fitting(widths: Sequence[int], room: int) -> list[Sequence[int]]:
    """Places of columns in as few groups as fit into the room, about as long."""
    places = range(len(widths))
    for groups in places:
        size = -(-len(widths) // (groups + 1))
        cut = [places[start : start + size] for start in places[::size]]
        if all(sum(widths[i] + GAP for i in group) <= room for group in cut):
            return list(cut)
    return [[place] for place in places]


def spaced_words(text: str) -> list[str]:
    """Words with the white space before them."""
    return re.findall(r"\s*\S+", text)


@dataclass(frozen=True)
class Row:
    """A text and what tells it from the others."""

    label: str
    text: str
    is_growing: bool = False


@dataclass(frozen=True)
class RowsView:
    """Texts one below the other, after the prompt that they continue.

    If it `is_whole`, all of each is shown; else as many lines of each as the screen
    has room for: its last ones.
    """

    prompt: str
    rows: Sequence[Row]
    is_whole: bool = False

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        prompt = _wrapped(console, self.prompt, options.max_width)
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
            wrapped = _wrapped(console, text, options.max_width - indent)
            for place, line in enumerate(wrapped[-lines:] if lines else wrapped):
                before = label if not place else " " * (indent - GAP)
                yield Text.assemble(before, " " * GAP, line)
        if left:
            yield Text(f"and {left} more", style=FAINT)


def _wrapped(console: Console, text: str, width: int) -> list[Text]:
    whole = Text(shown(text).expandtabs(1))
    return list(whole.wrap(console, max(1, width), overflow="fold"))


def level(bits: float) -> int:
    """0 for a token that was expected, up to 4 for one that was not."""
    return sum(bits >= bound for bound in LEVELS)


def digit(bits: float) -> str:
    """Whole bits, at most 9; 9 also for the infinite and for no number."""
    return str(int(bits)) if bits < 9 else "9"


@dataclass(frozen=True)
class HeatView:
    """A text by the surprisal of its tokens in bits, with a legend."""

    prompt: str
    pieces: Sequence[str]
    bits: Sequence[float]

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        has_color = console.color_system is not None and not console.no_color
        text = Text(shown(self.prompt), style="dim")
        for piece, bits in zip(map(shown, self.pieces), self.bits, strict=True):
            if has_color:
                text.append(piece, style=f"not dim {STYLES[level(bits)]}")
            else:
                text.append(f"{piece}{digit(bits)}")
        yield text
        yield Text("")
        if not has_color:
            yield Text(
                "the digit after a token is its surprisal in bits; 9 is 9 or more"
            )
            return
        legend = Text("surprisal ", style="dim")
        for name, style in zip(LEVEL_NAMES, STYLES, strict=True):
            legend.append("■ ", style=f"not dim {style}")
            legend.append(f"{name}  ", style="not dim default")
        yield legend
