"""Commands that work on the texts so far."""

from dataclasses import replace

from rich.text import Text

from minigpt_repl.engine.request import Request
from minigpt_repl.errors import UsageError
from minigpt_repl.models.text.normalize import normalize_text
from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.continuation import (
    again_request,
    continue_prompt,
    continue_text,
    describe_sampler,
    ending,
    going_on_request,
    last_node,
)
from minigpt_repl.repl.outputs import AskEditor, Notice, Say
from minigpt_repl.repl.session import Session
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.suggest import quoted

MOST_AGAIN = 100
SHOWN_BEFORE = 200
"""Characters of the text so far that are shown before it goes on."""


@command("again", usage="[N]")
def again(desk: Desk, arguments: str) -> Steps:
    """Continue the last prompt once more, with the settings as they are now.

    With a number, that many times, each with a new seed. If a seed is set, the
    seeds count up from that of the last text.
    """
    node = last_node(desk.session, ":again")
    times = _read_times(arguments)
    request = again_request(desk, node)
    shown = _shown_of(desk.session, node.prompt, node.parent)
    session = desk.session
    for count in range(1, times + 1):
        if arguments and request.seed is not None:
            seed = (node.generation.seed + count) % 2**31
            request = replace(request, seed=seed)
        session = yield from continue_text(
            replace(desk, session=session), request, shown, node.parent
        )
        made = session.nodes[-1].generation
        if made.stop_reason == "interrupted":
            break
        if made.token_ids == node.generation.token_ids:
            yield Notice(_why_the_same(request))
            break
    return session


@command("continue")
def go_on(desk: Desk, arguments: str) -> Steps:
    """Go on from the end of the last text, by its exact tokens."""
    node = last_node(desk.session, ":continue")
    request = going_on_request(desk, node)
    shown = ending(node.text, SHOWN_BEFORE)
    return (yield from continue_text(desk, request, shown, node.id))


@command("undo")
def undo(desk: Desk, arguments: str) -> Steps:
    """Drop the newest text."""
    session = desk.session
    if not session.nodes:
        raise UsageError(":undo: there is no text to drop")
    *rest, dropped = session.nodes
    current = session.current
    if current == dropped.id:
        before = dropped.parent or (rest[-1].id if rest else None)
        current = before
    words = quoted(ending(dropped.text, 40))
    yield Notice(f"dropped text {dropped.id}: {words}")
    return replace(session, nodes=tuple(rest), current=current)


@command("raw")
def raw(desk: Desk, arguments: str) -> Steps:
    """Show the new tokens of the last text as the model made them."""
    node = last_node(desk.session, ":raw")
    words = (token.text for token in node.generation.tokens)
    yield Say(Text(" ".join(words)))
    return desk.session


@command("edit")
def edit(desk: Desk, arguments: str) -> Steps:
    """Edit the last prompt in $EDITOR, then continue it."""
    node = desk.session.node
    before = "" if node is None else node.generation.request.prompt
    if node is not None:
        before = _shown_of(desk.session, node.prompt, node.parent)
    edited = yield AskEditor(before)
    prompt = normalize_text(edited or "").strip()
    if not prompt:
        yield Notice("nothing to continue")
        return desk.session
    return (yield from continue_prompt(desk, prompt))


def _why_the_same(request: Request) -> str:
    if find_sampler(request.sampler).is_random and request.seed is not None:
        return "the same text, because the seed is set: :unset seed draws new ones"
    return f"the same text: {describe_sampler(request)} draws nothing at random"


def _shown_of(session: Session, prompt: str, parent: int | None) -> str:
    """The part of a prompt that the user typed: what comes after the parent."""
    node = None if parent is None else session.find(parent)
    if node is None or not prompt.startswith(node.text):
        return prompt
    return prompt.removeprefix(node.text).strip() or ending(prompt, SHOWN_BEFORE)


def _read_times(arguments: str) -> int:
    if not arguments:
        return 1
    try:
        times = int(arguments)
    except ValueError:
        times = 0
    if not 1 <= times <= MOST_AGAIN:
        raise UsageError(
            f":again takes a whole number 1..{MOST_AGAIN}; got {quoted(arguments)}"
        )
    return times
