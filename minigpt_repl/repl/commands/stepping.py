"""`:step`: one token at a time, each choice the user's."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from rich.text import Text

from minigpt_repl.compare.spec import Strategy, parse_strategies, read_whole
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import (
    SEEDS,
    Generation,
    Request,
    Token,
    finished,
)
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.models.text.normalize import as_typed
from minigpt_repl.repl.commands.probabilities import distribution_table
from minigpt_repl.repl.context import Context, Steps, current_ids
from minigpt_repl.repl.continuation import continue_text, ending
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Ask, Notice, Output, Say
from minigpt_repl.repl.session import Session
from minigpt_repl.sampling.registry import all_samplers, find_sampler
from minigpt_repl.shown import shown
from minigpt_repl.suggest import quoted

SHOWN_TOKENS = 10
SHOWN_BEFORE = 200
KEYS = "Enter accepts, 0-9 picks, u undoes, s NAME switches, c runs on, q leaves"


@dataclass(frozen=True)
class Stand:
    """Where a stepped text stands.

    Attributes:
        text: all that is there, as displayed.
        ids: its tokens.
        node: id of the node that it ends in, or `None` at the prompt.
        done: tokens stepped so far.
    """

    text: str
    ids: tuple[int, ...]
    node: int | None
    done: int = 0


@command("step", usage="[PROMPT]")
def step(context: Context, arguments: str) -> Steps:
    """Make a text one token at a time, with a say in each.

    It starts from a prompt, or goes on from the current text. Enter accepts the
    sampler's choice, a digit picks from the list, `u` undoes, `s NAME` switches
    the sampler from this token on, `c` runs on, `q` leaves. Every choice is a
    node of the tree, one that was undone too: see `:tree`.
    """
    session = context.session
    settings = session.settings
    stands = [_beginning(context, as_typed(arguments).strip())]
    strategy = Strategy(settings.sampler.name, settings.parameters())
    length = int(settings.value("length") or 0)
    seed = int(settings.value("seed") or 0)
    while stands[-1].done < length:
        stand = stands[-1]
        request = _request(stand, strategy, 1, seed + stand.done)
        proposed = _one_token(context, request)
        if not proposed.tokens:
            yield Notice("the sampler can't go on from here: the context is full")
            break
        # What the sampler saw: a long text is cropped.
        logits = context.engine.logits(proposed.started.prompt_ids)[-1]
        yield from _show(context, stand, strategy, logits, proposed)
        answer = yield from _ask(context, stands, logits)
        if answer == "q":
            break
        if answer == "u":
            stands.pop()
            session = replace(session, current=stands[-1].node)
        elif answer == "c":
            rest = _request(stand, strategy, length - stand.done, seed + stand.done)
            before = ending(stand.text, SHOWN_BEFORE)
            place = replace(context, session=session)
            return (yield from continue_text(place, rest, before, stand.node))
        elif isinstance(answer, Strategy):
            strategy = answer
        else:
            chosen = proposed
            if isinstance(answer, int) and answer != proposed.token_ids[0]:
                chosen = _picked(context, stand, strategy, logits, proposed, answer)
            session, after = _accept(session, stand, chosen)
            stands.append(after)
    yield Say(_text_so_far(stands[-1]))
    return session


def _beginning(context: Context, prompt: str) -> Stand:
    if prompt:
        return Stand(prompt, context.engine.encode(prompt), None)
    node = context.session.node
    if node is None:
        raise UsageError(":step needs a text to go on from, or a prompt: :step PROMPT")
    return Stand(node.text, current_ids(context), node.id)


def _request(stand: Stand, strategy: Strategy, length: int, seed: int) -> Request:
    return Request(
        prompt=stand.text,
        sampler=strategy.sampler,
        parameters=dict(strategy.parameters),
        length=length,
        seed=seed % SEEDS,
        prompt_ids=stand.ids,
        with_scores=True,
    )


def _one_token(context: Context, request: Request) -> Generation:
    *_, last = context.engine.generate(request)
    return finished(last)


def _place(context: Context, proposed: Generation) -> inspection.Places:
    return inspection.next_place(
        proposed.started.prompt_ids, context.engine, proposed.seed
    )


def _show(
    context: Context,
    stand: Stand,
    strategy: Strategy,
    logits: Any,
    proposed: Generation,
) -> Iterator[Output]:
    yield Say(_text_so_far(stand))
    yield Say(
        distribution_table(
            logits,
            (strategy,),
            context.engine.info,
            SHOWN_TOKENS,
            chosen=proposed.token_ids[0],
            numbered=True,
            where=_place(context, proposed),
        )
    )


def _text_so_far(stand: Stand) -> Text:
    return Text(shown(ending(stand.text, SHOWN_BEFORE)), style="bold")


def _ask(
    context: Context, stands: list[Stand], logits: Any
) -> Generator[Output, Any, int | str | Strategy | None]:
    """The user's answer, asked for until it can be carried out.

    Returns a token's id, another strategy, one of `u`, `c`, `q`, or `None` to
    accept the sampler's choice.

    Raises:
        UsageError: where nobody looks, for a line that is no answer.
    """
    best = inspection.top_ids(inspection.probabilities(logits), SHOWN_TOKENS)
    while True:
        typed = yield Ask(f"{KEYS}: ")
        if typed is None:
            return "q"
        answer = typed.strip()
        if not answer:
            return None
        if answer in ("c", "q") or (answer == "u" and len(stands) > 1):
            return str(answer)
        row = read_whole(answer)
        if row is not None and 0 <= row < len(best):
            return best[row]
        if answer == "u":
            yield Notice("there is nothing to undo")
        elif answer.startswith("s "):
            try:
                (strategy,) = parse_strategies(
                    [answer.removeprefix("s ").strip()], context.session.settings
                )
            except MiniGPTError as error:
                if not context.is_terminal:
                    raise
                yield Notice(str(error))
            else:
                return strategy
        elif answer == "s" and context.is_terminal:
            names = ", ".join(spec.name for spec in all_samplers())
            yield Notice(f"s NAME switches the sampler: {names}")
        elif context.is_terminal:
            yield Notice(f"{quoted(answer)}? {KEYS}")
        else:
            raise UsageError(f"{quoted(answer)} is no answer to :step: {KEYS}")


def _picked(
    context: Context,
    stand: Stand,
    strategy: Strategy,
    logits: Any,
    proposed: Generation,
    token_id: int,
) -> Generation:
    """The proposed step, with the token that the user picked in its place."""
    info = context.engine.info
    word = info.text.piece(token_id)
    (piece,) = info.text.parts(stand.text, stand.ids, (token_id,))
    kept = inspection.kept_mask(
        find_sampler(strategy.sampler),
        strategy.parameters,
        logits,
        _place(context, proposed),
    )
    (score,) = inspection.score_tokens(logits[None], (token_id,), kept[None])
    token = Token(token_id, word, score)
    return replace(
        proposed,
        tokens=(token,),
        text=piece,
        raw_text=info.text.raw_text((token_id,)),
        stop_reason="picked",
    )


def _accept(
    session: Session, stand: Stand, chosen: Generation
) -> tuple[Session, Stand]:
    session = session.add(stand.text, chosen, stand.node)
    after = Stand(
        text=stand.text + chosen.text,
        ids=(*stand.ids, *chosen.token_ids),
        node=session.current,
        done=stand.done + 1,
    )
    return session, after
