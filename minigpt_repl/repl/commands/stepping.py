"""`:step`: one token at a time, each choice the user's."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.text import Text

from minigpt_repl.compare.choice import Distribution, next_distribution
from minigpt_repl.compare.pieces import NOT_FINITE, count_tokens, ending, visible
from minigpt_repl.compare.spec import (
    Strategy,
    is_sampler,
    parse_strategies,
    split_words,
)
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import SEEDS, Generation, Request, Token, finished
from minigpt_repl.errors import EngineStopped, UsageError
from minigpt_repl.models.text.codec import as_typed
from minigpt_repl.repl.commands.comparing import strategy_words
from minigpt_repl.repl.commands.step_answers import (
    Answer,
    Move,
    StepPrompt,
    by_key,
    by_line,
)
from minigpt_repl.repl.context import Context, Steps, current_ids
from minigpt_repl.repl.continuation import continue_rows
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Notice, Output, Say
from minigpt_repl.sampling.registry import all_names, find_sampler
from minigpt_repl.settings import Settings
from minigpt_repl.shown import nearest, quoted, shown

if TYPE_CHECKING:
    import numpy as np

MOST_STEPPED = 2
SHOWN_TOKENS = 10
SHOWN_BEFORE = 150
CONTEXT_FULL = "the sampler can't go on from here: the context is full"
NO_TOKEN = {"interrupted": "stopped", "not_finite": NOT_FINITE}
"""Why there was no token, where it is not for want of room."""


@dataclass(frozen=True)
class StepState:
    """How far a stepped text has come: the text so far and its tokens, the id of the
    node that it ends in, which a prompt has not, and how many tokens were stepped."""

    text: str
    ids: tuple[int, ...]
    node: int | None
    done: int = 0


@command("step", usage="[PROMPT | SPEC [SPEC] -- [PROMPT]]", complete=strategy_words)
def step(context: Context, arguments: str) -> Steps:
    """Make a text one token at a time, with a say in each.

    It starts from a prompt, or goes on from the current text. Enter lets the rule
    choose, a digit picks from the list, a word that you type is the next one, the left
    arrow goes back, Tab takes another sampler, `>` runs on, Escape leaves. `:step
    greedy top_k -- the king` steps both until they part; behind a `--` a prompt may
    have another. Each token has a seed of its own, which counts up, so the text is not
    that of `:again`. In a script a line is an answer: nothing, a digit, `u` undoes,
    `s NAME` switches, `c` runs on, `q` leaves. Every choice is a node of the tree, one
    that was undone too: see `:tree`.
    """
    strategies, prompt = _read(context.session.settings, arguments)
    stepping = Stepping(context, _beginning(context, prompt), strategies)
    while stepping.is_short and stepping.propose():
        if len({one.token_ids for one in stepping.proposed}) > 1:
            yield from stepping.part()
            return stepping.session
        answer = yield from stepping.answer()
        if answer is Move.LEAVE:
            break
        if answer is Move.RUN_ON:
            return (yield from stepping.run_on())
        yield from stepping.take(answer)
    else:
        if stepping.is_short:
            yield Notice(stepping.why_ended)
    yield Say(text_so_far(stepping.states[-1]))
    return stepping.session


class Stepping:
    """A text that is stepped, by one strategy or by two side by side.

    Attributes:
        states: where it was, and where it is.
        strategies: in use; the first one is asked where both agree.
        session: with every choice so far.
        proposed: the token that each strategy would take.
        logits: the model's, `(vocabulary,)`.
        written: tokens that the user wrote and that are not taken yet.
    """

    def __init__(
        self, context: Context, start: StepState, strategies: list[Strategy]
    ) -> None:
        self.context = context
        self.states = [start]
        self.strategies = strategies
        self.session = context.session
        self.length = int(context.session.settings.value("length") or 0)
        self.seed = context.session.settings.request("").seed
        self.proposed: list[Generation] = []
        self.logits: np.ndarray
        self.written: list[int] = []
        self.why_ended = ""

    @property
    def is_short(self) -> bool:
        """Whether there is a token to come."""
        return self.states[-1].done < self.length

    def propose(self) -> bool:
        """Ask each strategy for the next token; returns whether there is one."""
        state = self.states[-1]
        self.proposed = []
        for strategy in self.strategies:
            try:
                *_, last = self.context.engine.generate(self._request(strategy, 1))
            except EngineStopped as stopped:
                self.why_ended = str(stopped)
                return False
            made = finished(last)
            if not made.tokens:
                self.why_ended = NO_TOKEN.get(made.stop_reason, CONTEXT_FULL)
                return False
            if self.seed is None:  # drawn by the first of all
                self.seed = made.seed - state.done
            self.proposed.append(made)
        # What the sampler saw: a long text is cropped.
        ids = self.proposed[0].started.prompt_ids
        self.logits = inspection.next_logits(self.context.engine, ids)
        return True

    def answer(self) -> Generator[Output, Any, Answer]:
        """What is to become of the proposal."""
        if self.written:
            return self.written.pop(0)
        ask = by_key if self.context.has_keys else by_line
        return (yield from ask(self.context, self.step()))

    def step(self) -> StepPrompt:
        """What the user sees before a choice."""
        state, chosen = self.states[-1], self.proposed[0].token_ids[0]
        labels = "  ".join(strategy.label for strategy in self.strategies)
        return StepPrompt(
            text=text_so_far(state),
            title=f"token {state.done + 1} of {self.length} · {labels} · "
            f"seed {self.proposed[0].seed}",
            table=self.table(),
            chosen=chosen,
            choice=visible(chosen, self.context.engine.info),
            can_go_back=len(self.states) > 1,
            strategy=self.strategies[0],
        )

    def table(self) -> Distribution:
        """The most probable tokens, and what each strategy leaves of them."""
        return next_distribution(
            self.logits,
            self.strategies,
            self.context.engine.info,
            SHOWN_TOKENS,
            chosen=[one.token_ids[0] for one in self.proposed],
            numbered=True,
            where=self._place(),
        )

    def take(self, answer: Answer) -> Generator[Output, Any, None]:
        """Carry an answer out."""
        match answer:
            case int():
                is_same = answer == self.proposed[0].token_ids[0]
                self._accept(self.proposed[0] if is_same else self._picked(answer))
            case str():
                try:
                    self.written = self._ids_of(answer)
                except UsageError as error:
                    yield Notice(str(error))
            case Strategy():
                self.strategies = [answer, *self.strategies[1:]]
            case Move.BACK:
                self.states.pop()
                self.session = replace(self.session, current=self.states[-1].node)

    def run_on(self) -> Steps:
        """The rest at once."""
        state = self.states[-1]
        rest = self._request(self.strategies[0], self.length - state.done)
        place = replace(self.context, session=self.session)
        shown_before = ending(state.text, SHOWN_BEFORE)
        return (yield from continue_rows(place, [rest], shown_before, state.node))

    def part(self) -> Generator[Output, Any, None]:
        """Both ways become texts of the tree."""
        state = self.states[-1]
        yield Say(text_so_far(state))
        yield Say(self.table())
        told = []
        for strategy, made in zip(self.strategies, self.proposed, strict=True):
            self.session = self.session.add(state.text, made, state.node)
            word = visible(made.token_ids[0], self.context.engine.info)
            told.append(f"{strategy.label} takes {word} (text {self.session.current})")
        yield Notice(
            f"after {count_tokens(state.done)} they part, "
            f"seed {self.proposed[0].seed}: {', '.join(told)}; "
            ":goto and :continue go on from either"
        )

    def _request(self, strategy: Strategy, length: int) -> Request:
        state = self.states[-1]
        return replace(
            self.context.session.settings.request(state.text),
            sampler=strategy.sampler,
            parameters=dict(strategy.parameters),
            length=length,
            seed=None if self.seed is None else (self.seed + state.done) % SEEDS,
            prompt_ids=state.ids,
            with_scores=True,
        )

    def _place(self) -> inspection.TokenContexts:
        made, engine = self.proposed[0], self.context.engine
        return inspection.next_place(made.started.prompt_ids, engine, made.seed)

    def _picked(self, token_id: int) -> Generation:
        """The proposed step, with a token of the user's in its place."""
        text, state = self.context.engine.info.text, self.states[-1]
        (piece,) = text.parts(state.text, state.ids, (token_id,))
        strategy, place = self.strategies[0], self._place()
        spec = find_sampler(strategy.sampler)
        kept = inspection.kept_mask(spec, strategy.parameters, self.logits, place)
        score = inspection.score_token(self.logits, token_id, kept, text)
        return replace(
            self.proposed[0],
            tokens=(Token(token_id, text.piece(token_id), score),),
            text=piece,
            raw_text=text.raw_text((token_id,)),
            stop_reason="picked",
        )

    def _ids_of(self, word: str) -> list[int]:
        """The tokens of what the user wrote behind the text."""
        engine, text = self.context.engine, self.context.engine.info.text
        if word in text.pieces:
            return [text.pieces.index(word)]
        ids = list(engine.encode(f" {word}"))
        if not ids or text.unknown_id in ids:
            raise UsageError(f"the model has no tokens for {quoted(word)}")
        return ids

    def _accept(self, chosen: Generation) -> None:
        state = self.states[-1]
        self.session = self.session.add(state.text, chosen, state.node)
        after = StepState(
            text=state.text + chosen.text,
            ids=(*state.ids, *chosen.token_ids),
            node=self.session.current,
            done=state.done + 1,
        )
        self.states.append(after)


