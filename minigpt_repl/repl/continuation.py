"""A prompt continued: the engine's events become outputs, the text a node.

Knows settings and the session; knows neither terminals nor models. A text that
is stopped on the way ends like any other, so nothing here is special about ^C.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from minigpt_repl.compare.pieces import REASONS
from minigpt_repl.engine.request import (
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
from minigpt_repl.models.text.normalize import as_typed
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
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.shown import in_seconds, in_tokens_per_second, plain

SHOWN_WORDS = 8
NOT_FINITE = (
    "the model's scores are not finite numbers, so the text ends here; "
    "its weights may be damaged"
)


def continue_prompt(context: Context, prompt: str) -> Steps:
    """Continue what the user typed; in a chat, the conversation so far with it."""
    session = context.session
    prompt = as_typed(prompt)
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
    generation = yield from stream_text(context, [request], shown)
    if session.settings.value("stats"):
        yield Notice(stats_line(generation))
    return session.add(request.prompt, generation, parent)


def stream_text(
    context: Context, requests: Sequence[Request], shown: str
) -> Generator[Output, Any, Generation]:
    """Show a text as it comes, with the notices that belong to it.

    Args:
        context: what is at hand.
        requests: what to make; if they are several, all give the same text.
        shown: the part of the prompt that is put before the new text.

    Raises:
        EngineError: from the engine; the text that was begun is ended first.
    """
    showing = _Showing(
        is_raw=bool(context.session.settings.value("raw")),
        may_replace=context.is_terminal,
    )
    last: Event | None = None
    is_started = False
    with closing(context.engine.generate_rows(requests)) as events:
        try:
            for row, event in events:
                if row > 0:
                    continue
                last = event
                if isinstance(event, Started):
                    yield from map(Notice, notices_before(event, shown))
                # The text begins on the screen with its first token: before that a
                # program may have to be compiled, and a line tells that we wait.
                for output in showing.outputs(event):
                    if not is_started:
                        yield TextStarted(shown)
                        is_started = True
                    yield output
        except EngineError:
            if is_started:
                yield TextEnded()
            raise
    generation = finished(last)
    if not is_started:
        yield TextStarted(shown)
    yield TextEnded()
    yield from map(Notice, notices_after(generation))
    if generation.stop_reason == "interrupted":
        yield Notice(f"stopped after {count_tokens(len(generation.tokens))}")
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
        count_tokens(count),
    ]
    if generation.accepted is not None:
        accepted, drafted = generation.accepted
        parts.append(f"{accepted} of {drafted} drafts accepted")
    if count:
        rows = generation.timings.rows
        together = f" of {rows} texts together" if rows > 1 else ""
        parts.append(f"{in_tokens_per_second(generation.tokens_per_second)}{together}")
        parts.append(f"first after {in_seconds(generation.timings.first_token_s)}")
    is_at_end = (generation.stop_reason, generation.request.stop) == ("stop", "end")
    parts.append("its end" if is_at_end else REASONS[generation.stop_reason])
    return " · ".join(parts)


def describe_sampler(request: Request) -> str:
    """A sampler with its parameters, such as `top_k k=10 temperature=1`, or a chain."""
    spec = find_sampler(request.sampler)
    if spec.stages:
        return spec.text(request.parameters)
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

    def outputs(self, event: Event) -> Iterator[Output]:
        if isinstance(event, Finished):
            yield from self._finish(event.generation)
        elif isinstance(event, HypothesesChanged):
            self.is_changing = True
            if self.may_replace and not self.is_raw and event.text != self.shown:
                self.shown = event.text
                yield TextReplaced(event.text)
        elif isinstance(event, TokenChosen) and not self.is_changing:
            delta = delta_of(event, self.is_raw)
            if delta:
                self.shown += delta
                yield TextDelta(delta)

    def _finish(self, generation: Generation) -> Iterator[Output]:
        text = text_of(generation, self.is_raw)
        if text.startswith(self.shown):
            rest = text.removeprefix(self.shown)
            if rest.strip():
                yield TextDelta(rest)
        elif self.may_replace and not self.is_raw:
            yield TextReplaced(text)


def delta_of(event: TokenChosen, is_raw: bool) -> str:
    """What a token adds to what is shown."""
    return _raw_delta(event.token) if is_raw else event.delta


def text_of(generation: Generation, is_raw: bool) -> str:
    """What is shown of a finished text, behind its prompt."""
    return f" {generation.raw_text}" if is_raw else generation.text


def _raw_delta(token: Token) -> str:
    is_piece = token.text.startswith("##")
    return token.text.removeprefix("##") if is_piece else f" {token.text}"


def notices_before(started: Started, shown: str) -> Iterator[str]:
    """What became of the prompt, if not all of it is seen."""
    if started.cropped:
        seen = len(started.prompt_ids)
        cropped = count_tokens(started.cropped)
        yield f"prompt cropped by {cropped}: the model sees the last {seen}"
    # In a chat, what earlier prompts had of them was said then.
    unknown = [w for w in started.unknown_words if w.lower() in shown.lower()]
    if unknown:
        words = ", ".join(plain(word) for word in unknown[:SHOWN_WORDS])
        more = len(unknown) - SHOWN_WORDS
        yield f"unknown to the model: {words}" + (f" and {more} more" * (more > 0))


def notices_after(generation: Generation) -> Iterator[str]:
    """What a reader of the text should know."""
    if generation.reprimed:
        more = len(generation.reprimed) - 1
        often = f", and {more} times more" if more > 1 else ", and again" * more
        yield (
            f"context full after {count_tokens(generation.reprimed[0])}{often}: "
            "the model went on from the last words only"
        )
    for rule, count in generation.rescued:
        often = f"{count} of {count_tokens(len(generation.tokens))}"
        yield f"{rule} would have left nothing at {often}: the most probable was kept"
    if generation.stop_reason == "not_finite":
        yield NOT_FINITE


def count_tokens(count: int) -> str:
    """A number of tokens in words."""
    return f"{count} token" if count == 1 else f"{count} tokens"
