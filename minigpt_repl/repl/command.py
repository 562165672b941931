"""The table of commands: one decorated function is a whole command.

Help, completion, abbreviations and the README's table derive from this table.
"""

import inspect
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt_repl.engine.request import Engine
from minigpt_repl.errors import UsageError
from minigpt_repl.repl.outputs import Output
from minigpt_repl.repl.session import Session
from minigpt_repl.suggest import did_you_mean, plain

Steps = Generator[Output, Any, Session]
"""What a command does, output by output; it returns the session after it."""


@dataclass(frozen=True)
class Desk:
    """What a command has at hand.

    Attributes:
        session: the session before the command.
        engine: generates text; its calls wait until the model is loaded.
        width: columns of the terminal, or of the page if there is none.
        is_terminal: whether a person is looking.
        sources: the files that `:source` is in the middle of, outermost first.
    """

    session: Session
    engine: Engine
    width: int = 80
    is_terminal: bool = False
    sources: tuple[Path, ...] = ()


Handler = Callable[[Desk, str], Steps]
Completer = Callable[[Desk, str], Iterable[str]]


@dataclass(frozen=True)
class Command:
    """A command of the REPL.

    Attributes:
        name: what the user types after the colon; any unique prefix will do.
        usage: its arguments, such as `NAME [k=v ...]`; empty if it has none.
        summary: one line; the first of the function's docstring.
        help: the whole docstring.
        aliases: further exact names, such as `q`.
        complete: words that may follow, given all that was typed after the name.
        run: the function.
    """

    name: str
    usage: str
    summary: str
    help: str
    aliases: tuple[str, ...]
    complete: Completer | None
    run: Handler


_COMMANDS: dict[str, Command] = {}


def command(
    name: str,
    usage: str = "",
    aliases: tuple[str, ...] = (),
    complete: Completer | None = None,
) -> Callable[[Handler], Handler]:
    """Enter the decorated generator function into the table."""

    def enter(function: Handler) -> Handler:
        help = inspect.getdoc(function) or ""
        summary = help.splitlines()[0].rstrip(".")
        _COMMANDS[name] = Command(
            name, usage, summary, help, aliases, complete, function
        )
        return function

    return enter


def all_commands() -> tuple[Command, ...]:
    """Every command, by name."""
    return tuple(_COMMANDS[name] for name in sorted(_COMMANDS))


def find_command(word: str) -> Command:
    """The command of that name or alias, or the only one that starts so.

    Raises:
        UsageError: if there is none, or more than one.
    """
    if not word:
        raise UsageError("a command's name follows the colon; :help lists them")
    for entry in all_commands():
        if word == entry.name or word in entry.aliases:
            return entry
    starting = [entry for entry in all_commands() if entry.name.startswith(word)]
    if len(starting) == 1:
        return starting[0]
    if starting:
        names = ", ".join(f":{entry.name}" for entry in starting)
        raise UsageError(f":{word} could be {names}; type more of it")
    near = did_you_mean(word, [entry.name for entry in all_commands()])
    near = near.replace("did you mean ", "did you mean :")
    raise UsageError(f"no command :{plain(word)}{near}; :help lists them")
