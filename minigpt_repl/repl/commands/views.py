"""What the samplers that look at whole texts weigh: `:beams`, `:candidates`, `:drafts`.

Each makes one text of the last prompt and shows what was decided on the way.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from typing import Any, cast

from rich.console import RenderableType
from rich.text import Text

from minigpt_repl.compare.spec import split_prompt
from minigpt_repl.engine.request import (
    Event,
    Finished,
    Generation,
    Request,
)
from minigpt_repl.errors import EngineError, UsageError
from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.commands.compare import prompt_for
from minigpt_repl.repl.continuation import stats_line
from minigpt_repl.repl.outputs import Live, Notice, Output, Say
from minigpt_repl.repl.pace import Pace
from minigpt_repl.repl.weighed import BeamsView, CandidatesView, DraftsView
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.suggest import quoted

Draw = Callable[[Event], RenderableType | None]


@command("beams", usage="[-- PROMPT]")
def beams(desk: Desk, arguments: str) -> Steps:
    """Watch beam search: the surviving hypotheses, then the best that were dropped.

    Each has its log-probability, the sum over its new tokens.
    """
    request, info = _request(desk, "beam", arguments), desk.engine.info
    view = BeamsView(request.prompt, info)
    generation = yield from _watch(desk, request, view.draw)
    if dropped := view.closest():
        yield Say(Text("\ndropped by the smallest margins"))
        yield Say(view.dropped(dropped))
    return (yield from _finish(desk, request, generation))


@command("candidates", usage="[-- PROMPT]")
def candidates(desk: Desk, arguments: str) -> Steps:
    """Watch contrastive search: probability against likeness, for each candidate.

    After it, the tokens that were chosen in place of the most probable one.
    """
    request, info = _request(desk, "contrastive", arguments), desk.engine.info
    view = CandidatesView(request, info)
    generation = yield from _watch(desk, request, view.draw)
    yield Say(view.changes())
    return (yield from _finish(desk, request, generation))


@command("drafts", usage="[-- PROMPT]")
def drafts(desk: Desk, arguments: str) -> Steps:
    """Watch speculative decoding: which guesses of the draft model were accepted.

    One line a round: `+` accepted, `-` rejected, `=` the model's own token.
    """
    info = desk.engine.info
    if not info.has_draft:
        raise UsageError(":drafts needs a draft model, and the checkpoint has none")
    request = _request(desk, "speculative", arguments)
    view = DraftsView(info)
    generation = yield from _watch(desk, request, view.draw)
    yield Say(Text(f"\n{request.prompt}{generation.text}"))
    yield Notice(view.rate(len(generation.tokens)))
    return (yield from _finish(desk, request, generation))


def _request(desk: Desk, sampler: str, arguments: str) -> Request:
    """The last prompt, or the one that was typed, with that sampler as it is set."""
    settings = desk.session.settings
    words, typed = split_prompt(arguments)
    if words:
        raise UsageError(
            f":{_NAMES[sampler]} takes a prompt after --; got {quoted(words)}"
        )
    prompt, ids = prompt_for(desk, typed, f":{_NAMES[sampler]}")
    return replace(
        settings.request(prompt),
        sampler=sampler,
        parameters=settings.parameters(find_sampler(sampler)),
        prompt_ids=ids,
        with_details=True,
    )


_NAMES = {"beam": "beams", "contrastive": "candidates", "speculative": "drafts"}


def _watch(
    desk: Desk, request: Request, draw: Draw
) -> Generator[Output, Any, Generation]:
    """Run a request; what `draw` makes of its events is shown live."""
    pace = Pace(desk.is_terminal)
    last: RenderableType | None = None
    events = cast("Generator[Event, None, None]", desk.engine.generate(request))
    with closing(events):
        for event in events:
            last = draw(event) or last
            if last is not None and pace.is_due():
                yield Live(last)
            if isinstance(event, Finished):
                if last is not None:
                    yield Live(last)
                return event.generation
    raise EngineError("the engine ended a text without finishing it; try again")


def _finish(desk: Desk, request: Request, generation: Generation) -> Steps:
    yield Notice(stats_line(generation))
    return desk.session.add(request.prompt, generation)
