"""One line of input, carried out: a command, a prompt, or nothing.

Help, completion, abbreviations and the README derive from the table of commands here;
importing `repl.commands` fills it. `App` holds the session and the engine and does what
a command asks for, whatever the front end is.
"""

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from minigpt_repl.engine.request import Engine, EngineInfo
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.models.text.codec import as_typed, normalize_text
from minigpt_repl.repl.context import Context, Session, Steps
from minigpt_repl.repl.output import (
    Ask,
    AskEditor,
    AskKey,
    Notice,
    Output,
    Quit,
    SwitchModel,
)
from minigpt_repl.shown import did_you_mean, plain, quoted

if TYPE_CHECKING:
    from minigpt_repl.repl.screen import Screen

Handler = Callable[[Context, str], Generator[Output, Any, Session | None]]
Completer = Callable[[Context, str], Iterable[str]]


@dataclass(frozen=True)
class Command:
    """A command of the REPL.

    Attributes:
        name: what the user types after the colon; any unique prefix will do.
        usage: its arguments, such as `NAME [k=v ...]`; empty if it has none.
        aliases: further exact names, such as `q`.
        complete: words that may follow, given all that was typed after the name.
        run: the function; the first line of its docstring is the summary.
    """

    name: str
    usage: str
    aliases: tuple[str, ...]
    complete: Completer | None
    run: Handler

    @property
    def help(self) -> str:
        """The docstring, a line for each paragraph: the screen wraps them."""
        paragraphs = (inspect.getdoc(self.run) or "").split("\n\n")
        return "\n\n".join(" ".join(each.split()) for each in paragraphs)

    @property
    def summary(self) -> str:
        return self.help.splitlines()[0].rstrip(".")


_COMMANDS: dict[str, Command] = {}


def command(
    name: str,
    usage: str = "",
    aliases: tuple[str, ...] = (),
    complete: Completer | None = None,
) -> Callable[[Handler], Handler]:
    """Enter the decorated generator function into the table."""

    def enter(function: Handler) -> Handler:
        _COMMANDS[name] = Command(name, usage, aliases, complete, function)
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
    names = [entry.name for entry in all_commands()]
    starting = [name for name in names if name.startswith(word)]
    # `:st` begins `:step`, and may as well be `:set` with a letter left out.
    possible = [n for n in names if n in starting or _lacks_one_letter(word, n)]
    if len(starting) == len(possible) == 1:
        return _COMMANDS[starting[0]]
    if starting:
        listed = ", ".join(f":{name}" for name in possible)
        raise UsageError(f":{word} could be {listed}; type more of it")
    near = did_you_mean(word, names, mark=":")
    raise UsageError(f"no command :{plain(word)}{near}; :help lists them")


def _lacks_one_letter(word: str, name: str) -> bool:
    return word in {name[:at] + name[at + 1 :] for at in range(len(name))}


OPENING = ":{"
CLOSING = ":}"


class Lines:
    """Lines of an input one by one, and where we are in it.

    Attributes:
        name: how messages call the input: `stdin`, `-e`, the file's name.
        number: of the line that was taken last, from 1.
    """

    def __init__(self, name: str, lines: Iterable[str]) -> None:
        self.name = name
        self.number = 0
        self._lines = iter(lines)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        return line

    def next_answer(self) -> str | None:
        """The next line, or `None` if there is none or it is a command, which is then
        still to come."""
        line = next(self, None)
        if line is not None and as_typed(line).startswith(MARK):
            self._lines = chain([line], self._lines)
            self.number -= 1
            return None
        return line


def whole_inputs(lines: Iterable[str]) -> Iterator[str]:
    """The inputs that lines make: each its own, but for the blocks, which are one.

    Raises:
        UsageError: at the end, if a block is still open.
    """
    block: list[str] | None = None
    for line in lines:
        word = line.strip()
        if block is None and word == OPENING:
            block = []
        elif block is None:
            yield line
        elif word == CLOSING:
            yield "\n".join(block)
            block = None
        else:
            block.append(line)
    if block is not None:
        raise UsageError(f"{OPENING} was never closed; end the block with {CLOSING}")


def whole_input(text: str) -> str | None:
    """The input that pasted lines make: what is in the block that the first line opens,
    `None` while that block is open, and all lines where it opens none."""
    lines = text.split("\n")
    if lines[0].strip() != OPENING:
        return text
    with suppress(UsageError):
        return next(whole_inputs(lines))
    return None


MARK = ":"
ESCAPED_MARK = "\\:"


