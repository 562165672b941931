"""A comparison: its texts and their figures.

`run_plan` yields the comparison as it grows, so that a view can be redrawn. The engine
makes texts of one sampler together.
"""

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from minigpt_repl.compare.measures import (
    MEASURES,
    ROWS,
    TIMINGS,
    Interval,
    Measure,
    mean_interval,
)
from minigpt_repl.compare.pieces import PartialText
from minigpt_repl.compare.spec import Plan, Strategy
from minigpt_repl.engine.request import Engine, Generation, draw_seed
from minigpt_repl.engine.texts import is_drawn, programs
from minigpt_repl.errors import EngineStopped
from minigpt_repl.version import __version__

LIBRARIES = ("tensorflow", "keras", "keras-hub")


@dataclass(frozen=True)
class Column:
    """What one strategy has made so far: its finished texts in the order of their
    seeds, and what there is of those that are being made after them."""

    strategy: Strategy
    generations: tuple[Generation, ...] = ()
    writing: tuple[str, ...] = ()

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
        if measure.key in (*TIMINGS, ROWS.key):
            made = list({one.timings: one for one in made}.values())
        values = [measure.of(generation) for generation in made]
        return [value for value in values if value is not None]


@dataclass(frozen=True)
class Comparison:
    """Texts of several strategies from one prompt.

    Attributes:
        plan: what was asked; its seed is the one in use.
        columns: one for each strategy.
        checkpoint_sha256: identifies the weights and the vocabulary.
        versions: of this program and the libraries that choose the tokens.
        is_interrupted: whether someone stopped it before all texts were made.
        varied: the parameter that a sweep varies, or `None`.
    """

    plan: Plan
    columns: tuple[Column, ...]
    checkpoint_sha256: str
    versions: dict[str, str]
    is_interrupted: bool = False
    varied: str | None = None

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


def run_plan(
    engine: Engine,
    plan: Plan,
    varied: str | None = None,
    is_due: Callable[[], bool] = lambda: False,
) -> Generator[Comparison, None, None]:
    """Make the texts: the comparison after each token if it is due, the whole at last.

    A seed is drawn if the plan has none.
    When texts end because someone stopped them, the comparison ends there, and
    keeps what it has.

    Raises:
        EngineError: from the engine.
        UsageError: from the engine, for parameters that it can't use.
    """
    if plan.seed is None:
        plan = replace(plan, seed=draw_seed())
    comparison = Comparison(
        plan=plan,
        columns=tuple(Column(strategy) for strategy in plan.strategies),
        checkpoint_sha256=engine.info.checkpoint_sha256,
        versions=library_versions(),
        varied=varied,
    )
    requests = [
        plan.request(strategy, index)
        for strategy in plan.strategies
        for index in range(plan.count)
    ]
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
    comparison = _with_texts(comparison, growing)
    columns = tuple(replace(column, writing=()) for column in comparison.columns)
    yield replace(comparison, columns=columns, is_interrupted=not is_whole)


def finish(steps: Iterable[Comparison]) -> Comparison:
    """The last of them, the whole comparison."""
    return deque(steps, maxlen=1)[0]


def library_versions() -> dict[str, str]:
    """Versions of what chooses the tokens; a missing library is left out."""
    found = {
        "minigpt-repl": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _with_texts(comparison: Comparison, texts: Sequence[PartialText]) -> Comparison:
    """With what there is of the texts; those of a strategy are finished in their order.

    One that was stopped before its first token is left out.
    """
    count = comparison.plan.count
    columns = []
    for place, column in enumerate(comparison.columns):
        own = texts[place * count : (place + 1) * count]
        ended = [text.generation for text in own if text.generation]
        growing = [text.text for text in own if not text.generation]
        columns.append(
            Column(
                strategy=column.strategy,
                generations=tuple(made for made in ended if made.has_begun),
                writing=tuple(text for text in growing if text is not None),
            )
        )
    return replace(comparison, columns=tuple(columns))
