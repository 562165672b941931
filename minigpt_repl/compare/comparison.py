"""A comparison: its texts and their figures, made one after the other.

`run_plan` yields the comparison as it grows, so that a view can be redrawn; the
texts come from one engine, which makes one at a time. Knows no terminal.
"""

import random
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import cast

from minigpt_repl import __version__
from minigpt_repl.compare.measures import (
    MEASURES,
    Interval,
    Measure,
    mean_interval,
)
from minigpt_repl.compare.spec import Plan, Strategy
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import (
    Engine,
    EngineInfo,
    Event,
    Finished,
    Generation,
    HypothesesChanged,
    Request,
    TokenChosen,
)
from minigpt_repl.errors import EngineError, EngineStopped
from minigpt_repl.sampling.registry import find_sampler

LIBRARIES = ("tensorflow", "keras", "keras-hub")


@dataclass(frozen=True)
class Column:
    """What one strategy has made so far.

    Attributes:
        strategy: the strategy.
        generations: its finished texts, in the order of their seeds.
        writing: the text that is being made, or `None`.
    """

    strategy: Strategy
    generations: tuple[Generation, ...] = ()
    writing: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """Its continuations, the unfinished one too."""
        done = tuple(generation.text for generation in self.generations)
        return done if self.writing is None else (*done, self.writing)

    def figure(self, measure: Measure) -> Interval | None:
        """A measure over its texts; `None` if none of them has it."""
        values = [measure.of(generation) for generation in self.generations]
        return mean_interval([value for value in values if value is not None])


@dataclass(frozen=True)
class Comparison:
    """Texts of several strategies from one prompt.

    Attributes:
        plan: what was asked; its seed is the one in use.
        columns: one for each strategy.
        checkpoint: the folder of the model, for the reader.
        checkpoint_sha256: identifies the weights and the vocabulary.
        versions: of this program and the libraries that choose the tokens.
        is_interrupted: whether someone stopped it before all texts were made.
        varied: the parameter that a sweep varies, or `None`.
    """

    plan: Plan
    columns: tuple[Column, ...]
    checkpoint: str
    checkpoint_sha256: str
    versions: dict[str, str]
    is_interrupted: bool = False
    varied: str | None = None


def start_comparison(
    plan: Plan, info: EngineInfo, varied: str | None = None
) -> Comparison:
    """A comparison without texts; a seed is drawn if the plan has none."""
    if plan.seed is None:
        plan = replace(plan, seed=random.SystemRandom().randrange(2**31))
    return Comparison(
        plan=plan,
        columns=tuple(Column(strategy) for strategy in plan.strategies),
        checkpoint=info.directory,
        checkpoint_sha256=info.checkpoint_sha256,
        versions=library_versions(),
        varied=varied,
    )


def run_plan(
    engine: Engine, plan: Plan, varied: str | None = None
) -> Generator[Comparison, None, Comparison]:
    """Make the texts; yields the comparison after every token, returns the whole.

    When a text ends because someone stopped it, the comparison ends there, and
    keeps what it has. Where chance plays no part a strategy's first text stands
    for all.

    Raises:
        EngineError: from the engine.
        UsageError: from the engine, for parameters that it can't use.
    """
    comparison = start_comparison(plan, engine.info, varied)
    plan = comparison.plan
    for index in range(plan.count):
        for place, column in enumerate(comparison.columns):
            request = plan.request(column.strategy, index)
            try:
                generation = yield from _grow(engine, comparison, place, request)
            except EngineStopped:
                if not comparison.columns[0].generations:
                    raise
                return replace(comparison, is_interrupted=True)
            done = replace(
                column, generations=(*column.generations, generation), writing=None
            )
            comparison = _with_column(comparison, place, done)
            if generation.stop_reason == "interrupted":
                return replace(comparison, is_interrupted=True)
            yield comparison
    return comparison


def finish(
    steps: Generator[Comparison, None, Comparison],
    watch: Callable[[Comparison], None] | None = None,
) -> Comparison:
    """Run to the end; `watch` sees every step."""
    try:
        while True:
            step = next(steps)
            if watch is not None:
                watch(step)
    except StopIteration as stop:
        comparison: Comparison = stop.value
        return comparison


def score(engine: Engine, generation: Generation) -> Generation:
    """The same text with a score for each token, by one call of the engine."""
    ids = (*generation.started.prompt_ids, *generation.token_ids)
    return inspection.with_scores(generation, engine.logits(ids))


def library_versions() -> dict[str, str]:
    """Versions of what chooses the tokens; a library that is not there is left
    out."""
    found = {
        "minigpt-repl": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def shared_words(texts: list[list[str]]) -> int:
    """How many words all texts have in common from the start."""
    if len(texts) < 2:
        return 0
    count = 0
    for words in zip(*texts, strict=False):
        if len(set(words)) > 1:
            break
        count += 1
    return count


def figures(column: Column) -> Iterator[tuple[Measure, Interval | None]]:
    """Every measure of a strategy's texts."""
    for measure in MEASURES:
        yield measure, column.figure(measure)


def _grow(
    engine: Engine, comparison: Comparison, place: int, request: Request
) -> Generator[Comparison, None, Generation]:
    """One more text of a strategy; yields the comparison after each token."""
    column = comparison.columns[place]
    if column.generations and not find_sampler(request.sampler).is_random:
        first = column.generations[0]
        started = replace(first.started, seed=request.seed or 0)
        return replace(first, request=request, started=started)
    for step in _follow(engine, request):
        if isinstance(step, Generation):
            return step if inspection.has_scores(step) else score(engine, step)
        yield _with_column(comparison, place, replace(column, writing=step))
    raise EngineError("the engine ended a text without finishing it; try again")


def _follow(engine: Engine, request: Request) -> Iterator[str | Generation]:
    """The text so far after each token, then the generation."""
    text = ""
    # The engine's iterators have `close`; it ends the work if we are closed.
    events = cast("Generator[Event, None, None]", engine.generate(request))
    with closing(events):
        for event in events:
            if isinstance(event, TokenChosen):
                text += event.delta
                yield text
            elif isinstance(event, HypothesesChanged):
                text = event.text
                yield text
            elif isinstance(event, Finished):
                yield event.generation


def _with_column(comparison: Comparison, place: int, column: Column) -> Comparison:
    columns = list(comparison.columns)
    columns[place] = column
    return replace(comparison, columns=tuple(columns))
