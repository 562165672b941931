"""`:step`: one token at a time, each choice the user's.

It is answered by a key, or by a line where there are no keys.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Any, NamedTuple

from rich.console import Group
from rich.text import Text

from minigpt_repl.compare.choice import (
    Distribution,
    next_distribution,
    strategy_columns,
)
from minigpt_repl.compare.pieces import (
    CURSOR,
    NOT_FINITE,
    count_tokens,
    ending,
    visible,
)
from minigpt_repl.compare.spec import (
    Strategy,
    is_sampler,
    parse_strategies,
    read_whole,
    split_words,
)
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import SEEDS, Generation, Request, Token, finished
from minigpt_repl.errors import EngineStopped, MiniGPTError, UsageError
from minigpt_repl.repl.commands.comparing import strategy_words
from minigpt_repl.repl.context import Context, Steps, current_ids, last_node
from minigpt_repl.repl.continuation import continue_rows
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Ask, AskKey, Live, Notice, Output, Say
from minigpt_repl.sampling.registry import all_names, all_samplers
from minigpt_repl.settings import Settings
from minigpt_repl.shown import nearest, quoted, shown

MOST_STEPPED = 2
SHOWN_BEFORE = 150
CONTEXT_FULL = "the sampler can't go on from here: the context is full"
NO_TOKEN = {"interrupted": "stopped", "not_finite": NOT_FINITE}
"""Why there was no token, where it is not for want of room."""
DIGITS = tuple("0123456789")
LINES = "Enter accepts, 0-9 picks, u undoes, s NAME switches, c runs on, q leaves"


class Move(Enum):
    """An answer that chooses no token."""

    BACK = auto()
    RUN_ON = auto()
    LEAVE = auto()


Answer = int | str | Strategy | Move
"""The id of a token, what the user wrote, another strategy from here on, or a move."""


class State(NamedTuple):
    """Where a stepped text is: the text so far, its tokens, and the id of the node that
    it ends in, which a prompt has not."""

    text: str
    ids: tuple[int, ...]
    node: int | None


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
    yield Say(stepping.text_so_far())
    return stepping.session


class Stepping:
    """A text that is stepped, by one strategy or by two side by side.

    Attributes:
        states: where it was, from its start on, and where it is.
        strategies: in use; the first one is asked where both agree.
        session: with every choice so far.
        proposed: the token that each strategy would take.
        written: tokens that the user wrote and that are not taken yet.
        why_ended: why there was nothing to propose.
    """

    def __init__(
        self, context: Context, start: State, strategies: list[Strategy]
    ) -> None:
        self.context = context
        self.states = [start]
        self.strategies = strategies
        self.session = context.session
        self.length = int(context.session.settings.value("length") or 0)
        self.seed = context.session.settings.request("").seed
        self.proposed: list[Generation] = []
        self.written: list[int] = []
        self.why_ended = ""

    @property
    def done(self) -> int:
        """How many tokens were stepped."""
        return len(self.states) - 1

    @property
    def is_short(self) -> bool:
        """Whether there is a token to come."""
        return self.done < self.length

    @property
    def chosen(self) -> int:
        """Id of the token that the rule takes."""
        return self.proposed[0].token_ids[0]

    def propose(self) -> bool:
        """Ask each strategy for the next token; returns whether there is one."""
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
                self.seed = made.seed - self.done
            self.proposed.append(made)
        return True

    def table(self) -> Distribution:
        """The most probable tokens, and what each strategy leaves of them."""
        made, engine = self.proposed[0], self.context.engine
        ids = made.started.prompt_ids  # what the sampler saw: a long text is cropped
        logits = inspection.next_logits(engine, ids)
        place = inspection.next_place(ids, engine, made.seed)
        return next_distribution(
            logits,
            strategy_columns(self.strategies, logits, place),
            engine.info,
            chosen=[one.token_ids[0] for one in self.proposed],
            numbered=True,
        )

    def text_so_far(self) -> Text:
        """The text so far; of a long one its end."""
        return Text(shown(ending(self.states[-1].text, SHOWN_BEFORE)), style="bold")

    def answer(self) -> Generator[Output, Any, Answer]:
        """What is to become of the proposal."""
        if self.written:
            return self.written.pop(0)
        table = self.table()
        if self.context.has_keys:
            return (yield from self._answer_by_key(table))
        yield Say(self.text_so_far())
        yield Say(table)
        return (yield from self._answer_by_line([one.id for one in table.candidates]))

    def _answer_by_key(self, table: Distribution) -> Generator[Output, Any, Answer]:
        """An answer by one key, or by a word and Enter."""
        writing = ""
        while True:
            yield Live(self._drawn(table, writing))
            key = yield AskKey()
            if key == "escape" and writing:
                writing = ""
            elif key in (None, "escape"):
                return Move.LEAVE
            elif key == "enter":
                return writing.strip() or self.chosen
            elif key == "backspace" and writing:
                writing = writing[:-1]
            elif key in ("left", "backspace"):
                if self.done:
                    return Move.BACK
            elif key == "tab":
                return self._next_strategy()
            elif key == ">" and not writing:
                return Move.RUN_ON
            elif key in DIGITS and not writing:
                if int(key) < len(table.candidates):
                    return table.candidates[int(key)].id
            elif len(key) == 1 and (writing or key != " "):
                writing += key

    def _drawn(self, table: Distribution, writing: str) -> Group:
        """The screen, with what is being written at the end of the text."""
        text = self.text_so_far()
        keys = ["Enter takes what you wrote", "Backspace", "Esc takes it back"]
        if writing:
            text.append(f" {shown(writing)}", style="not bold cyan")
        else:
            keys = [
                f"Enter takes {visible(self.chosen, self.context.engine.info)}",
                "0-9 picks",
                "type a word of your own",
                *["← goes back"] * bool(self.done),
                "Tab another sampler",
                "> runs on",
                "Esc leaves",
            ]
        labels = "  ".join(strategy.label for strategy in self.strategies)
        title = (
            f"token {self.done + 1} of {self.length} · {labels} · "
            f"seed {self.proposed[0].seed}"
        )
        help = Text(" · ".join(keys), style="dim")
        return Group(text.append(CURSOR), Text(shown(title), style="dim"), table, help)

    def _next_strategy(self) -> Strategy:
        """The sampler after the one in use, as it is set."""
        settings = self.context.session.settings
        specs = [spec for spec in settings.samplers() if spec.search is None]
        names = [spec.name for spec in specs]
        in_use = self.strategies[0].sampler
        place = names.index(in_use) + 1 if in_use in names else 0
        spec = specs[place % len(specs)]
        return Strategy(spec.name, settings.parameters(spec))

    def _answer_by_line(self, ids: Sequence[int]) -> Generator[Output, Any, Answer]:
        """An answer by a line; a person is asked until it can be carried out."""
        while True:
            typed = yield Ask(f"{LINES}: ")
            if typed is None:
                return Move.LEAVE
            answer = typed.strip()
            row = read_whole(answer)
            if row is not None and 0 <= row < len(ids):
                return ids[row]
            match answer.split(maxsplit=1):
                case []:
                    return self.chosen
                case ["c"]:
                    return Move.RUN_ON
                case ["q"]:
                    return Move.LEAVE
                case ["u"] if self.done:
                    return Move.BACK
                case ["u"]:
                    yield Notice("there is nothing to undo")
                case ["s", name]:
                    try:
                        (strategy,) = parse_strategies([name], self.session.settings)
                    except MiniGPTError as error:
                        if not self.context.is_terminal:
                            raise
                        yield Notice(str(error))
                    else:
                        return strategy
                case ["s"] if self.context.is_terminal:
                    names = ", ".join(spec.name for spec in all_samplers())
                    yield Notice(f"s NAME switches the sampler: {names}")
                case _:
                    told = f"{quoted(answer)} is no answer to :step: {LINES}"
                    if not self.context.is_terminal:
                        raise UsageError(told)
                    yield Notice(told)

    def take(self, answer: Answer) -> Generator[Output, Any, None]:
        """Carry an answer out."""
        match answer:
            case int():
                self._accept(answer)
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
        rest = self._request(self.strategies[0], self.length - self.done)
        place = replace(self.context, session=self.session)
        shown_before = ending(state.text, SHOWN_BEFORE)
        return (yield from continue_rows(place, [rest], shown_before, state.node))

    def part(self) -> Generator[Output, Any, None]:
        """Both ways become texts of the tree."""
        state = self.states[-1]
        yield Say(self.text_so_far())
        yield Say(self.table())
        told = []
        for strategy, made in zip(self.strategies, self.proposed, strict=True):
            self.session = self.session.add(state.text, made, state.node)
            word = visible(made.token_ids[0], self.context.engine.info)
            told.append(f"{strategy.label} takes {word} (text {self.session.current})")
        yield Notice(
            f"after {count_tokens(self.done)} they part, "
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
            seed=None if self.seed is None else (self.seed + self.done) % SEEDS,
            prompt_ids=state.ids,
            with_scores=True,
        )

    def _accept(self, token_id: int) -> None:
        """One more token: the proposed one, or another in its place."""
        state, made = self.states[-1], self.proposed[0]
        if token_id != self.chosen:
            made = self._picked(token_id)
        self.session = self.session.add(state.text, made, state.node)
        ids = (*state.ids, token_id)
        self.states.append(State(state.text + made.text, ids, self.session.current))

    def _picked(self, token_id: int) -> Generation:
        """The proposed step, with a token of the user's in its place."""
        engine, state = self.context.engine, self.states[-1]
        text = engine.info.text
        (piece,) = text.parts(state.text, state.ids, (token_id,))
        picked = replace(
            self.proposed[0],
            tokens=(Token(token_id, text.piece(token_id)),),
            text=piece,
            raw_text=text.raw_text((token_id,)),
            stop_reason="picked",
        )
        return inspection.with_scores(picked, engine)

    def _ids_of(self, word: str) -> list[int]:
        """The tokens of what the user wrote behind the text."""
        engine, text = self.context.engine, self.context.engine.info.text
        if word in text.pieces:
            return [text.pieces.index(word)]
        ids = list(engine.encode(f" {word}"))
        if not ids or text.unknown_id in ids:
            raise UsageError(f"the model has no tokens for {quoted(word)}")
        return ids


def _read(settings: Settings, arguments: str) -> tuple[list[Strategy], str]:
    """The strategies, at most two, and the prompt, if one was typed."""
    in_use = Strategy(settings.sampler.name, settings.parameters())
    specs, mark, prompt = f" {arguments} ".partition(" -- ")
    if not mark or _is_prose(specs):
        return [in_use], arguments
    strategies = list(parse_strategies(split_words(specs), settings))
    if len(strategies) > MOST_STEPPED:
        raise UsageError(f":step takes at most two strategies; got {len(strategies)}")
    return strategies or [in_use], prompt.strip()


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


def _beginning(context: Context, prompt: str) -> State:
    if prompt:
        return State(prompt, context.engine.encode(prompt), None)
    node = last_node(context.session, ":step")
    return State(node.text, current_ids(context), node.id)
