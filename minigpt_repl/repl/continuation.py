"""A prompt continued: the engine's events become outputs, each text a node.

Several texts of one prompt are shown together as they grow, each with its seed: on a
terminal they are redrawn in place; elsewhere each is written when it and those before
it are finished. Where chance plays no part one text stands for all. A text that is
stopped on the way ends like any other.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from minigpt_repl.compare.pieces import (
    SAME,
    PartialText,
    Row,
    RowsView,
    count_tokens,
    describe_sampler,
    ending,
    notices_after,
    notices_before,
    notices_of,
    rows_line,
    stats_line,
)
from minigpt_repl.compare.spec import text_seed
from minigpt_repl.engine.request import (
    Event,
    Finished,
    Generation,
    Request,
    Started,
    draw_seed,
    finished,
)
from minigpt_repl.engine.texts import is_drawn
from minigpt_repl.errors import EngineError, EngineStopped
from minigpt_repl.models.text.codec import as_typed
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.output import (
    Live,
    Notice,
    Output,
    Pace,
    TextDelta,
    TextEnded,
    TextReplaced,
    TextStarted,
)

SHOWN_BEFORE = 200
"""Characters of a prompt, or of the text so far, that are shown before what comes."""


def continue_prompt(context: Context, prompt: str) -> Steps:
    """Continue what the user typed; in a chat, the conversation so far with it."""
    session = context.session
    before = session.node if session.settings.value("chat") else None
    whole = prompt if before is None else f"{before.text} {prompt}"
    request = session.settings.request(whole)
    parent = None if before is None else before.id
    return (yield from continue_rows(context, [request], prompt, parent))


def continue_times(context: Context, prompt: str, count: int) -> Steps:
    """Continue a prompt `count` times; text i uses the first seed plus i.

    With no seed set one is drawn, so that the others follow from it. The prompt is
    text, never a command, and may be empty.
    """
    prompt = as_typed(prompt)
    request = context.session.settings.request(prompt)
    first = request.seed
    if first is None and count > 1:
        first = draw_seed()
    requests = requests_from(request, first, count)
    return (yield from continue_rows(context, requests, prompt))


def requests_from(request: Request, seed: int | None, count: int) -> list[Request]:
    """The same request so many times; if there is a seed, theirs count up from it."""
    if seed is None:
        return [request] * count
    return [replace(request, seed=text_seed(seed, i)) for i in range(count)]


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


def stream_text(
    context: Context, requests: Sequence[Request], shown: str
) -> Generator[Output, Any, Generation]:
    """Show a text as it comes, with the notices that belong to it.

    If there are several requests, all give the same text. At an error of the engine the
    text that was begun is ended first.
    """
    growing = PartialText(bool(context.session.settings.value("raw")))
    there: str | None = None  # what is on the screen, once the prompt is
    last: Event | None = None
    with closing(context.engine.generate_rows(requests)) as events:
        try:
            for row, event in events:
                if row > 0:
                    continue
                last = event
                if isinstance(event, Started):
                    yield from map(Notice, notices_before(event, shown))
                if not growing.follow(event):
                    continue
                output = _change(growing, there or "", context.is_terminal)
                # The text begins on the screen with its first token: before that a
                # program may have to be compiled, and a line tells that we wait.
                if output is not None:
                    if there is None:
                        yield TextStarted(shown)
                    there = growing.text
                    yield output
        except EngineError:
            if there is not None:
                yield TextEnded()
            raise
    generation = finished(last)
    if there is None:
        yield TextStarted(shown)
    yield TextEnded()
    yield from map(Notice, notices_after(generation))
    if generation.stop_reason == "interrupted":
        yield Notice(f"stopped after {count_tokens(len(generation.tokens))}")
    return generation


def _change(growing: PartialText, there: str, may_replace: bool) -> Output | None:
    """What makes of the text on the screen the one that there is now.

    Where nothing can be taken back, text that may still change is held back.
    """
    text, is_whole = growing.text or "", growing.generation is not None
    if growing.is_revised and (there or not is_whole):
        return TextReplaced(text) if may_replace and text != there else None
    # Most often it is one token more: not the whole is compared.
    delta = text[len(there) :]
    return TextDelta(delta) if delta and not (is_whole and delta.isspace()) else None


def show_rows(
    context: Context, requests: Sequence[Request], shown: str
) -> Generator[Output, Any, list[Generation]]:
    """Show texts that differ by their seed, with what there is to say of them.

    Returns those that had begun: a stop ends all.

    Raises:
        EngineStopped: if none had begun.
    """
    settings = context.session.settings
    growing = [PartialText(bool(settings.value("raw"))) for _ in requests]
    has_stats = bool(settings.value("stats"))
    pace, is_begun, written = Pace(context.is_terminal), False, 0
    with closing(context.engine.generate_rows(requests)) as events:
        try:
            for row, event in events:
                if isinstance(event, Started) and not is_begun:
                    yield from map(Notice, notices_before(event, shown))
                    is_begun = True
                is_new = growing[row].follow(event)
                if is_new and not isinstance(event, Finished) and pace.is_due():
                    yield Live(_draw(shown, growing))
                while not context.is_terminal and written < len(growing):
                    if (generation := growing[written].generation) is None:
                        break
                    if generation.has_begun:
                        yield TextStarted(shown)
                        yield TextDelta(growing[written].text or "")
                        yield TextEnded()
                        if has_stats:
                            yield Notice(stats_line(generation))
                    written += 1
        except EngineStopped:
            pass  # what is there is kept
    growing = [text for text in growing if text.has_begun]
    if not growing:
        raise EngineStopped()
    if context.is_terminal:
        yield Live(_draw(shown, growing, is_whole=True))
    made = [text.generation for text in growing if text.generation is not None]
    yield from map(Notice, notices_of(made, len(requests)))
    if has_stats and context.is_terminal:
        yield Notice(rows_line(made))
    return made


def _draw(
    shown: str, growing: Sequence[PartialText], is_whole: bool = False
) -> RowsView:
    """What the terminal shows; texts that have not begun are left out."""
    rows = [
        Row(f"seed {text.seed}", text.text or "", text.generation is None)
        for text in growing
        if text.seed is not None
    ]
    return RowsView(ending(shown, SHOWN_BEFORE), rows, is_whole)
