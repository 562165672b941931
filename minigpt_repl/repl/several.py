"""Several texts of one prompt: shown together as they grow, each with its seed.

On a terminal they are redrawn in place; elsewhere each is written when it and those
before it are finished. Where chance plays no part one text stands for all.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from random import SystemRandom
from typing import Any

from minigpt_repl.compare.pieces import REASONS
from minigpt_repl.compare.spec import text_seed
from minigpt_repl.compare.view import SAME, Row, RowsView
from minigpt_repl.engine.batches import is_drawn
from minigpt_repl.engine.request import (
    SEEDS,
    Event,
    Finished,
    Generation,
    HypothesesChanged,
    Request,
    Started,
    TokenChosen,
)
from minigpt_repl.errors import EngineStopped
from minigpt_repl.models.text.normalize import as_typed
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.continuation import (
    count_tokens,
    delta_of,
    describe_sampler,
    ending,
    notices_after,
    notices_before,
    stats_line,
    stream_text,
    text_of,
)
from minigpt_repl.repl.output import (
    Live,
    Notice,
    Output,
    Pace,
    TextDelta,
    TextEnded,
    TextStarted,
)
from minigpt_repl.repl.tables import part_of_time
from minigpt_repl.shown import in_seconds, in_tokens_per_second

SHOWN_BEFORE = 200
"""Characters of the prompt that are shown above the texts."""

SHOWN_SEEDS = 8


def continue_times(context: Context, prompt: str, count: int) -> Steps:
    """Continue a prompt `count` times; text i uses the first seed plus i.

    With no seed set one is drawn, so that the others follow from it. The prompt is
    text, never a command, and may be empty.
    """
    prompt = as_typed(prompt)
    request = context.session.settings.request(prompt)
    first = request.seed
    if first is None and count > 1:
        first = SystemRandom().randrange(SEEDS)
    seeds = [None if first is None else text_seed(first, i) for i in range(count)]
    requests = [replace(request, seed=seed) for seed in seeds]
    return (yield from continue_rows(context, requests, prompt))


def continue_rows(
    context: Context,
    requests: Sequence[Request],
    shown: str,
    parent: int | None = None,
) -> Steps:
    """Carry out requests of one prompt together and add their texts to the session.

    Args:
        context: what is at hand.
        requests: what to make; they differ in their seed only.
        shown: the part of the prompt that is put before the new texts.
        parent: id of the node that they go on from.
    """
    session, first = context.session, requests[0]
    if len(requests) > 1 and is_drawn(first.sampler, first.parameters):
        made = yield from show_rows(context, requests, shown)
    else:
        made = [(yield from stream_text(context, requests, shown))]
        if session.settings.value("stats"):
            yield Notice(stats_line(made[0]))
        if len(requests) > 1:
            how = f"{describe_sampler(first)} draws nothing at random"
            yield Notice(f"{SAME}: {how}")
    for generation in made:
        session = session.add(first.prompt, generation, parent)
    return session


def show_rows(
    context: Context, requests: Sequence[Request], shown: str
) -> Generator[Output, Any, list[Generation]]:
    """Show texts that differ by their seed, with what there is to say of them.

    Returns those that had begun: a stop ends all.

    Raises:
        EngineStopped: if none had begun.
        EngineError: from the engine.
    """
    settings = context.session.settings
    growing = [_Growing(bool(settings.value("raw"))) for _ in requests]
    has_stats = bool(settings.value("stats"))
    pace, is_begun, written = Pace(context.is_terminal), False, 0
    with closing(context.engine.generate_rows(requests)) as events:
        try:
            for row, event in events:
                if isinstance(event, Started) and not is_begun:
                    yield from map(Notice, notices_before(event, shown))
                    is_begun = True
                growing[row].follow(event)
                is_new = isinstance(event, (TokenChosen, HypothesesChanged))
                if is_new and pace.is_due():
                    yield Live(_draw(shown, growing))
                while not context.is_terminal and written < len(growing):
                    if (generation := growing[written].generation) is None:
                        break
                    if generation.has_begun:
                        yield from _write(shown, growing[written].text)
                        if has_stats:
                            yield Notice(stats_line(generation))
                    written += 1
        except EngineStopped:
            pass  # what is there is kept
    growing = [text for text in growing if text.has_begun]
    if not growing:
        raise EngineStopped("stopped before the first token")
    if context.is_terminal:
        yield Live(_draw(shown, growing, is_whole=True))
    made = [text.generation for text in growing if text.generation is not None]
    yield from map(Notice, _notices(made, len(requests)))
    if has_stats and context.is_terminal:
        yield Notice(rows_line(made))
    return made


def rows_line(made: Sequence[Generation]) -> str:
    """One line: how texts were made together, how fast, and why they ended."""
    seeds = [generation.seed for generation in made]
    parts = [describe_sampler(made[0].request)]
    if seeds == [text_seed(seeds[0], place) for place in range(len(seeds))]:
        parts.append(f"seeds {seeds[0]}..{seeds[-1]}")
    count = sum(len(generation.tokens) for generation in made)
    parts += [f"{len(made)} texts together", count_tokens(count)]
    seconds = sum(map(part_of_time, made))
    if count and seconds > 0:
        parts.append(in_tokens_per_second(count / seconds))
        parts.append(f"first after {in_seconds(made[0].timings.first_token_s)}")
    reasons = Counter(REASONS[generation.stop_reason] for generation in made)
    if len(reasons) == 1:
        parts += reasons
    else:
        parts.append(", ".join(f"{n} {reason}" for reason, n in reasons.items()))
    return " · ".join(parts)


class _Growing:
    """What there is of a text."""

    def __init__(self, is_raw: bool) -> None:
        self._is_raw = is_raw
        self.seed: int | None = None
        self.text = ""
        self.generation: Generation | None = None

    @property
    def has_begun(self) -> bool:
        return self.generation is not None and self.generation.has_begun

    def follow(self, event: Event) -> None:
        match event:
            case Started():
                self.seed = event.seed
            case TokenChosen():
                self.text += delta_of(event, self._is_raw)
            case HypothesesChanged() if not self._is_raw:
                self.text = event.text
            case Finished(generation):
                self.generation = generation
                self.text = text_of(generation, self._is_raw)


def _draw(shown: str, growing: Sequence[_Growing], is_whole: bool = False) -> RowsView:
    """What the terminal shows; texts that have not begun are left out."""
    rows = [
        Row(f"seed {text.seed}", text.text, text.generation is None)
        for text in growing
        if text.seed is not None
    ]
    return RowsView(ending(shown, SHOWN_BEFORE), rows, is_whole)


def _write(shown: str, text: str) -> Iterator[Output]:
    yield TextStarted(shown)
    if text:
        yield TextDelta(text)
    yield TextEnded()


def _notices(made: Sequence[Generation], wanted: int) -> Iterator[str]:
    """What there is to say of the texts, once for those of which it holds."""
    seeds: dict[str, list[int]] = {}
    for generation in made:
        for notice in notices_after(generation):
            seeds.setdefault(notice, []).append(generation.seed)
    for notice, those in seeds.items():
        if len(those) == len(made):
            yield notice
        else:
            names = ", ".join(map(str, those[:SHOWN_SEEDS]))
            more = f" and {len(those) - SHOWN_SEEDS} more"
            yield f"seed {names}{more * (len(those) > SHOWN_SEEDS)}: {notice}"
    stopped = [one for one in made if one.stop_reason == "interrupted"]
    if stopped or len(made) < wanted:
        count = sum(len(generation.tokens) for generation in made)
        begun = f"{len(made)} of {wanted} texts had begun"
        yield f"stopped after {count_tokens(count)}: {begun}"
