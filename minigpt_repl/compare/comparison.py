"""A comparison: its texts, their figures, and which rule parted them.

`run_plan` yields the comparison as it grows, so that a view can be redrawn. The engine
makes texts of one sampler together.
"""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice

from minigpt_repl.compare.choice import rulings
from minigpt_repl.compare.measures import (
    MEASURES,
    ROWS,
    Interval,
    Measure,
    mean_interval,
)
from minigpt_repl.compare.pieces import SAME, PartialText, visible
from minigpt_repl.compare.spec import Strategy, text_seed
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import Engine, Generation, Request, draw_seed
from minigpt_repl.engine.texts import is_drawn, programs
from minigpt_repl.errors import EngineStopped
from minigpt_repl.sampling.parameters import format_value
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.settings import Settings
from minigpt_repl.shown import plain
from minigpt_repl.version import __version__

LIBRARIES = ("tensorflow", "keras", "keras-hub")


@dataclass(frozen=True)
class Column:
    """What one strategy has made so far."""

    strategy: Strategy
    generations: tuple[Generation, ...] = ()  # finished, in the order of their seeds
    writing: tuple[str, ...] = ()  # what there is of those that come after them

    @property
    def is_drawn(self) -> bool:
        """Whether its texts differ by their seed."""
        return is_drawn(self.strategy.sampler, self.strategy.parameters)

    @property
    def different(self) -> tuple[Generation, ...]:
        """Its finished texts; the first where chance plays no part."""
        return self.generations if self.is_drawn else self.generations[:1]

    @property
    def texts(self) -> tuple[str, ...]:
        """Its continuations that may differ, the unfinished ones too."""
        done = tuple(generation.text for generation in self.generations)
        return (done + self.writing)[: None if self.is_drawn else 1]

    def figure(self, measure: Measure) -> Interval | None:
        """A measure over its texts; `None` if none of them has it."""
        return mean_interval(self.values(measure))

    def values(self, measure: Measure) -> list[float]:
        """A measure of each of its texts that has it and may differ.

        What texts that were made together have in common counts once.
        """
        made: Sequence[Generation] = self.different
        if measure.is_of_machine:
            made = list({one.timings: one for one in made}.values())
        values = [measure.of(generation) for generation in made]
        return [value for value in values if value is not None]


