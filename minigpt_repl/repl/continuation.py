"""A prompt continued: the engine's events become outputs, the text a node.

Knows settings and the session; knows neither terminals nor models. A text that
is stopped on the way ends like any other, so nothing here is special about ^C.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, cast

from minigpt_repl.engine.request import (
    Event,
    Finished,
    Generation,
    HypothesesChanged,
    Request,
    Started,
    Token,
    TokenChosen,
)
from minigpt_repl.errors import EngineError, UsageError
from minigpt_repl.models.text.normalize import normalize_text
from minigpt_repl.repl.command import Desk, Steps
from minigpt_repl.repl.outputs import (
    Notice,
    Output,
    TextDelta,
    TextEnded,
    TextReplaced,
    TextStarted,
)
from minigpt_repl.repl.session import Node, Session
from minigpt_repl.sampling.parameters import format_value
from minigpt_repl.suggest import plain

SHOWN_WORDS = 8
REASONS = {
    "length": "length reached",
    "stop": "sentence ended",
    "context": "context full",
    "interrupted": "interrupted",
    "picked": "picked by hand",
}


def continue_prompt(desk: Desk, prompt: str) -> Steps:
    """Continue what the user typed; in a chat, the conversation so far with it."""
    session = desk.session
    prompt = normalize_text(prompt)
    before = session.node if session.settings.value("chat") else None
    whole = prompt if before is None else f"{before.text} {prompt}"
    request = session.settings.request(whole)
    parent = None if before is None else before.id
    return (yield from continue_text(desk, request, shown=prompt, parent=parent))


def continue_text(
    desk: Desk, request: Request, shown: str, parent: int | None = None
) -> Steps:
    """Carry out a request and add its text to the session.

    Args:
        desk: what is at hand.
        request: what to make; its prompt is the whole text before.
        shown: the part of the prompt that is put before the new text.
        parent: id of the node that the text goes on from.
    """
    session = desk.session
    generation = yield from stream_text(desk, request, shown)
    if session.settings.value("stats"):
        yield Notice(stats_line(generation))
    return session.add(request.prompt, generation, parent)


def stream_text(
    desk: Desk, request: Request, shown: str
) -> Generator[Output, Any, Generation]:
    """Show a text as it comes, with the notices that belong to it.

    Raises:
        EngineError: from the engine; the text that was begun is ended first.
    """
    showing = _Showing(
        is_raw=bool(desk.session.settings.value("raw")),
        may_replace=desk.is_terminal,
    )
    generation = None
    is_started = False
    # The engine's iterators have `close`; it ends the work if we are closed.
    events = cast("Generator[Event, None, None]", desk.engine.generate(request))
    with closing(events):
        try:
            for event in events:
                if isinstance(event, Started):
                    yield from map(Notice, _notices_before(event, shown))
                    yield TextStarted(shown)
                    is_started = True
                elif isinstance(event, Finished):
                    generation = event.generation
                    yield from showing.finish(generation)
                else:
                    yield from showing.follow(event)
        except EngineError:
            if is_started:
                yield TextEnded()
            raise
    if generation is None:
        raise EngineError("the engine ended a text without finishing it; try again")
    yield TextEnded()
    yield from map(Notice, _notices_after(generation))
    return generation


def again_request(desk: Desk, node: Node) -> Request:
    """The request for another text from where a node's text began.

    The exact tokens are used again where the node was continued from tokens and
    the model is still the same.
    """
    made = node.generation
    request = desk.session.settings.request(node.prompt)
    if made.request.prompt_ids is None or not _is_of_this_model(desk, made):
        return request
    return replace(request, prompt_ids=made.request.prompt_ids)


def going_on_request(desk: Desk, node: Node) -> Request:
    """The request for a text that goes on from the end of a node's text.

    By its exact tokens, if the model that made them is the one that is loaded.
    """
    request = desk.session.settings.request(node.text)
    if not _is_of_this_model(desk, node.generation):
        return request
    ids = (*node.generation.started.prompt_ids, *node.generation.token_ids)
    return replace(request, prompt_ids=ids)


def prompt_ids_of(desk: Desk, node: Node) -> tuple[int, ...]:
    """The tokens of a node's prompt, as the model that is loaded sees them."""
    if _is_of_this_model(desk, node.generation):
        return node.generation.started.prompt_ids
    return desk.engine.encode(node.prompt)


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


def _is_of_this_model(desk: Desk, generation: Generation) -> bool:
    return generation.checkpoint_sha256 == desk.engine.info.checkpoint_sha256


def last_node(session: Session, wanted_for: str) -> Node:
    """The current text.

    Raises:
        UsageError: before the first text.
    """
    if session.node is None:
        raise UsageError(f"{wanted_for} needs a text: type a prompt first")
    return session.node
