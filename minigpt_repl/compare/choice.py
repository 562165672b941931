"""How a token is chosen: its distribution, what rules leave of it, why one was taken.

Made from logits that an engine gave; rich draws it, the templates of a page do too.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from minigpt_repl.compare.pieces import (
    FAINT,
    GAP,
    display_pieces,
    ending_in_a_line,
    fitting,
    listed,
    name_style,
    visible,
)
from minigpt_repl.compare.spec import Strategy, read_whole
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import Engine, EngineInfo, Generation
from minigpt_repl.errors import UsageError
from minigpt_repl.sampling.chain import stage_text
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.shown import and_more, in_bits, percent, quoted

if TYPE_CHECKING:
    import numpy as np

SHOWN_TOKENS = 10
SHOWN_REMOVED = 5
BAR_WIDTH = 16
CHOSEN_MARK = "◂"
FIGURE_WIDTH = 6
HEADING_WIDTH = 19
"""A heading is broken into lines of no fewer columns: no name of a rule is."""

Facts = Iterator[tuple[str, str]]
"""Names and values, a line each."""


@dataclass(frozen=True)
class Candidate:
    """A token that may come next, or was taken; its `shares` are the probability that
    the model gives it, then what it has in each column."""

    id: int
    word: str
    shares: tuple[float, ...]
    is_chosen: bool = False

    @property
    def is_removed(self) -> bool:
        """Whether nothing of it is left in any column."""
        return len(self.shares) > 1 and not any(self.shares[1:])


@dataclass(frozen=True)
class Distribution:
    """The most probable next tokens; every column sums to 1 with what is left out."""

    headings: tuple[tuple[str, ...], ...]  # of all columns but the model's
    candidates: tuple[Candidate, ...]  # most probable first
    others: int  # how many possible tokens are left out
    rest: tuple[float, ...]  # their probability in each column
    kept: tuple[int, ...]  # how many tokens are possible in each column
    numbered: bool = False  # whether the rows have digits to choose by

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
        """As many columns to a table as there is room for, and a bar if there is."""
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
            word = Text(one.word, style="bold" if one.is_chosen else "")
            if one.is_chosen:
                word.append(f" {CHOSEN_MARK}")
            length = bar(one.shares[0] / highest, BAR_WIDTH)
            bars = [Text(length, style=FAINT if one.is_removed else "cyan")]
            table.add_row(
                str(place) if self.numbered else "",
                word,
                percent(one.shares[0]),
                *(bars if has_bar else ()),
                *(Text(percent(one.shares[1 + each])) for each in places),
                style=FAINT if one.is_removed else "",
            )
        for name, (model, *figures) in self.sums:
            own = (figures[place] for place in places)
            table.add_row("", name, model, *([""] * has_bar), *own, style=FAINT)
        return table


def bar(part: float, width: int) -> str:
    """A bar of `part` (0 to 1) of a width, to an eighth of a column."""
    eighths = round(max(0.0, min(1.0, part)) * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


class Column(NamedTuple):
    """What a strategy, or a stage of a chain, leaves of a distribution."""

    heading: tuple[str, ...]  # its name, then its parameters, a line each
    shares: "np.ndarray"  # renormalised, (vocabulary,)


def strategy_columns(
    strategies: Sequence[Strategy],
    logits: "np.ndarray",
    where: inspection.TokenContexts,
) -> list[Column]:
    """A column for each strategy, at a place with `logits` `(vocabulary,)`."""
    columns = []
    for strategy in strategies:
        spec, values = find_sampler(strategy.sampler), strategy.parameters
        name, pairs = strategy.sampler, strategy.words.split()
        if spec.stages:
            name, pairs = "chain", [stage_text(each, values) for each in spec.stages]
        pairs = [pair.replace("temperature=", "T=") for pair in pairs]
        shares = inspection.kept_distribution(spec, values, logits, where)
        columns.append(Column((name, *pairs), shares))
    return columns


def stage_columns(rulings: Iterable["Ruling"]) -> list[Column]:
    """A column for each stage of a chain."""
    return [Column((ruling.rule,), ruling.after) for ruling in rulings]


def next_distribution(
    logits: "np.ndarray",
    columns: Sequence[Column],
    info: EngineInfo,
    count: int = SHOWN_TOKENS,
    chosen: Sequence[int] = (),
    numbered: bool = False,
) -> Distribution:
    """The most probable tokens, and what is left of each.

    Args:
        logits: `(vocabulary,)`, from before the token.
        columns: what is shown beside the model's own probabilities.
        info: of the model.
        count: rows.
        chosen: ids that are marked, and shown even if they are less probable.
        numbered: whether the rows have digits to choose by.
    """
    import numpy as np

    model = inspection.probabilities(logits)
    best = inspection.top_ids(model, count)
    best += [each for each in dict.fromkeys(chosen) if each not in best]
    every = [model, *(column.shares for column in columns)]
    return Distribution(
        headings=tuple(column.heading for column in columns),
        candidates=tuple(
            Candidate(
                i, visible(i, info), tuple(float(c[i]) for c in every), i in chosen
            )
            for i in best
        ),
        others=int((model > 0).sum()) - len(best),
        # Not 1 less what is shown: rounding would leave a little of nothing.
        rest=tuple(float(np.delete(shares, best).sum()) for shares in every),
        kept=tuple(int((shares > 0).sum()) for shares in every),
        numbered=numbered,
    )


class Ruling(NamedTuple):
    """What one rule of a strategy made of the distribution at a place."""

    rule: str  # its name
    before: "np.ndarray"  # the probabilities that came to it, (vocabulary,)
    after: "np.ndarray"  # what it left of them, renormalised
    seen: "np.ndarray"  # which tokens came to it, bool (vocabulary,)
    kept: "np.ndarray"  # which of them it kept
    is_rescued: bool = False  # it would have kept none, so that the best one was kept

    def in_words(self, info: EngineInfo) -> str:
        """What it left, and the most probable tokens that it removed."""
        mass = percent(float(self.before[self.kept].sum()))
        count = f"{int(self.kept.sum()):,} of {int(self.seen.sum()):,} tokens, {mass}"
        line = f"leaves {count}"
        if self.is_rescued:
            line = "would leave nothing: the most probable token is kept"
        gone = self.before * ~self.kept
        best = inspection.top_ids(gone, SHOWN_REMOVED)
        more = and_more(int((gone > 0).sum()) - len(best))
        return f"{line}; removes {listed(best, gone, info)}{more}" if best else line


def rulings(
    strategy: Strategy, logits: "np.ndarray", where: inspection.TokenContexts
) -> Iterator[Ruling]:
    """What each rule of a chain, or the rule of another sampler, makes of the logits of
    a place, `(vocabulary,)`."""
    spec, values = find_sampler(strategy.sampler), strategy.parameters
    if not spec.stages:
        temperature = inspection.temperature_of(values) or 1.0
        before = inspection.probabilities(logits, temperature)
        after = inspection.kept_distribution(spec, values, logits)
        yield Ruling(spec.name, before, after, before > 0, after > 0)
        return
    left = inspection.chain_left(spec, values, logits, where)
    before = inspection.probabilities(logits)
    for stage, made in zip(spec.stages, left, strict=True):
        after = inspection.probabilities(made.logits)
        # Not by the probabilities: a low temperature leaves some that are only tiny.
        seen, kept = (each > -math.inf for each in (logits, made.logits))
        is_rescued = bool(made.is_rescued.any())
        yield Ruling(stage.name, before, after, seen, kept, is_rescued)
        logits, before = made.logits, after


@dataclass(frozen=True)
class ScoredText:
    """A text and what the model thought at each of its new tokens."""

    prompt: str
    generation: Generation
    rows: "np.ndarray"  # logits (tokens, vocabulary), each from before its token
    pieces: tuple[str, ...]  # display form of each token, with the space before it
    where: inspection.TokenContexts  # what any chain knows at each of them
    info: EngineInfo

    @cached_property
    def replayed(self) -> inspection.TokenContexts:
        """The same, with what its own chain had learned; of others it says nothing."""
        request = self.generation.request
        spec = find_sampler(request.sampler)
        return inspection.replayed(spec, request.parameters, self.rows, self.where)

    @property
    def bits(self) -> list[float]:
        """Surprisal of each token."""
        return [self.verdict(place).surprisal for place in range(len(self.rows))]

    def verdict(self, place: int, temperature: float = 1.0) -> inspection.Verdict:
        """What the model says of token `place`, at a temperature."""
        shares = inspection.probabilities(self.rows[place], temperature)
        return inspection.verdict(shares, self.generation.tokens[place].id)


def inspect(engine: Engine, prompt: str, generation: Generation) -> ScoredText:
    """A text with the model's scores, by one call of the engine that made it."""
    return ScoredText(
        prompt=prompt,
        generation=generation,
        rows=inspection.token_logits(engine, generation),
        pieces=tuple(display_pieces(generation, engine.info)),
        where=inspection.generation_places(generation, engine),
        info=engine.info,
    )


