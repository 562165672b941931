"""Texts as rich draws them: side by side, in rows, or by the surprisal of their tokens.

Each view asks for the room when it is drawn, so it fits any terminal and a pipe alike.
What colour says is said by a mark too.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from minigpt_repl.compare.comparison import Column, Comparison
from minigpt_repl.compare.spec import text_seed
from minigpt_repl.sampling.parameters import format_value
from minigpt_repl.shown import NO_PROMPT, shown

STRATEGIES = ("cyan", "yellow", "green", "magenta", "blue", "red")
"""Colours of strategies by their places, the same in texts, tables and plots."""
FAINT = "dim"
DIVERGED = "bold"
DIVERGENCE_MARK = "▸"
CURSOR = "▍"
SAME = "same for every seed"
NARROWEST = 24
"""Columns that a text needs to be read."""
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


def split_words(text: str) -> list[str]:
    """Words with the white space before them."""
    return re.findall(r"\s*\S+", text)


def shared_words(texts: Sequence[list[str]]) -> int:
    """How many words all texts have in common from the start; 0 for one text."""
    if len(texts) < 2:
        return 0
    same = takewhile(lambda words: len(set(words)) == 1, zip(*texts, strict=False))
    return len(list(same))


def shared_by_seed(texts: Sequence[Sequence[str]]) -> list[int]:
    """How many words the texts of each seed have in common from the start, of the
    texts of each strategy; some strategies may have fewer."""
    return [
        shared_words([split_words(each[i]) for each in texts if len(each) > i])
        for i in range(max(map(len, texts)))
    ]


def band_size(count: int, width: int) -> int:
    """How many texts stand side by side, so that all rows are about as full."""
    fit = max(1, (width + GAP) // (NARROWEST + GAP))
    bands = -(-count // fit)
    return -(-count // bands)


def column_names(comparison: Comparison) -> list[str]:
    """A short name for each strategy that tells it from the others."""
    columns = comparison.columns
    if comparison.varied is not None:
        name = comparison.varied
        return [
            f"{name}={format_value(column.strategy.parameters[name])}"
            for column in columns
        ]
    samplers = [column.strategy.sampler for column in columns]
    return [
        column.strategy.label
        if samplers.count(column.strategy.sampler) > 1
        else column.strategy.name
        for column in columns
    ]


def label_width(labels: Sequence[str], room: int, least: int = 0) -> int:
    """Columns for labels: as many as they need, but no more than their part of the
    room, or `least` where that is more."""
    needed = max(map(len, labels), default=0)
    return min(needed, max(least, int(room * WIDEST_LABEL)))


@dataclass(frozen=True)
class TextsView:
    """The texts side by side, stacked where there is no room.

    Words that all texts share from their start are dimmed; the first word of each
    that differs is marked.
    """

    comparison: Comparison

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        comparison = self.comparison
        columns = comparison.columns
        yield Text(shown(comparison.plan.prompt) or NO_PROMPT, style="bold")
        shared = shared_by_seed([column.texts for column in columns])
        size = band_size(len(columns), options.max_width)
        for start in range(0, len(columns), size):
            yield Text("")
            places = range(start, min(start + size, len(columns)))
            yield _band(comparison, places, shared, size)


def _band(
    comparison: Comparison, places: Sequence[int], shared: Sequence[int], size: int
) -> Table:
    columns = [comparison.columns[place] for place in places]
    table = Table(
        box=None, expand=True, pad_edge=False, padding=(0, GAP, 0, 0), header_style=""
    )
    for place, column in zip(places, columns, strict=True):
        heading = Text(column.strategy.name, style=name_style(place))
        if column.strategy.words:
            heading.append(f" {column.strategy.words}", style="not bold default dim")
        table.add_column(heading, ratio=1, overflow="fold")
    for _ in range(size - len(columns)):
        table.add_column("", ratio=1)  # the last row's texts are as wide as others
    rows = max((len(column.texts) for column in columns), default=0)
    for index in range(rows):
        table.add_row(*(_cell(comparison, each, index, shared) for each in columns))
    return table


def _cell(
    comparison: Comparison, column: Column, index: int, shared: Sequence[int]
) -> Text:
    cell = Text()
    if index >= len(column.texts):
        return cell
    between = "\n" if index else ""
    label = seed_label(comparison, column, index)
    cell.append(f"{between}{label}\n", style=FAINT)
    cell.append_text(marked_text(column.texts[index], shared[index]))
    if index >= len(column.generations):
        cell.append(CURSOR)
    return cell


def seed_label(comparison: Comparison, column: Column, index: int) -> str:
    """What tells a text of a strategy from its others."""
    if not column.is_drawn:
        return SAME
    return f"seed {text_seed(comparison.plan.seed or 0, index)}"


def marked_text(text: str, shared: int) -> Text:
    """A continuation, its first `shared` words dimmed, the next one marked."""
    marked = Text()
    for place, word in enumerate(map(shown, split_words(text))):
        body = word.lstrip()
        if place > 0:
            marked.append(word[: len(word) - len(body)])
        if place < shared:
            marked.append(body, style=FAINT)
        elif place == shared and shared > 0:
            marked.append(f"{DIVERGENCE_MARK}{body}", style=DIVERGED)
        else:
            marked.append(body)
    return marked


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
            rows = list(_rows_of(self.comparison))
            yield RowsView(self.comparison.plan.prompt, rows)


def _rows_of(comparison: Comparison) -> Iterator[Row]:
    """The texts that are there."""
    names = column_names(comparison)
    for name, column in zip(names, comparison.columns, strict=True):
        for index, text in enumerate(column.texts):
            label = f"{name} {seed_label(comparison, column, index)}"
            is_growing = index >= len(column.generations)
            yield Row(label if comparison.plan.count > 1 else name, text, is_growing)


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
        digits = "the digit after a token is its surprisal in bits; 9 is 9 or more"
        yield legend() if has_color else Text(digits)


def legend() -> Text:
    """What the colours say."""
    text = Text("surprisal ", style="dim")
    for name, style in zip(LEVEL_NAMES, STYLES, strict=True):
        text.append("■ ", style=f"not dim {style}")
        text.append(f"{name}  ", style="not dim default")
    return text
