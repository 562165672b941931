"""The figures of a comparison as rich draws them: in a table, and many seeds as dots,
with what is not told apart.

Means are compared by a permutation test; rich draws the dots, pages draw circles.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, count
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from minigpt_repl.compare.comparison import Comparison
from minigpt_repl.compare.measures import MEASURES, TIMINGS, Interval, Measure
from minigpt_repl.compare.pieces import NOT_FINITE
from minigpt_repl.compare.view import (
    FAINT,
    GAP,
    NARROWEST,
    column_names,
    label_width,
    name_style,
)

if TYPE_CHECKING:
    import numpy as np

NOT_QUALITY = (
    "Low perplexity is not quality: a text that repeats itself is very probable."
)
SPARKS = "▁▂▃▄▅▆▇█"

SPREAD_FROM = 3
"""Texts a strategy from which on their spread says something."""

LEVEL = 0.05
PERMUTATIONS = 2000
DOTS = " ·:•●"
ONLY = "◆"
WIDEST = 48


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


def below_texts(comparison: Comparison) -> Iterator[RenderableType]:
    """What is shown below the texts: the figures and, from some texts on, the dots."""
    yield ""
    yield FiguresView(comparison)
    if any(spreads(comparison)):
        yield ""
        yield SpreadView(comparison)


def notes(comparison: Comparison) -> Iterator[str]:
    """What a reader of a comparison should know, a line each."""
    yield NOT_QUALITY
    if comparison.is_interrupted:
        wanted = comparison.plan.count * len(comparison.columns)
        yield f"stopped: {len(comparison.generations)} of {wanted} texts had begun"
    if any(made.stop_reason == "not_finite" for made in comparison.generations):
        yield NOT_FINITE


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
            [format_interval(each, column.figure(each)) for each in measures]
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
            table = Table(
                box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style=FAINT
            )
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


@dataclass(frozen=True)
class Spread:
    """One measure of all texts of a comparison: for each strategy the values of those
    that have it, and the pairs of drawn strategies that it does not tell apart."""

    measure: Measure
    values: tuple[tuple[float, ...], ...]
    not_told_apart: tuple[tuple[int, int], ...]

    @property
    def needed(self) -> int | None:
        """Texts a strategy below which none are told apart, if there are fewer."""
        sizes = [len(each) for each in self.values if len(each) >= SPREAD_FROM]
        if len(sizes) < 2:
            return None
        needed = texts_needed(len(sizes))
        return None if max(sizes) >= needed else needed

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value."""
        every = [value for values in self.values for value in values]
        return min(every), max(every)


def spreads(comparison: Comparison) -> Iterator[Spread]:
    """Each measure of the texts that is not the same for all of them.

    Nothing where no strategy has `SPREAD_FROM` texts that differ.
    """
    if max(len(column.different) for column in comparison.columns) < SPREAD_FROM:
        return
    for measure in MEASURES:
        values = tuple(tuple(c.values(measure)) for c in comparison.columns)
        every = {value for each in values for value in each}
        if (
            measure.key in TIMINGS
            or len(every) < 2
            or not all(map(math.isfinite, every))
        ):
            continue
        drawn = [i for i, each in enumerate(values) if len(each) >= SPREAD_FROM]
        pairs = not_told_apart([values[i] for i in drawn])
        yield Spread(measure, values, tuple((drawn[i], drawn[j]) for i, j in pairs))


def texts_needed(strategies: int) -> int:
    """Texts of each of two or more strategies, below which none can be told apart.

    Values that do not even overlap come out so in 2 of the ways to deal them.
    """
    pairs = math.comb(strategies, 2)
    return next(n for n in count(1) if 2 / math.comb(2 * n, n) <= LEVEL / pairs)


def not_told_apart(samples: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs of samples whose means may differ by chance alone.

    Pitman 1937, "Significance Tests Which May be Applied to Samples from any
    Populations": the difference of the means against those of the same values dealt
    out at random. Holm 1979, "A Simple Sequentially Rejective Multiple Test
    Procedure", for all pairs together, at 5%.
    """
    import numpy as np

    dealt = np.random.default_rng(0)
    chances = {
        (i, j): _chance(np.array(samples[i]), np.array(samples[j]), dealt)
        for i, j in combinations(range(len(samples)), 2)
    }
    order = sorted(chances, key=chances.__getitem__)
    for place, pair in enumerate(order):
        if chances[pair] > LEVEL / (len(order) - place):
            return sorted(order[place:])
    return []


def _chance(
    one: "np.ndarray", other: "np.ndarray", dealt: "np.random.Generator"
) -> float:
    """How often the means of values dealt at random differ as much."""
    import numpy as np

    every = np.concatenate([one, other])
    shuffled = dealt.permuted(np.tile(every, (PERMUTATIONS, 1)), axis=1)
    means = shuffled[:, : len(one)].mean(axis=1), shuffled[:, len(one) :].mean(axis=1)
    seen = abs(one.mean() - other.mean())
    as_far = (abs(means[0] - means[1]) >= seen - 1e-12).sum()
    return float((as_far + 1) / (PERMUTATIONS + 1))


def in_words(spread: Spread, names: Sequence[str]) -> str:
    """Which strategies a measure does not tell apart; empty if it does all."""
    if spread.needed is not None:
        return f"too few texts to tell any apart: it takes n={spread.needed}"
    pairs = [f"{names[i]} and {names[j]}" for i, j in spread.not_told_apart]
    return f"not told apart: {', '.join(pairs)}" if pairs else ""


@dataclass(frozen=True)
class SpreadView:
    """A row of dots for each strategy, a measure below the other."""

    comparison: Comparison

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        names = column_names(self.comparison)
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
            if words := in_words(spread, names):
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