def find_place(text: ScoredText, typed: str) -> int:
    """Index of the token that is meant: a number from 1, from the end if negative, a
    word, or nothing for the most surprising one.

    Raises:
        UsageError: if there is no such token.
    """
    tokens = text.generation.tokens
    if not typed:
        bits = text.bits
        return max(range(len(bits)), key=bits.__getitem__)
    number, places = read_whole(typed), range(len(tokens))
    if number is None:
        words = [token.text.removeprefix("Ġ").lower() for token in tokens]
        if typed.lower() in words:
            return words.index(typed.lower())
    elif number and -len(tokens) <= number <= len(tokens):
        return places[number - 1 if number > 0 else number]
    raise UsageError(
        f"the last text has no token {quoted(typed)}; :why takes a word of it or a "
        f"number 1..{len(tokens)}"
    )


@dataclass(frozen=True)
class Choice:
    """Why one token was chosen: facts, each with its name, and the distribution."""

    facts: tuple[tuple[str, str], ...]
    distribution: Distribution


def why_chosen(text: ScoredText, place: int) -> Choice:
    """Why token `place` of a text, from 0, was chosen."""
    is_own = text.generation.is_own_text  # no rule chose it
    strategies = () if is_own else (Strategy.of(text.generation.request),)
    logits = text.rows[place]
    distribution = next_distribution(
        logits,
        strategy_columns(strategies, logits, text.replayed.at(place)),
        text.info,
        count=max(SHOWN_REMOVED, min(text.verdict(place).rank, SHOWN_TOKENS)),
        chosen=text.generation.token_ids[place : place + 1],
    )
    return Choice(tuple(_facts(text, place, strategies)), distribution)


