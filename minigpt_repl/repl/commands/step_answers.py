"""How `:step` is answered: by a key, or by a line where there are no keys."""

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from rich.console import Group
from rich.text import Text

from minigpt_repl.compare.choice import Distribution
from minigpt_repl.compare.pieces import CURSOR
from minigpt_repl.compare.spec import Strategy, parse_strategies, read_whole
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.repl.context import Context
from minigpt_repl.repl.output import Ask, AskKey, Live, Notice, Output, Say
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.shown import quoted, shown

LINES = "Enter accepts, 0-9 picks, u undoes, s NAME switches, c runs on, q leaves"


class Move(Enum):
    """An answer that chooses no token."""

    BACK = auto()
    RUN_ON = auto()
    LEAVE = auto()


Answer = int | str | Strategy | Move
"""The id of a token, what the user wrote, another strategy from here on, or a move."""


@dataclass(frozen=True)
class StepPrompt:
    """What is shown before a choice.

    Attributes:
        text: the text so far.
        title: which token it is, by which strategy and seed.
        table: what there is to choose from, numbered.
        chosen: id of the token that the rule takes.
        choice: that token as it is shown.
    """

    text: Text
    title: str
    table: Distribution
    chosen: int
    choice: str
    can_go_back: bool
    strategy: Strategy

    def drawn(self, writing: str) -> Group:
        """The screen, with what is being written at the end of the text."""
        text = self.text.copy()
        if writing:
            text.append(f" {shown(writing)}", style="not bold cyan")
        text.append(CURSOR)
        if writing:
            keys = ["Enter takes what you wrote", "Backspace", "Esc takes it back"]
        else:
            keys = [
                f"Enter takes {self.choice}",
                "0-9 picks",
                "type a word of your own",
                *["← goes back"] * self.can_go_back,
                "Tab another sampler",
                "> runs on",
                "Esc leaves",
            ]
        title = Text(shown(self.title), style="dim")
        help = Text(" · ".join(keys), style="dim")
        return Group(text, title, self.table, help)


def by_key(context: Context, step: StepPrompt) -> Generator[Output, Any, Answer]:
    """An answer by one key, or by a word and Enter."""
    writing = ""
    ids = [one.id for one in step.table.candidates]
    while True:
        yield Live(step.drawn(writing))
        key = yield AskKey()
        if key == "escape" and writing:
            writing = ""
        elif key in (None, "escape"):
            return Move.LEAVE
        elif key == "enter":
            return writing.strip() or step.chosen
        elif key == "backspace" and writing:
            writing = writing[:-1]
        elif key in ("left", "backspace"):
            if step.can_go_back:
                return Move.BACK
        elif key == "tab":
            return _next_strategy(context, step.strategy)
        elif len(key) == 1 and not writing and key in "0123456789":
            if int(key) < len(ids):
                return ids[int(key)]
        elif key == ">" and not writing:
            return Move.RUN_ON
        elif len(key) == 1 and (writing or key != " "):
            writing += key


def _next_strategy(context: Context, strategy: Strategy) -> Strategy:
    """The sampler after the one in use, as it is set."""
    settings = context.session.settings
    specs = [spec for spec in settings.samplers() if spec.search is None]
    names = [spec.name for spec in specs]
    place = names.index(strategy.sampler) + 1 if strategy.sampler in names else 0
    spec = specs[place % len(specs)]
    return Strategy(spec.name, settings.parameters(spec))


def by_line(context: Context, step: StepPrompt) -> Generator[Output, Any, Answer]:
    """An answer by a line; a person is asked until it can be carried out."""
    ids = [one.id for one in step.table.candidates]
    yield Say(step.text)
    yield Say(step.table)
    while True:
        typed = yield Ask(f"{LINES}: ")
        if typed is None:
            return Move.LEAVE
        answer = typed.strip()
        plain: dict[str, Answer] = {"": step.chosen, "c": Move.RUN_ON, "q": Move.LEAVE}
        if answer in plain:
            return plain[answer]
        row = read_whole(answer)
        if row is not None and 0 <= row < len(ids):
            return ids[row]
        if answer == "u":
            if step.can_go_back:
                return Move.BACK
            yield Notice("there is nothing to undo")
        elif answer.startswith("s "):
            try:
                settings = context.session.settings
                (strategy,) = parse_strategies([answer[2:].strip()], settings)
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
            yield Notice(f"{quoted(answer)}? {LINES}")
        else:
            raise UsageError(f"{quoted(answer)} is no answer to :step: {LINES}")