def text_so_far(state: StepState) -> Text:
    """The text so far; of a long one its end."""
    return Text(shown(ending(state.text, SHOWN_BEFORE)), style="bold")


def _read(settings: Settings, arguments: str) -> tuple[list[Strategy], str]:
    """The strategies, at most two, and the prompt, if one was typed."""
    in_use = Strategy(settings.sampler.name, settings.parameters())
    specs, mark, prompt = f" {arguments} ".partition(" -- ")
    if not mark or _is_prose(specs):
        return [in_use], as_typed(arguments).strip()
    strategies = list(parse_strategies(split_words(specs), settings))
    if len(strategies) > MOST_STEPPED:
        raise UsageError(f":step takes at most two strategies; got {len(strategies)}")
    return strategies or [in_use], as_typed(prompt).strip()


def _is_prose(specs: str) -> bool:
    """Whether what stands before ` -- ` is part of a prompt that has one in it: it
    begins with no strategy, and is none with a slip of the fingers."""
    # Not by `split_words`: an apostrophe is no quote.
    words = "+".join(map(str.strip, specs.split("+"))).split()
    names = [word.partition(":")[0].partition("=")[0] for word in words]
    if not words or names[0] != words[0] or is_sampler(words[0]):
        return False
    known = all_names()
    return len(words) > MOST_STEPPED or not any(nearest(each, known) for each in names)


def _beginning(context: Context, prompt: str) -> StepState:
    if prompt:
        return StepState(prompt, context.engine.encode(prompt), None)
    node = context.session.node
    if node is None:
        raise UsageError(":step needs a text to go on from, or a prompt: :step PROMPT")
    return StepState(node.text, current_ids(context), node.id)
