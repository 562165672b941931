"""The REPL where there is no terminal: lines from a pipe, a file or a flag.

Each line is handled as if it had been typed. Only text goes to stdout, flushed as
it comes; everything else goes to stderr, and no escape byte is written unless
colour is forced. Imports no TensorFlow and no prompt_toolkit.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import BinaryIO, TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from minigpt_repl.engine.lazy import LazyEngine
from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.repl import commands  # noqa: F401 - fills the table of commands
from minigpt_repl.repl.app import perform
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.dispatch import LineJoiner, run_line
from minigpt_repl.repl.output import (
    Ask,
    AskEditor,
    ClearScreen,
    Live,
    Mistake,
    Notice,
    Output,
    Quit,
    Say,
    SwitchModel,
    TextDelta,
    TextEnded,
    TextReplaced,
    TextStarted,
)
from minigpt_repl.repl.session import Session
from minigpt_repl.repl.wrapping import safe

DEFAULT_WIDTH = 80


class Page:
    """Writes outputs to two streams.

    Args:
        out: gets the texts.
        err: gets notices and questions.
        answer: the next line of the input, or `None` at its end.
        switch_model: loads another checkpoint and tells what it is.
        only_new: whether the prompt is left out.
        hide_texts: whether nothing but errors and notices is written, because
            someone else writes the texts in another form.
        width: columns for tables.

    Attributes:
        color: whether escape bytes are allowed.
        quit_code: what `Quit` carried, or `None`.
        has_mistakes: whether a line of a sourced file failed.
    """

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        answer: Callable[[], str | None],
        switch_model: Callable[[str], EngineInfo],
        only_new: bool = False,
        hide_texts: bool = False,
        width: int = DEFAULT_WIDTH,
    ) -> None:
        self._out = out
        self._err = err
        self._answer = answer
        self._switch_model = switch_model
        self._only_new = only_new
        self._hide_texts = hide_texts
        self._width = width
        self.color = False
        self._replacement: str | None = None
        self._live: RenderableType | None = None
        self._is_in_line = False
        self.quit_code: int | None = None
        self.has_mistakes = False

    def carry_out(self, steps: Steps) -> Session:
        """Run a command to its end; returns the session after it.

        Raises:
            MiniGPTError: what the command raised; a text that had begun is ended
                with a line end first.
        """
        try:
            return perform(steps, self._carry_out_one)
        finally:
            self._finish_live()
            self._end_line()

    def _carry_out_one(self, output: Output) -> object:
        if not isinstance(output, Live):
            self._finish_live()
        match output:
            case Say(content):
                self._say(content)
            case Notice(text):
                self.has_mistakes |= isinstance(output, Mistake)
                self._write_line(self._err, safe(text))
            case Live(content):
                self._live = content
            case TextStarted(prompt):
                self._replacement = None
                self._write_text("" if self._only_new else prompt)
            case TextDelta(delta):
                self._write_text(delta)
            case TextReplaced(text):
                # What is written can't be taken back: only the last one counts.
                self._replacement = text
            case TextEnded():
                self._write_text(self._replacement or "")
                self._replacement = None
                self._end_text()
            case Ask(question):
                self._write_line(self._err, safe(question))
                return self._answer()
            case AskEditor() | ClearScreen():
                pass  # there is no terminal to edit on or to clear
            case SwitchModel(directory):
                return self._switch_model(directory)
            case Quit(exit_code):
                self.quit_code = exit_code
        return None

    def _say(self, content: RenderableType) -> None:
        self._end_line()
        stream = self._err if self._hide_texts else self._out
        if isinstance(content, str):
            self._write_line(stream, safe(content))
            return
        console = Console(
            file=stream,
            width=self._width,
            force_terminal=self.color,
            no_color=not self.color,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )
        console.print(content, soft_wrap=isinstance(content, Text))
        stream.flush()

    def _write_text(self, text: str) -> None:
        if text and not self._hide_texts:
            self._out.write(text)
            self._out.flush()
            self._is_in_line = True

    def _end_text(self) -> None:
        if not self._hide_texts:
            self._out.write("\n")
            self._out.flush()
        self._is_in_line = False

    def _end_line(self) -> None:
        if self._is_in_line:
            self._end_text()

    def _finish_live(self) -> None:
        if self._live is not None:
            content, self._live = self._live, None
            self._say(content)

    def _write_line(self, stream: TextIO, text: str) -> None:
        stream.write(f"{text}\n")
        stream.flush()


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
                    self._carry_out(run_line(whole, self._context()))
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

    def run_steps(self, make_steps: Callable[[Context], Steps]) -> None:
        """Carry out a command that was not typed.

        Raises:
            MiniGPTError: what the command raised.
            KeyboardInterrupt: as `run`.
        """
        self._carry_out(make_steps(self._context()))

    def close(self) -> None:
        """Give the engine back."""
        self._engine.close()

    def _goes_on_after(self, error: MiniGPTError, place: str) -> bool:
        self._has_failed = True
        self._err.write(f"{place}: {error}\n")
        self._err.flush()
        return self._keep_going

    def _context(self) -> Context:
        return Context(self.session, self._engine, self._width, is_terminal=False)

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
