"""How a token is chosen: its distribution, what rules leave of it, why one was taken.

Made from logits that an engine gave; rich draws it, the templates of a page do too.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    is_own_text,
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
HEADING_WIDTH = 14
"""A strategy's heading is broken into lines of no fewer columns."""

Facts = Iterator[tuple[str, str]]
"""Names and values, a line each."""


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
    """The most probable next tokens; every column sums to 1 with what is left out."""

    strategies: tuple[Strategy, ...]  # whose kept tokens are shown, renormalised
    candidates: tuple[Candidate, ...]  # most probable first
    others: int  # how many possible tokens are left out
    rest: tuple[float, ...]  # their probability in each column
    kept: tuple[int, ...]  # how many tokens are possible in each column
    numbered: bool = False  # whether the rows have digits to choose by

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


def _heading(strategy: Strategy) -> list[str]:
    name, pairs = strategy.sampler, strategy.words.split()
    if stages := find_sampler(strategy.sampler).stages:
        name = "chain"
        pairs = [stage_text(stage, strategy.parameters) for stage in stages]
    return [name, *(pair.replace("temperature=", "T=") for pair in pairs)]


def bar(part: float, width: int) -> str:
    """A bar of `part` (0 to 1) of a width, to an eighth of a column."""
    eighths = round(max(0.0, min(1.0, part)) * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


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
    import numpy as np

    model = inspection.probabilities(logits)
    best = inspection.top_ids(model, count)
    best += [each for each in dict.fromkeys(chosen) if each not in best]
    columns = [model]
    for each in strategies:
        spec = find_sampler(each.sampler)
        columns.append(
            inspection.kept_distribution(spec, each.parameters, logits, where)
        )
    return Distribution(
        strategies=tuple(strategies),
        candidates=tuple(
            Candidate(
                i, visible(i, info), tuple(float(c[i]) for c in columns), i in chosen
            )
            for i in best
        ),
        others=int((model > 0).sum()) - len(best),
        # Not 1 less what is shown: rounding would leave a little of nothing.
        rest=tuple(float(np.delete(column, best).sum()) for column in columns),
        kept=tuple(int((column > 0).sum()) for column in columns),
        numbered=numbered,
    )


class Ruling(NamedTuple):
    """What one rule of a strategy made of the distribution at a place."""

    rule: str  # its name
    before: "np.ndarray"  # the probabilities that came to it, (vocabulary,)
    seen: "np.ndarray"  # which tokens came to it, bool (vocabulary,)
    kept: "np.ndarray"  # which of them it kept
    is_rescued: bool = False  # it would have kept none, so that the best one was kept


def rulings(
    strategy: Strategy, logits: "np.ndarray", where: inspection.TokenContexts
) -> Iterator[Ruling]:
    """What each rule of a chain, or the rule of another sampler, makes of the logits of
    a place, `(vocabulary,)`."""
    spec, values = find_sampler(strategy.sampler), strategy.parameters
    if not spec.stages:
        temperature = inspection.temperature_of(values) or 1.0
        before = inspection.probabilities(logits, temperature)
        kept = inspection.kept_mask(spec, values, logits)
        yield Ruling(spec.name, before, before > 0, kept)
        return
    after = inspection.chain_left(spec, values, logits, where)
    for stage, left in zip(spec.stages, after, strict=True):
        # Not by the probabilities: a low temperature leaves some that are only tiny.
        kept, before = left.logits > -math.inf, inspection.probabilities(logits)
        is_rescued = bool(left.is_rescued.any())
        yield Ruling(stage.name, before, logits > -math.inf, kept, is_rescued)
        logits = left.logits


@dataclass(frozen=True)
class ScoredText:
    """A text and what the model thought at each of its new tokens."""

    prompt: str
    generation: Generation
    rows: "np.ndarray"  # logits (tokens, vocabulary), each from before its token
    pieces: tuple[str, ...]  # display form of each token, with the space before it
    where: inspection.TokenContexts  # what a chain's rules knew at each of them
    info: EngineInfo

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
    rows, request = inspection.token_logits(engine, generation), generation.request
    where = inspection.generation_places(generation, engine)
    spec = find_sampler(request.sampler)
    return ScoredText(
        prompt=prompt,
        generation=generation,
        rows=rows,
        pieces=tuple(display_pieces(generation, engine.info)),
        where=inspection.replayed(spec, request.parameters, rows, where),
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
    is_own = is_own_text(text.generation)  # no rule chose it
    strategies = () if is_own else (Strategy.of(text.generation.request),)
    distribution = next_distribution(
        text.rows[place],
        strategies,
        text.info,
        count=max(SHOWN_REMOVED, min(text.verdict(place).rank, SHOWN_TOKENS)),
        chosen=text.generation.token_ids[place : place + 1],
        where=text.where.at(place),
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
        yield from _rule_facts(text, place, strategy)
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


def _rule_facts(text: ScoredText, place: int, strategy: Strategy) -> Facts:
    """What the sampler's rule, or each stage of a chain, removed at this token."""
    is_chain = bool(find_sampler(strategy.sampler).stages)
    for ruling in rulings(strategy, text.rows[place], text.where.at(place)):
        before, kept = ruling.before, ruling.kept
        count = f"{int(kept.sum()):,} of {int(ruling.seen.sum()):,} tokens"
        removed = _removed(text.info, before * ~kept)
        if not is_chain:
            mass = percent(float(before[kept].sum()))
            yield "rule", f"{strategy.label} kept {count}, {mass}"
            if removed:
                yield "removed", removed
            continue
        line = f"leaves {count}"
        if ruling.is_rescued:
            line = "would leave nothing: the most probable token is kept"
        yield ruling.rule, f"{line}; removes {removed}" if removed else line


def _removed(info: EngineInfo, gone: "np.ndarray") -> str:
    """The most probable of the tokens that were not kept, in words."""
    best = inspection.top_ids(gone, SHOWN_REMOVED)
    more = and_more(int((gone > 0).sum()) - len(best))
    return listed(best, gone, info) + (f" {more}" if more else "")
