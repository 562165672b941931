"""The distribution of a next token, and what strategies' rules leave of it.

Made from logits that an engine gave; rich draws it, the templates of a page do too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from minigpt_repl.compare.figures_view import bar, fitting
from minigpt_repl.compare.pieces import visible_all
from minigpt_repl.compare.spec import Strategy
from minigpt_repl.compare.view import FAINT, GAP, name_style
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.sampling.chain import stage_text
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.shown import percent

if TYPE_CHECKING:
    import numpy as np

BAR_WIDTH = 16
CHOSEN_MARK = "◂"
FIGURE_WIDTH = 6
HEADING_WIDTH = 14
"""A strategy's heading is broken into lines of no fewer columns."""


@dataclass(frozen=True)
class Candidate:
    """A token that may come next, or was taken; its `shares` are the probability that
    the model gives it, then those that each strategy draws with."""

    id: int
    word: str
    shares: tuple[float, ...]
    is_chosen: bool = False

    @property
    def is_removed(self) -> bool:
        """Whether no strategy could draw it."""
        return len(self.shares) > 1 and not any(self.shares[1:])


@dataclass(frozen=True)
class Distribution:
    """The most probable next tokens; every column sums to 1 with what is left out.

    Attributes:
        strategies: whose kept tokens are shown, renormalised.
        candidates: the tokens, most probable first.
        others: how many possible tokens are left out.
        rest: their probability in each column.
        kept: how many tokens are possible in each column.
        numbered: whether the rows have digits to choose by.
    """

    strategies: tuple[Strategy, ...]
    candidates: tuple[Candidate, ...]
    others: int
    rest: tuple[float, ...]
    kept: tuple[int, ...]
    numbered: bool = False

    @property
    def headings(self) -> list[list[str]]:
        """For each strategy its name, then its parameters, a line each."""
        return [_heading(strategy) for strategy in self.strategies]

    @property
    def sums(self) -> list[tuple[str, list[str]]]:
        """The lines below the tokens: what each is, and a figure a column."""
        shares = zip(*(one.shares for one in self.candidates), strict=True)
        sums = [sum(each) + left for each, left in zip(shares, self.rest, strict=True)]
        rows = [
            ("sum", list(map(percent, sums))),
            ("tokens kept", [f"{count:,}" for count in self.kept]),
        ]
        if self.others > 0:
            rows.insert(0, (f"{self.others:,} more", list(map(percent, self.rest))))
        return rows

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """As many strategies to a table as there is room for, and a bar if there is."""
        words = [one.word for one in self.candidates] + [n for n, _ in self.sums]
        # The number, the token, the model's probability.
        first = 1 + max(map(cell_len, words)) + FIGURE_WIDTH + 3 * GAP
        widths = [
            max(FIGURE_WIDTH, min(HEADING_WIDTH, max(map(cell_len, heading))))
            for heading in self.headings
        ]
        room = options.max_width - first
        has_bar = sum(width + GAP for width in widths) + BAR_WIDTH + GAP <= room
        every = range(len(widths))
        groups = [every] if has_bar else fitting(widths, room) or [every]
        for places in groups:
            yield self._table(places, has_bar)

    def _table(self, places: Sequence[int], has_bar: bool) -> Table:
        """The bar is as long as the token is probable, the best one's fills it."""
        table = Table(box=None, pad_edge=False, header_style=FAINT)
        table.add_column("#" if self.numbered else "", justify="right", no_wrap=True)
        table.add_column("token", no_wrap=True, overflow="ellipsis")
        table.add_column("model", justify="right", no_wrap=True)
        if has_bar:
            table.add_column("", no_wrap=True, width=BAR_WIDTH)
        for place in places:
            name, *pairs = self.headings[place]
            heading = Text(name, style=f"{name_style(place)} not dim")
            for pair in pairs:
                heading.append(f"\n{pair}", style="not bold default dim")
            table.add_column(heading, justify="right", overflow="fold")
        highest = self.candidates[0].shares[0]
        for place, one in enumerate(self.candidates):
            name_cell = Text(one.word, style="bold" if one.is_chosen else "")
            if one.is_chosen:
                name_cell.append(f" {CHOSEN_MARK}")
            length = bar(one.shares[0] / highest, BAR_WIDTH)
            bars = [Text(length, style=FAINT if one.is_removed else "cyan")]
            table.add_row(
                str(place) if self.numbered else "",
                name_cell,
                percent(one.shares[0]),
                *(bars if has_bar else ()),
                *(Text(percent(one.shares[1 + each])) for each in places),
                style=FAINT if one.is_removed else "",
            )
        for name, (model, *figures) in self.sums:
            own = (figures[place] for place in places)
            table.add_row("", name, model, *([""] * has_bar), *own, style=FAINT)
        return table


def next_distribution(
    logits: "np.ndarray",
    strategies: Sequence[Strategy],
    info: EngineInfo,
    count: int,
    chosen: Sequence[int] = (),
    numbered: bool = False,
    where: inspection.TokenContexts | None = None,
) -> Distribution:
    """The most probable tokens, with a column for each strategy.

    Args:
        logits: `(vocabulary,)`, from before the token.
        strategies: whose kept tokens are shown.
        info: of the model.
        count: rows.
        chosen: ids that are marked, and shown even if they are less probable.
        numbered: whether the rows have digits to choose by.
        where: the place in a text, for rules that look at it.
    """
    model = inspection.probabilities(logits)
    best = inspection.top_ids(model, count)
    best += [each for each in dict.fromkeys(chosen) if each not in best]
    columns = [model]
    for each in strategies:
        spec = find_sampler(each.sampler)
        columns.append(
            inspection.kept_distribution(spec, each.parameters, logits, where)
        )
    candidates = tuple(
        Candidate(i, word, tuple(float(column[i]) for column in columns), i in chosen)
        for i, word in zip(best, visible_all(best, info), strict=True)
    )
    return Distribution(
        strategies=tuple(strategies),
        candidates=candidates,
        others=int((model > 0).sum()) - len(best),
        rest=tuple(_others(column, best) for column in columns),
        kept=tuple(int((column > 0).sum()) for column in columns),
        numbered=numbered,
    )


def _others(column: "np.ndarray", shown: list[int]) -> float:
    # Not the whole less what is shown: rounding would leave a little of nothing.
    rest = column.copy()
    rest[shown] = 0
    return float(rest.sum())


def _heading(strategy: Strategy) -> list[str]:
    stages = find_sampler(strategy.sampler).stages
    name, pairs = strategy.sampler, strategy.words.split()
    if stages:
        name = "chain"
        pairs = [stage_text(stage, strategy.parameters) for stage in stages]
    return [name, *(pair.replace("temperature=", "T=") for pair in pairs)]
