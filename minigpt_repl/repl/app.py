"""A session that goes on: runs a command's steps, whatever the front end is.

`App` holds what both front ends have, the session and the engine, and does what a
command asks for; a `Display` shows the rest. Knows neither terminals nor pipes.
"""

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from minigpt_repl.engine.request import Engine, EngineInfo
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.output import (
    Ask,
    AskEditor,
    Display,
    Output,
    Quit,
    SwitchModel,
)
from minigpt_repl.repl.session import Session

AnyEngine = TypeVar("AnyEngine", bound=Engine)


class App(Generic[AnyEngine]):
    """A session, the engine in use and the display.

    Args:
        session: where it starts.
        open_engine: makes the engine of a checkpoint's folder without waiting for it.
        directory: the folder to start with.
        display: shows outputs and answers questions.
        is_terminal: whether a person is looking.

    Attributes:
        session: the session after the last command.
        engine: the engine in use; `:model` changes it.
        opening: the engine that `:model` waits for, or `None`.
        directory: the folder of the engine in use.
        quit_code: what `:quit` carried, or `None`.
    """

    def __init__(
        self,
        session: Session,
        open_engine: Callable[[str], AnyEngine],
        directory: str,
        display: Display,
        is_terminal: bool,
    ) -> None:
        self.session = session
        self.engine = open_engine(directory)
        self.opening: AnyEngine | None = None
        self.directory = directory
        self.quit_code: int | None = None
        self._open_engine = open_engine
        self._display = display
        self._is_terminal = is_terminal

    def context(self) -> Context:
        """What a command has at hand now."""
        return Context(
            self.session, self.engine, self._display.width, self._is_terminal
        )

    def carry_out(self, steps: Steps) -> None:
        """Run a command to its end.

        Raises:
            MiniGPTError: what the command raised; the session is then as before.
        """
        try:
            self.session = perform(steps, self._carry_out)
        finally:
            self._display.finish()

    def stop(self) -> None:
        """Stop whatever an engine is at; for signal handlers."""
        for engine in (self.opening, self.engine):
            if engine is not None:
                engine.stop()

    def close(self) -> None:
        """Give the engine back."""
        self.engine.close()

    def _carry_out(self, output: Output) -> object:
        """Do what a command asks; returns what it gets back."""
        match output:
            case Ask(question):
                return self._display.ask(question)
            case AskEditor(text):
                return self._display.edit(text)
            case SwitchModel(directory):
                return self._switch_model(directory)
            case Quit(exit_code):
                self.quit_code = exit_code
            case _:
                self._display.show(output)
        return None

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
    """Take a command's outputs one by one and hand back the replies.

    Args:
        steps: the command.
        carry_out: shows an output, or asks; its result is the command's reply.
            What it raises as `MiniGPTError` is raised into the command.

    Returns:
        The session after the command.

    Raises:
        MiniGPTError: what the command raised.
    """
    advance: Callable[[], Output] = partial(next, steps)
    try:
        while True:
            output = advance()
            try:
                reply = carry_out(output)
            except MiniGPTError as error:
                advance = partial(steps.throw, error)
            else:
                advance = partial(steps.send, reply)
    except StopIteration as stop:
        session: Session = stop.value
        return session
    finally:
        steps.close()
