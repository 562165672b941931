"""A comparison as rich draws it: texts side by side, figures, seeds as dots."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from minigpt_repl.compare.comparison import Column, Comparison
from minigpt_repl.compare.measures import (
    MEASURES,
    Interval,
    Measure,
    not_told_apart,
    texts_needed,
)
from minigpt_repl.compare.pieces import (
    CURSOR,
    FAINT,
    GAP,
    NOT_FINITE,
    Row,
    RowsView,
    fitting,
    label_width,
    name_style,
    spaced_words,
)
from minigpt_repl.shown import NO_PROMPT, shown

NOT_QUALITY = (
    "Low perplexity is not quality: a text that repeats itself is very probable."
)
NARROWEST = 24
"""Columns that a text needs to be read."""
DIVERGED = "bold"
DIVERGENCE_MARK = "▸"
SPARKS = "▁▂▃▄▅▆▇█"

SPREAD_FROM = 3
"""Texts a strategy from which on their spread says something."""

DOTS = " ·:•●"
ONLY = "◆"
WIDEST = 48


def notes(comparison: Comparison) -> Iterator[str]:
    """What a reader of a comparison should know, a line each."""
    yield NOT_QUALITY
    if comparison.is_interrupted:
        wanted = comparison.count * len(comparison.columns)
        yield f"stopped: {len(comparison.generations)} of {wanted} texts had begun"
    if any(made.stop_reason == "not_finite" for made in comparison.generations):
        yield NOT_FINITE


def below_texts(comparison: Comparison) -> Iterator[RenderableType]:
    """What is shown below the texts: the figures and, from some texts on, the dots."""
    yield ""
    yield FiguresView(comparison)
    if any(spreads(comparison)):
        yield ""
        yield SpreadView(comparison)


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
        yield Text(shown(self.comparison.prompt) or NO_PROMPT, style="bold")
        shared = shared_by_seed(self.comparison)
        widths = [NARROWEST] * len(self.comparison.columns)
        bands = fitting(widths, options.max_width + GAP)
        for places in bands:
            yield Text("")
            yield self._band(places, shared, len(bands[0]))

    def _band(self, places: Sequence[int], shared: Sequence[int], size: int) -> Table:
        """A row of columns, as wide as if there were `size` of them."""
        columns = [self.comparison.columns[place] for place in places]
        table = Table(box=None, expand=True, pad_edge=False, header_style="")
        table.padding = (0, GAP, 0, 0)
        for place, column in zip(places, columns, strict=True):
            heading = Text(column.strategy.name, style=name_style(place))
            if words := column.strategy.words:
                heading.append(f" {words}", style="not bold default dim")
            table.add_column(heading, ratio=1, overflow="fold")
        for _ in range(size - len(columns)):
            table.add_column("", ratio=1)
        for index in range(max(len(column.texts) for column in columns)):
            table.add_row(*(self._cell(each, index, shared[index]) for each in columns))
        return table

    def _cell(self, column: Column, index: int, shared: int) -> Text:
        cell = Text()
        if index < len(column.texts):
            label = self.comparison.seed_label(column, index)
            cell.append(f"\n{label}\n" if index else f"{label}\n", style=FAINT)
            cell.append_text(marked_text(column.texts[index], shared))
            if index >= len(column.generations):
                cell.append(CURSOR)
        return cell


def shared_words(texts: Sequence[list[str]]) -> int:
    """How many words all texts have in common from the start; 0 for one text."""
    if len(texts) < 2:
        return 0
    same = takewhile(lambda words: len(set(words)) == 1, zip(*texts, strict=False))
    return len(list(same))


def shared_by_seed(comparison: Comparison) -> list[int]:
    """How many words the texts of each seed have in common from the start; a strategy
    may have fewer texts than others."""
    by_seed = zip_longest(*(column.texts for column in comparison.columns))
    return [
        shared_words([spaced_words(text) for text in texts if text is not None])
        for texts in by_seed
    ]


def marked_text(text: str, shared: int) -> Text:
    """A continuation, its first `shared` words dimmed, the next one marked."""
    marked = Text()
    for place, word in enumerate(map(shown, spaced_words(text))):
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
            yield RowsView(self.comparison.prompt, list(self._rows()))

    def _rows(self) -> Iterator[Row]:
        comparison = self.comparison
        for name, column in zip(comparison.names, comparison.columns, strict=True):
            for index, text in enumerate(column.texts):
                label = name
                if comparison.count > 1:
                    label += f" {comparison.seed_label(column, index)}"
                yield Row(label, text, is_growing=index >= len(column.generations))


@dataclass(frozen=True)
class FiguresView:
    """The measures of every strategy, as many to a table as there is room for."""

    comparison: Comparison

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        names, measures = self.comparison.names, self.comparison.measures
        figures = [
            [column.figure(measure) for measure in measures]
            for column in self.comparison.columns
        ]
        rows = [list(map(format_interval, measures, each)) for each in figures]
        if self.comparison.varied is not None:
            names = [*names, "trend"]
            means = [[each and each.mean for each in row] for row in figures]
            rows.append([sparkline(each) for each in zip(*means, strict=True)])
        # A chain's name may be long: it is wrapped, so that figures stay side by side.
        first = label_width(names, options.max_width, NARROWEST)
        widths = [
            max(len(measure.heading), *(len(row[i]) for row in rows))
            for i, measure in enumerate(measures)
        ]
        for places in fitting(widths, options.max_width - first):
            table = Table(box=None, pad_edge=False, header_style=FAINT)
            table.add_column("", max_width=first, overflow="fold")
            for place in places:
                table.add_column(measures[place].heading, justify="right", no_wrap=True)
            for number, (name, row) in enumerate(zip(names, rows, strict=True)):
                cells = (row[place] for place in places)
                table.add_row(Text(name, style=name_style(number)), *cells)
            yield table


def format_interval(measure: Measure, interval: Interval | None) -> str:
    """A mean and its 95% interval, such as `0.82 ± 0.03`; `-` for none."""
    if interval is None:
        return "-"
    mean = measure.write(interval.mean)
    if interval.half is None:
        return mean
    return f"{mean} ± {measure.write(interval.half)}"


def sparkline(values: Sequence[float | None]) -> str:
    """A bar for each value, the lowest at the bottom; a space for none, and for what
    is not finite."""
    known = [each for each in values if each is not None and math.isfinite(each)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    span, top = high - low or 1.0, len(SPARKS) - 1
    return "".join(
        " "
        if each is None or each not in known
        else SPARKS[round((each - low) / span * top)]
        for each in values
    )


@dataclass(frozen=True)
class Spread:
    """One measure of all texts of a comparison: for each strategy the values of those
    that have it, and the pairs of drawn strategies that it does not tell apart."""

    measure: Measure
    values: tuple[tuple[float, ...], ...]
    not_told_apart: tuple[tuple[int, int], ...]

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value."""
        every = [value for values in self.values for value in values]
        return min(every), max(every)

    def in_words(self, names: Sequence[str]) -> str:
        """Which strategies it does not tell apart; empty if it does all."""
        sizes = [len(each) for each in self.values if len(each) >= SPREAD_FROM]
        if len(sizes) > 1 and max(sizes) < (needed := texts_needed(len(sizes))):
            return f"too few texts to tell any apart: it takes n={needed}"
        pairs = [f"{names[i]} and {names[j]}" for i, j in self.not_told_apart]
        return f"not told apart: {', '.join(pairs)}" if pairs else ""