def run_line(line: str, context: Context) -> Steps:
    """Carry out a line; returns the session after it.

    A line that starts with a colon is a command, anything else a prompt. A leading
    space or a backslash makes a prompt of a line that starts with a colon. Control
    characters are left out; an empty line does nothing.
    """
    line = as_typed(line)
    if line.startswith(MARK):
        command, arguments = _split(line.removeprefix(MARK))
        if arguments and not command.usage:
            got = quoted(arguments)
            raise UsageError(f":{command.name} takes no arguments; got {got}")
        return (yield from command.run(context, arguments)) or context.session
    if line.startswith(ESCAPED_MARK):
        line = line.removeprefix("\\")
    # White space behind it means something, before it only that it is no command.
    prompt = line.lstrip() if line.lstrip().startswith(MARK) else line
    if not normalize_text(prompt).strip():
        return context.session
    # Not at the start: the line editor imports this module for its blocks.
    from minigpt_repl.repl.continuation import continue_prompt

    session = yield from continue_prompt(context, prompt)
    meant = as_command(line, context)
    if meant is not None:
        yield Notice(f"did you mean {plain(meant)}?")
    return session


def as_command(line: str, context: Context) -> str | None:
    """The command that a prompt is without its colon: a whole name alone, or with an
    argument that the command would offer; `None` if it is none."""
    if line[:1].isspace():
        return None
    name, *arguments = line.split() or [""]
    known = next((e for e in all_commands() if name in (e.name, *e.aliases)), None)
    if known is None:
        return None
    if arguments:
        offered = () if known.complete is None else known.complete(context, "")
        first = arguments[0].partition("=")[0]
        if all(first != word.rstrip("=:") for word in offered):
            return None
    # By its full name, for `:?` would be one mark among others.
    return " ".join((f"{MARK}{known.name}", *arguments))


def leaves(line: str) -> bool:
    """Whether a line that was carried out was `:quit`."""
    line = as_typed(line)
    if not line.startswith(MARK):
        return False
    return _split(line.removeprefix(MARK))[0].name == "quit"


def _split(line: str) -> tuple[Command, str]:
    name, *rest = line.split(maxsplit=1) or [""]
    return find_command(name), rest[0].strip() if rest else ""


class App:
    """Carries out commands with a session, an engine and a screen. A front end derives
    from it: it reads the lines and answers questions.

    Attributes:
        session: the session after the last command.
        engine: the engine in use; `:model` changes it. `open_engine` makes that of a
            checkpoint's folder without waiting for it.
        opening: the engine that `:model` waits for, or `None`.
        directory: the folder of the engine in use.
        has_quit: whether `:quit` was carried out.
    """

    is_terminal = False
    has_keys = False

    def __init__(
        self,
        session: Session,
        open_engine: Callable[[str], Engine],
        directory: str,
        screen: "Screen",
    ) -> None:
        self.session = session
        self.screen = screen
        self._open_engine = open_engine
        self.engine = open_engine(directory)
        self.opening: Engine | None = None
        self.directory = directory
        self.has_quit = False

    def context(self) -> Context:
        """What a command has at hand now."""
        return Context(
            self.session,
            self.engine,
            self.screen.width,
            self.is_terminal,
            has_keys=self.has_keys,
        )

    def carry_out(self, make_steps: Callable[[Context], Steps]) -> None:
        """Run a command to its end; if it raises, the session is as before."""
        try:
            with self.screen.spinner:
                self.session = perform(make_steps(self.context()), self.show)
        finally:
            self.screen.finish()

    def show(self, output: Output) -> object:
        """Do what a command asks; returns what it gets back."""
        match output:
            case SwitchModel(directory):
                return self._switch_model(directory)
            case Quit():
                self.has_quit = True
                return None
            case Ask() | AskKey() | AskEditor():
                self.screen.spinner.hold()
                if not isinstance(output, AskKey):  # a live block above it stays open
                    self.screen.finish()
                reply = self.answer(output)
                self.screen.spinner.resume()
                return reply
        self.screen.show(output)
        return None

    def answer(self, question: Ask | AskKey | AskEditor) -> str | None:
        """What the user says to a question; `None` where nobody can be asked."""
        return None

    def stop(self) -> None:
        """Stop whatever an engine is at; for signal handlers."""
        for engine in (self.opening, self.engine):
            if engine is not None:
                engine.stop()

    def close(self) -> None:
        """Give the engine back."""
        self.engine.close()

    def _switch_model(self, directory: str) -> EngineInfo:
        """Load another checkpoint; the engine in use stays if that fails."""
        engine = self.opening = self._open_engine(directory)
        try:
            info = engine.info
        except BaseException:
            engine.close()
            raise
        finally:
            self.opening = None
        self.engine.close()
        self.engine, self.directory = engine, directory
        return info


def perform(steps: Steps, carry_out: Callable[[Output], object]) -> Session:
    """Take a command's outputs one by one; returns the session after it.

    What `carry_out` returns for an output is the command's reply; what it raises as
    `MiniGPTError` is raised into the command.
    """
    try:
        output = next(steps)
        while True:
            try:
                reply = carry_out(output)
            except MiniGPTError as error:
                output = steps.throw(error)
            else:
                output = steps.send(reply)
    except StopIteration as stop:
        return cast(Session, stop.value)
    finally:
        steps.close()