@dataclass(frozen=True)
class Comparison:
    """Texts of several strategies from one prompt, or the plan of them."""

    first: Request  # for the first text, by any strategy; its seed is the one in use
    columns: tuple[Column, ...]  # one for each strategy
    count: int = 1  # texts a strategy; text i has the seed of the first plus i
    varied: str | None = None  # the parameter that a sweep varies
    checkpoint_sha256: str = ""  # identifies the weights and the vocabulary
    # Of this program and the libraries that choose the tokens.
    versions: dict[str, str] = field(default_factory=dict)
    is_interrupted: bool = False  # someone stopped it before all texts were made

    @property
    def prompt(self) -> str:
        """The text that every strategy continues."""
        return self.first.prompt

    @property
    def requests(self) -> list[Request]:
        """For every text, strategy by strategy."""
        return [
            replace(
                self.first,
                sampler=column.strategy.sampler,
                parameters=dict(column.strategy.parameters),
                seed=self._seed(index),
                with_scores=True,
            )
            for column in self.columns
            for index in range(self.count)
        ]

    def _seed(self, index: int) -> int | None:
        seed = self.first.seed
        return None if seed is None else text_seed(seed, index)

    @property
    def is_growing(self) -> bool:
        """Whether one of its texts is being written."""
        return any(column.writing for column in self.columns)

    @property
    def generations(self) -> list[Generation]:
        """The finished texts of all strategies."""
        return [one for column in self.columns for one in column.generations]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What there is to tell of its texts."""
        is_together = any(made.timings.rows > 1 for made in self.generations)
        return (*MEASURES, ROWS) if is_together else MEASURES

    @property
    def names(self) -> list[str]:
        """A short name for each strategy that tells it from the others."""
        strategies = [column.strategy for column in self.columns]
        if (varied := self.varied) is not None:
            values = [strategy.parameters[varied] for strategy in strategies]
            return [f"{varied}={format_value(value)}" for value in values]
        samplers = [strategy.sampler for strategy in strategies]
        return [
            each.label if samplers.count(each.sampler) > 1 else each.name
            for each in strategies
        ]

    def seed_label(self, column: Column, index: int) -> str:
        """What tells a text of a strategy from its others."""
        return f"seed {self._seed(index)}" if column.is_drawn else SAME

    @property
    def facts(self) -> dict[str, str]:
        """How it was made: all that is needed to make it again."""
        return {
            "seed": str(self.first.seed),
            "texts a strategy": str(self.count),
            "length": f"{self.first.length} tokens",
            "stop": self.first.stop,
            "checkpoint": self.checkpoint_sha256,
            **self.versions,
        }


def make_plan(
    settings: Settings,
    strategies: Iterable[Strategy],
    prompt: str,
    count: int = 1,
    prompt_ids: tuple[int, ...] | None = None,
    varied: str | None = None,
) -> Comparison:
    """A comparison to be made, with the seed, the length and the stop rule of the
    settings."""
    first = replace(settings.request(prompt), prompt_ids=prompt_ids)
    return Comparison(first, tuple(map(Column, strategies)), count, varied)


def run_plan(
    engine: Engine, plan: Comparison, is_due: Callable[[], bool] = lambda: False
) -> Generator[Comparison, None, None]:
    """Make the texts: the comparison after each token if it is due, the whole at last.

    A seed is drawn if the plan has none.
    When texts end because someone stopped them, the comparison ends there, and
    keeps what it has.

    Raises:
        EngineError: from the engine.
        UsageError: from the engine, for parameters that it can't use.
    """
    seed = draw_seed() if plan.first.seed is None else plan.first.seed
    comparison = replace(
        plan,
        first=replace(plan.first, seed=seed),
        checkpoint_sha256=engine.info.checkpoint_sha256,
        versions=library_versions(),
    )
    requests = comparison.requests
    # A compile is no property of a sampler: it is done before a clock runs.
    for request, rows, _ in programs(requests):
        engine.warm(request, rows)
    growing = [PartialText() for _ in requests]
    with closing(engine.generate_rows(requests)) as events:
        try:
            for row, event in events:
                if growing[row].follow(event) and is_due():
                    yield _with_texts(comparison, growing)
        except EngineStopped:
            if not any(text.generation for text in growing):
                raise
    made = [text.generation for text in growing]
    is_whole = all(one and one.stop_reason != "interrupted" for one in made)
    comparison = _with_texts(comparison, growing, is_over=True)
    yield replace(comparison, is_interrupted=not is_whole)


def finish(steps: Iterable[Comparison]) -> Comparison:
    """The last of them, the whole comparison."""
    *_, whole = steps
    return whole


def _with_texts(
    comparison: Comparison, texts: Iterable[PartialText], is_over: bool = False
) -> Comparison:
    """With what there is of the texts; those of a strategy are finished in their order.

    One that was stopped before its first token is left out, and where all `is_over`
    also one that has not ended.
    """
    rest, columns = iter(texts), []
    for column in comparison.columns:
        own = list(islice(rest, comparison.count))
        made = tuple(text.generation for text in own if text.generation)
        begun = tuple(one for one in made if one.has_begun)
        growing = [text.text for text in own if not (text.generation or is_over)]
        writing = tuple(text for text in growing if text is not None)
        columns.append(Column(column.strategy, begun, writing))
    return replace(comparison, columns=tuple(columns))


def library_versions() -> dict[str, str]:
    """Versions of what chooses the tokens; a missing library is left out."""
    python = ".".join(map(str, sys.version_info[:3]))
    found = {"minigpt-repl": __version__, "python": python}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def divergences(engine: Engine, comparison: Comparison) -> Iterator[str]:
    """A line for each strategy but the first: where it parts from it, and why.

    Each strategy's first text is held against the first strategy's. Up to the token
    where they part both saw the same distribution and the same noise: there their
    rules differ.
    """
    made = [
        (plain(name), column.generations[0])
        for name, column in zip(comparison.names, comparison.columns, strict=True)
        if column.generations
    ]
    (first, one), *others = made
    for name, other in others:
        place = first_difference(one.token_ids, other.token_ids)
        if place is None:
            yield f"{first} and {name} do not part"
            continue
        words = [visible(each.token_ids[place], engine.info) for each in (one, other)]
        told = f"{first} and {name} part at token {place + 1}, {' | '.join(words)}"
        yield f"{told}: {_why_parted(engine, (one, other), place)}"


def first_difference(ids: Sequence[int], others: Sequence[int]) -> int | None:
    """Where two texts have different tokens first; `None` if one begins the other."""
    pairs = enumerate(zip(ids, others, strict=False))
    return next((place for place, (one, other) in pairs if one != other), None)


def _why_parted(
    engine: Engine, texts: tuple[Generation, Generation], place: int
) -> str:
    """Which rule let two texts take different tokens at a place."""
    for sampler in (each.request.sampler for each in texts):
        if find_sampler(sampler).search is not None:
            return f"{sampler} does not choose by this noise"
    rows = inspection.token_logits(engine, texts[0])
    where = inspection.generation_places(texts[0], engine)
    shaping = []
    for one, other in (texts, texts[::-1]):
        strategy, token_id = Strategy.of(one.request), other.token_ids[place]
        spec, values = find_sampler(strategy.sampler), strategy.parameters
        here = inspection.replayed(spec, values, rows, where).at(place)
        for ruling in rulings(strategy, rows[place], here):
            if not ruling.kept[token_id]:
                word = visible(token_id, engine.info)
                return f"{ruling.rule} of {strategy.label} removed {word}"
        names = [stage.name for stage in spec.stages if stage.kind != "truncation"]
        # A temperature of 1, or none, changes nothing.
        is_tempered = values.get("temperature", 1) != 1
        names = names if spec.stages else ["temperature"]
        shaping += [name for name in names if name != "temperature" or is_tempered]
    rules = ", ".join(dict.fromkeys(shaping)) or "their samplers"
    return f"neither removed the other's, {rules} gave other probabilities"
