"""A prompt continued: the engine's events become outputs, the text a node.

Knows settings and the session; knows neither terminals nor models. A text that
is stopped on the way ends like any other, so nothing here is special about ^C.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, cast

from minigpt_repl.engine.request import (
    SEEDS,
    Event,
    Finished,
    Generation,
    HypothesesChanged,
    Request,
    Started,
    Token,
    TokenChosen,
    finished,
)
from minigpt_repl.errors import EngineError
from minigpt_repl.models.text.normalize import normalize_text
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.output import (
    Notice,
    Output,
    TextDelta,
    TextEnded,
    TextReplaced,
    TextStarted,
)
from minigpt_repl.sampling.parameters import format_value
from minigpt_repl.suggest import plain

SHOWN_WORDS = 8
REASONS = {
    "length": "length reached",
    "stop": "sentence ended",
    "context": "context full",
    "interrupted": "interrupted",
    "picked": "picked by hand",
    "not_finite": "the model's scores are no numbers",
}


def continue_prompt(context: Context, prompt: str) -> Steps:
    """Continue what the user typed; in a chat, the conversation so far with it."""
    session = context.session
    prompt = normalize_text(prompt)
    before = session.node if session.settings.value("chat") else None
    whole = prompt if before is None else f"{before.text} {prompt}"
    request = session.settings.request(whole)
    parent = None if before is None else before.id
    return (yield from continue_text(context, request, shown=prompt, parent=parent))


def continue_text(
    context: Context, request: Request, shown: str, parent: int | None = None
) -> Steps:
    """Carry out a request and add its text to the session.

    Args:
        context: what is at hand.
        request: what to make; its prompt is the whole text before.
        shown: the part of the prompt that is put before the new text.
        parent: id of the node that the text goes on from.
    """
    session = context.session
    generation = yield from stream_text(context, request, shown)
    if session.settings.value("stats"):
        yield Notice(stats_line(generation))
    return session.add(request.prompt, generation, parent)


def stream_text(
    context: Context, request: Request, shown: str
) -> Generator[Output, Any, Generation]:
    """Show a text as it comes, with the notices that belong to it.

    Raises:
        EngineError: from the engine; the text that was begun is ended first.
    """
    showing = _Showing(
        is_raw=bool(context.session.settings.value("raw")),
        may_replace=context.is_terminal,
    )
    last: Event | None = None
    is_started = False
    # The engine's iterators have `close`; it ends the work if we are closed.
    events = cast("Generator[Event, None, None]", context.engine.generate(request))
    with closing(events):
        try:
            for event in events:
                last = event
                if isinstance(event, Started):
                    yield from map(Notice, _notices_before(event, shown))
                    yield TextStarted(shown)
                    is_started = True
                elif isinstance(event, Finished):
                    yield from showing.finish(event.generation)
                else:
                    yield from showing.follow(event)
        except EngineError:
            if is_started:
                yield TextEnded()
            raise
    generation = finished(last)
    yield TextEnded()
    yield from map(Notice, _notices_after(generation))
    return generation


def ending(text: str, length: int) -> str:
    """The end of a text, cut at a word, with dots for what is left out."""
    if len(text) <= length:
        return text
    tail = text[-length:]
    _, space, rest = tail.partition(" ")
    return f"... {rest if space else tail}"


def ending_in_a_line(text: str, length: int) -> str:
    """As `ending`, with a space for each break of a line and each gap."""
    return ending(" ".join(text.split()), length)


def stats_line(generation: Generation) -> str:
    """One line: how the text was made, how fast, and why it ended."""
    count = len(generation.tokens)
    parts = [
        describe_sampler(generation.request),
        f"seed {generation.seed}",
        _tokens(count),
    ]
    if generation.accepted is not None:
        accepted, drafted = generation.accepted
        parts.append(f"{accepted} of {drafted} drafts accepted")
    if count:
        parts.append(f"{generation.tokens_per_second:.0f} tokens/s")
        parts.append(f"first after {1000 * generation.timings.first_token_s:.0f} ms")
    parts.append(REASONS[generation.stop_reason])
    return " · ".join(parts)


def describe_sampler(request: Request) -> str:
    """A sampler with its parameters, such as `top_k k=10 temperature=1`."""
    values = (
        f"{name}={format_value(value)}"
        for name, value in request.parameters.items()
        if value is not None
    )
    return " ".join((request.sampler, *values))


@dataclass
class _Showing:
    """What of a text is on the screen, and what an event adds to it.

    Where nothing can be taken back, text that may still change is held back.
    """

    is_raw: bool
    may_replace: bool
    shown: str = ""
    is_changing: bool = False

    def follow(self, event: Event) -> Iterator[Output]:
        if isinstance(event, HypothesesChanged):
            self.is_changing = True
            if self.may_replace and not self.is_raw and event.text != self.shown:
                self.shown = event.text
                yield TextReplaced(event.text)
        elif isinstance(event, TokenChosen) and not self.is_changing:
            delta = _raw_delta(event.token) if self.is_raw else event.delta
            if delta:
                self.shown += delta
                yield TextDelta(delta)

    def finish(self, generation: Generation) -> Iterator[Output]:
        text = f" {generation.raw_text}" if self.is_raw else generation.text
        if text.startswith(self.shown):
            rest = text.removeprefix(self.shown)
            if rest.strip():
                yield TextDelta(rest)
        elif self.may_replace and not self.is_raw:
            yield TextReplaced(text)


def _raw_delta(token: Token) -> str:
    is_piece = token.text.startswith("##")
    return token.text.removeprefix("##") if is_piece else f" {token.text}"


def _notices_before(started: Started, shown: str) -> Iterator[str]:
    if started.cropped:
        seen = len(started.prompt_ids)
        cropped = _tokens(started.cropped)
        yield f"prompt cropped by {cropped}: the model sees the last {seen}"
    # In a chat, what earlier prompts had of them was said then.
    unknown = [w for w in started.unknown_words if w.lower() in shown.lower()]
    if unknown:
        words = ", ".join(plain(word) for word in unknown[:SHOWN_WORDS])
        more = len(unknown) - SHOWN_WORDS
        yield f"unknown to the model: {words}" + (f" and {more} more" * (more > 0))


def _notices_after(generation: Generation) -> Iterator[str]:
    if generation.reprimed:
        more = len(generation.reprimed) - 1
        often = f", and {more} times more" if more > 1 else ", and again" * more
        yield (
            f"context full after {_tokens(generation.reprimed[0])}{often}: "
            "the model went on from the last words only"
        )
    if generation.stop_reason == "interrupted":
        yield f"stopped after {_tokens(len(generation.tokens))}"


def _tokens(count: int) -> str:
    return f"{count} token" if count == 1 else f"{count} tokens"


def continue_times(context: Context, prompt: str, count: int) -> Steps:
    """Continue a prompt `count` times; text i uses the first seed plus i.

    With no seed set the first text draws one, so that the others follow from it.
    The prompt is text, never a command, and may be empty.
    """
    session = context.session
    prompt = normalize_text(prompt)
    request = session.settings.request(prompt)
    for _ in range(count):
        session = yield from continue_text(
            replace(context, session=session), request, shown=prompt
        )
        made = session.nodes[-1].generation
        if made.stop_reason == "interrupted":
            break
        request = replace(request, seed=(made.seed + 1) % SEEDS)
    return session
