"""The REPL where there is no terminal: lines from a pipe, a file or a flag.

Each line is handled as if it had been typed. Knows neither exit codes nor how an
engine is made; imports no TensorFlow and no prompt_toolkit.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import BinaryIO, TextIO

from minigpt_repl.engine.lazy import LazyEngine
from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.repl.command import Desk, Steps
from minigpt_repl.repl.dispatch import run_line
from minigpt_repl.repl.lines import LineJoiner
from minigpt_repl.repl.page import DEFAULT_WIDTH, Page
from minigpt_repl.repl.session import Session

BYTE_ORDER_MARK = "\ufeff"


@dataclass
class Lines:
    """Lines of an input, and where we are in it.

    Attributes:
        name: how messages call the input: `stdin`, `-e`, the file's name.
        lines: what is left of it.
        number: of the line that was taken last, from 1.
    """

    name: str
    lines: Iterator[str]
    number: int = 0

    def take(self) -> str | None:
        """The next line without its end, or `None` after the last."""
        line = next(self.lines, None)
        if line is not None:
            self.number += 1
        return line


def read_lines(file: BinaryIO) -> Iterator[str]:
    """Lines of a file as they come. What is not UTF-8 becomes U+FFFD."""
    for number, line in enumerate(iter(file.readline, b"")):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        yield text.removeprefix(BYTE_ORDER_MARK) if number == 0 else text


class PlainLoop:
    """Runs lines and prompts one after another.

    Args:
        session: where it starts.
        open_engine: makes the engine of a checkpoint's folder, loaded lazily.
        directory: the folder to start with.
        out: gets the texts.
        err: gets everything else.
        keep_going: whether a line that fails is only reported.
        only_new: whether prompts are left out of the texts.
        hide_texts: whether someone else writes the texts.
        width: columns for tables.

    Attributes:
        session: the session after the last line.
    """

    def __init__(
        self,
        session: Session,
        open_engine: Callable[[str], LazyEngine],
        directory: str,
        out: TextIO,
        err: TextIO,
        keep_going: bool = False,
        only_new: bool = False,
        hide_texts: bool = False,
        width: int = DEFAULT_WIDTH,
    ) -> None:
        self.session = session
        self._has_failed = False
        self._open_engine = open_engine
        self._engine = open_engine(directory)
        self._err = err
        self._keep_going = keep_going
        self._width = width
        self._input = Lines("", iter(()))
        self._was_interrupted = False
        self._page = Page(
            out,
            err,
            answer=lambda: self._input.take(),
            switch_model=self._switch_model,
            only_new=only_new,
            hide_texts=hide_texts,
            width=width,
        )

    @property
    def quit_code(self) -> int | None:
        """What `:quit` carried, or `None`."""
        return self._page.quit_code

    @property
    def has_failed(self) -> bool:
        """Whether any line failed."""
        return self._has_failed or self._page.has_mistakes

    def run(self, source: Lines) -> bool:
        """Handle every line. Returns whether to go on with what comes next.

        A line that fails is reported as `NAME:LINE: message`.

        Raises:
            KeyboardInterrupt: after ^C; a text that was being made is ended.
        """
        self._input = source
        joiner = LineJoiner()
        while (line := source.take()) is not None:
            number = source.number
            try:
                if (whole := joiner.feed(line)) is not None:
                    self._carry_out(run_line(whole, self._desk()))
                if self._page.has_mistakes and not self._keep_going:
                    return False
            except MiniGPTError as error:
                if not self._goes_on_after(error, f"{source.name}:{number}"):
                    return False
            if self.quit_code is not None:
                return False
        try:
            joiner.end()
        except MiniGPTError as error:
            return self._goes_on_after(error, f"{source.name}:{source.number}")
        return True

    def run_steps(self, make_steps: Callable[[Desk], Steps]) -> None:
        """Carry out a command that was not typed.

        Raises:
            MiniGPTError: what the command raised.
            KeyboardInterrupt: as `run`.
        """
        self._carry_out(make_steps(self._desk()))

    def close(self) -> None:
        """Give the engine back."""
        self._engine.close()

    def _goes_on_after(self, error: MiniGPTError, place: str) -> bool:
        self._has_failed = True
        self._err.write(f"{place}: {error}\n")
        self._err.flush()
        return self._keep_going

    def _desk(self) -> Desk:
        return Desk(self.session, self._engine, self._width, is_terminal=False)

    def _carry_out(self, steps: Steps) -> None:
        self._page.color = self.session.settings.value("color") == "always"
        with self._stopping_on_interrupt():
            self.session = self._page.carry_out(steps)
        if self._was_interrupted:
            raise KeyboardInterrupt

    def _switch_model(self, directory: str) -> EngineInfo:
        engine = self._open_engine(directory)
        info = engine.info
        self._engine.close()
        self._engine = engine
        return info

    @contextmanager
    def _stopping_on_interrupt(self) -> Iterator[None]:
        """Let the first ^C end a text within a step, and keep what there is."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._was_interrupted:
            # Stuck in code that can't be interrupted, such as a compile.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        self._was_interrupted = True
        if not self._engine.is_generating:
            raise KeyboardInterrupt
        self._engine.stop()