def spreads(comparison: Comparison) -> Iterator[Spread]:
    """Each measure of the texts that is not the same for all of them.

    Nothing where no strategy has `SPREAD_FROM` texts that differ.
    """
    if max(len(column.different) for column in comparison.columns) < SPREAD_FROM:
        return
    for measure in MEASURES:
        values = tuple(tuple(c.values(measure)) for c in comparison.columns)
        every = {value for each in values for value in each}
        differs = len(every) > 1 and all(map(math.isfinite, every))
        if differs and not measure.is_of_machine:
            drawn = [i for i, each in enumerate(values) if len(each) >= SPREAD_FROM]
            pairs = not_told_apart([values[i] for i in drawn])
            yield Spread(measure, values, tuple((drawn[i], drawn[j]) for i, j in pairs))


@dataclass(frozen=True)
class SpreadView:
    """A row of dots for each strategy, a measure below the other."""

    comparison: Comparison

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        names = self.comparison.names
        found = list(spreads(self.comparison))
        headings = [spread.measure.heading for spread in found]
        room = label_width([*names, *headings], options.max_width, NARROWEST)
        indent = room + GAP
        width = max(8, min(WIDEST, options.max_width - indent - 1))
        for spread in found:
            low, high = (spread.measure.write(each) for each in spread.bounds)
            gap = width - len(low) - len(high)
            heading = Text(f"{spread.measure.heading:<{indent}}", style="bold")
            yield heading.append(f"{low}{' ' * gap}{high}", style=f"not bold {FAINT}")
            for place, values in enumerate(spread.values):
                if values:
                    name = Text(names[place], style=name_style(place))
                    row, *more = name.wrap(console, room, overflow="fold")
                    row.truncate(indent, pad=True)
                    yield row.append(_dots(values, spread.bounds, width), "not bold")
                    yield from more
            if words := spread.in_words(names):
                yield Text(words, style=FAINT)
            yield Text("")
        if found:
            pairs = zip(names, found[0].values, strict=True)
            few = ", ".join(name for name, each in pairs if len(each) < SPREAD_FROM)
            untested = f"; of too few texts to be tested: {few}" if few else ""
            yield Text(
                f"{' '.join(DOTS[1:])} are 1, 2, 3, 4 and more texts at a place, "
                f"{ONLY} the only one there is; told apart is by the mean, at 5% for "
                f"all pairs of a measure together{untested}",
                style=FAINT,
            )


def _dots(values: Sequence[float], bounds: tuple[float, float], width: int) -> str:
    low, high = bounds
    places = [round((value - low) / (high - low) * (width - 1)) for value in values]
    if len(values) == 1:
        return " " * places[0] + ONLY
    counts = [min(places.count(place), len(DOTS) - 1) for place in range(width)]
    return "".join(DOTS[count] for count in counts).rstrip()