def _facts(text: ScoredText, place: int, strategies: Sequence[Strategy]) -> Facts:
    word = visible(text.generation.tokens[place].id, text.info)
    yield "token", f"{word}, {place + 1} of {len(text.pieces)}"
    yield "after", ending_in_a_line(text.prompt + "".join(text.pieces[:place]))
    found = text.verdict(place)
    among = inspection.perplexity(found.entropy)
    yield "probability", f"{percent(found.probability)}, rank {found.rank}"
    yield "surprisal", in_bits(found.surprisal)
    entropy = in_bits(inspection.bits(found.entropy))
    yield "entropy", f"{entropy}: as unsure as among {among:,.0f} equal tokens"
    yield from _prompt_facts(text, place)
    for strategy in strategies:
        for ruling in rulings(strategy, text.rows[place], text.replayed.at(place)):
            yield ruling.rule, ruling.in_words(text.info)
    yield "smallest k", str(found.rank)
    request = text.generation.request
    smallest_p, spec = _smallest_p(found), find_sampler(request.sampler)
    temperature = inspection.rule_temperature(spec, request.parameters)
    if temperature not in (0.0, 1.0):
        tempered = _smallest_p(text.verdict(place, temperature))
        smallest_p += f" ({tempered} at temperature {temperature:g})"
    yield "smallest p", smallest_p


def _smallest_p(found: inspection.Verdict) -> str:
    return "any" if found.rank == 1 else f"{found.smallest_p:.4f}"


def _prompt_facts(text: ScoredText, place: int) -> Facts:
    """What the white space at the end of the prompt made of the first token."""
    request = text.generation.request
    taken, first_ids = text.info.text.healing(request.prompt)
    if place or request.prompt_ids is not None or first_ids is None:
        return
    how = "white space: no piece could go on with its word"
    if taken:
        words = f"{taken!r} was taken back, the token had to begin with it"
        how = f"{words}: {len(first_ids):,} do"
    yield "prompt's end", how
