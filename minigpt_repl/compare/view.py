"""A comparison as rich draws it: texts side by side, figures in a table, and a text
by the surprisal of its tokens.

Each view asks for the room when it is drawn, so it fits any terminal and a pipe
alike. What colour says is said by a mark too. Knows no engine and no command.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from minigpt_repl.compare.comparison import (
    Column,
    Comparison,
    figures,
    shared_words,
)
from minigpt_repl.compare.measures import Interval, Measure
from minigpt_repl.compare.spec import text_seed
from minigpt_repl.sampling.parameters import format_value
from minigpt_repl.shown import shown

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

NOT_QUALITY = (
    "Low perplexity is not quality: a text that repeats itself is very probable."
)
SPARKS = "▁▂▃▄▅▆▇█"

LEVELS = (1.0, 3.0, 6.0, 10.0)
"""Bits at which the next level begins."""

LEVEL_NAMES = (
    "under 1 bit",
    "1 to 3",
    "3 to 6",
    "6 to 10",
    "10 bits or more",
)
STYLES = ("green", "cyan", "yellow", "magenta", "bold red")
"""From the terminal's own palette, so that they suit a dark and a light one."""


def name_style(place: int) -> str:
    """How the name of a comparison's strategy is written."""
    return f"bold {STRATEGIES[place % len(STRATEGIES)]}"


def split_words(text: str) -> list[str]:
    """Words with the white space before them."""
    return re.findall(r"\s*\S+", text)


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
    """Columns for labels: as many as they need, but no more than their part.

    Args:
        labels: what stands before each row.
        room: columns in all.
        least: columns that they may take even where their part is smaller.
    """
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
        yield Text(shown(comparison.plan.prompt) or "[BOS]", style="bold")
        shared = [
            shared_words([split_words(column.texts[i]) for column in having])
            for i in range(comparison.plan.count)
            if (having := [c for c in columns if len(c.texts) > i])
        ]
        size = band_size(len(columns), options.max_width)
        for start in range(0, len(columns), size):
            yield Text("")
            yield _band(
                comparison, range(start, min(start + size, len(columns))), shared, size
            )


def _band(
    comparison: Comparison,
    places: Sequence[int],
    shared: Sequence[int],
    size: int,
) -> Table:
    columns = [comparison.columns[place] for place in places]
    table = Table(
        box=None,
        expand=True,
        pad_edge=False,
        padding=(0, GAP, 0, 0),
        header_style="",
        show_header=True,
    )
    for place, column in zip(places, columns, strict=True):
        table.add_column(_heading(column, place), ratio=1, overflow="fold")
    for _ in range(size - len(columns)):
        table.add_column("", ratio=1)  # the last row's texts are as wide as others
    rows = max((len(column.texts) for column in columns), default=0)
    for index in range(rows):
        cells = [_cell(comparison, c, index, shared) for c in columns]
        table.add_row(*cells, end_section=index < rows - 1)
    return table


def _heading(column: Column, place: int) -> Text:
    heading = Text(column.strategy.name, style=name_style(place))
    if column.strategy.words:
        heading.append(f" {column.strategy.words}", style="not bold default dim")
    return heading


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


def comparison_facts(comparison: Comparison) -> dict[str, str]:
    """How a comparison was made: all that is needed to make it again."""
    plan = comparison.plan
    return {
        "seed": str(plan.seed),
        "texts a strategy": str(plan.count),
        "length": f"{plan.length} tokens",
        "stop": plan.stop,
        "checkpoint": comparison.checkpoint_sha256,
        **comparison.versions,
    }


@dataclass(frozen=True)
class FiguresView:
    """The measures of every strategy, as many to a table as there is room for."""

    comparison: Comparison

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        names = column_names(self.comparison)
        measures = self.comparison.measures
        rows = [
            [format_interval(*figure) for figure in figures(column, measures)]
            for column in self.comparison.columns
        ]
        if self.comparison.varied is not None:
            names = [*names, "trend"]
            rows = [*rows, _trends(self.comparison)]
        # A chain's name may be long: it is wrapped, so that figures stay side by side.
        first = label_width(names, options.max_width, NARROWEST)
        widths = [
            max(len(measure.heading), *(len(row[i]) for row in rows))
            for i, measure in enumerate(measures)
        ]
        for places in fitting(widths, options.max_width - first):
            headings = [measures[place].heading for place in places]
            yield _figures_table(names, first, headings, rows, places)


def format_interval(measure: Measure, interval: Interval | None) -> str:
    """A mean and its 95% interval, such as `0.82 ± 0.03`; `-` for none."""
    if interval is None:
        return "-"
    mean = measure.write(interval.mean)
    if interval.half is None:
        return mean
    return f"{mean} ± {measure.write(interval.half)}"


def sparkline(values: Sequence[float | None]) -> str:
    """A bar for each value, the lowest at the bottom; a space for none."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    span = high - low or 1.0
    top = len(SPARKS) - 1
    return "".join(
        " " if value is None else SPARKS[round((value - low) / span * top)]
        for value in values
    )


def bar(part: float, width: int) -> str:
    """A bar of `part` (0 to 1) of a width, to an eighth of a column."""
    eighths = round(max(0.0, min(1.0, part)) * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _trends(comparison: Comparison) -> list[str]:
    trends = []
    for measure in comparison.measures:
        intervals = [column.figure(measure) for column in comparison.columns]
        means = [None if value is None else value.mean for value in intervals]
        trends.append(sparkline(means))
    return trends


def fitting(widths: Sequence[int], room: int) -> list[Sequence[int]]:
    """Places of columns in as few groups as fit into the room, about as long."""
    places = range(len(widths))
    for groups in places:
        size = -(-len(widths) // (groups + 1))
        cut = [places[start : start + size] for start in places[::size]]
        if all(sum(widths[i] + GAP for i in group) <= room for group in cut):
            return list(cut)
    return [[place] for place in places]


def _figures_table(
    names: Sequence[str],
    width: int,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    places: Sequence[int],
) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style=FAINT)
    table.add_column("", max_width=width, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        table.add_row(
            Text(name, style=name_style(number)), *(row[place] for place in places)
        )
    return table


def level(bits: float) -> int:
    """0 for a token that was expected, up to 4 for one that was not."""
    return sum(bits >= bound for bound in LEVELS)


def digit(bits: float) -> str:
    """Whole bits, at most 9; 9 also for the infinite and for no number."""
    return str(int(bits)) if bits < 9 else "9"


@dataclass(frozen=True)
class HeatView:
    """A text by the surprisal of its tokens, with a legend.

    Attributes:
        prompt: what stands before it.
        pieces: display form of each token, with the space before it.
        bits: surprisal of each token.
    """

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
        yield (
            legend()
            if has_color
            else Text(
                "the digit after a token is its surprisal in bits; 9 is 9 or more"
            )
        )


def legend() -> Text:
    """What the colours say."""
    text = Text("surprisal ", style="dim")
    for name, style in zip(LEVEL_NAMES, STYLES, strict=True):
        text.append("■ ", style=f"not dim {style}")
        text.append(f"{name}  ", style="not dim default")
    return text
