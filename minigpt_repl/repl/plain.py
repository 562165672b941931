"""The REPL where there is no terminal: lines from a pipe, a file or a flag.

Each line is handled as if it had been typed. Only text goes to stdout, flushed as
it comes; everything else goes to stderr, and no escape byte is written unless
colour is forced.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from os import terminal_size
from typing import BinaryIO, TextIO

from rich.console import RenderableType

from minigpt_repl.engine.request import Engine, Event
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.models.text.codec import as_typed
from minigpt_repl.repl import commands  # noqa: F401 - fills the table of commands
from minigpt_repl.repl.context import Context, Session, Steps
from minigpt_repl.repl.dispatch import MARK, App, LineJoiner, run_line
from minigpt_repl.repl.output import (
    Ask,
    Live,
    Mistake,
    Notice,
    Output,
    Say,
    TextDelta,
    TextEnded,
    TextReplaced,
    TextStarted,
)
from minigpt_repl.repl.screen import Spinner
from minigpt_repl.repl.signals import Signals
from minigpt_repl.repl.tables import draw
from minigpt_repl.repl.wrapping import TextBlock, wrap
from minigpt_repl.report import WatchedEngine
from minigpt_repl.shown import shown, shown_line

BYTE_ORDER_MARK = "\ufeff"
LONGEST_INPUT = 4 * 1024 * 1024
"""Bytes of a line, or of a prompt on standard input."""


class PlainDisplay:
    """A `Display` of two streams: `out` gets the texts, `err` notices and questions.

    Args:
        only_new: whether the prompt is left out.
        hide_texts: whether nothing but errors and notices is written, because
            someone else writes the texts in another form.
        size: of the terminal that `out` is, though nobody types at it: there, texts
            are broken between words.
        spinner: tells that a command is at work until there is something to show.

    Attributes:
        answer: gives the next line of the input, or `None` at its end or a command.
        color: whether escape bytes are allowed.
        has_mistakes: whether a line failed.
    """

    has_keys = False

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        only_new: bool = False,
        hide_texts: bool = False,
        width: int = 80,
        size: Callable[[], terminal_size] | None = None,
        spinner: Spinner | None = None,
    ) -> None:
        self._out = out
        self.err = err
        self.spinner = spinner or Spinner(err, None)
        self.answer: Callable[[], str | None] = lambda: None
        self._size = size
        self._block: TextBlock | None = None
        self._only_new = only_new
        self._hide_texts = hide_texts
        self._replacement: str | None = None
        self._live: RenderableType | None = None
        self._is_in_line = False
        self.width = width
        self.color = False
        self.has_mistakes = False

    def show(self, output: Output) -> str | None:
        """Write an output; of what can't be taken back only the last is written.

        A question is answered by the next line of the input; there is no terminal to
        press a key or to edit on.
        """
        self.spinner.hold()
        if not isinstance(output, Live):
            self._finish_live()
        match output:
            case Say(content):
                self._say(content)
            case Notice(text):
                self.has_mistakes |= isinstance(output, Mistake)
                self._write_line(self.err, shown(text))
            case Live(content):
                self._live = content
            case TextStarted(prompt):
                self._replacement = None
                self._write_text("" if self._only_new else prompt)
            case TextDelta(delta):
                self._write_text(delta)
            case TextReplaced(text):
                self._replacement = text
            case TextEnded():
                self._write_text(self._replacement or "")
                self._replacement = None
                self._end_text()
            case Ask(question):
                self._write_line(self.err, shown(question))
                return self.answer()
        return None

    def finish(self) -> None:
        """End what is still open with a line end."""
        self._finish_live()
        if self._is_in_line:
            self._end_text()

    def _say(self, content: RenderableType) -> None:
        if self._is_in_line:
            self._end_text()
        stream = self.err if self._hide_texts else self._out
        if isinstance(content, str):
            self._write_line(stream, shown(content))
            return
        draw(content, stream, self.width, has_color=self.color)
        stream.flush()

    def _write_text(self, text: str) -> None:
        if text and not self._hide_texts:
            if self._size is not None and self._block is None:
                self._block = TextBlock(self._write, self._size)
            if self._block is None:
                self._write(shown(text))
            else:
                self._block.append(text)
            self._is_in_line = True

    def _end_text(self) -> None:
        if not self._hide_texts:
            self._write("\n")
        self._is_in_line = False
        self._block = None

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def _finish_live(self) -> None:
        if self._live is not None:
            content, self._live = self._live, None
            self._say(content)

    def _write_line(self, stream: TextIO, text: str) -> None:
        if self._size is not None and stream.isatty():
            rows = wrap(text, self._size().columns - 1)
            text = "\n".join(row.rstrip() for row in rows)
        stream.write(f"{text}\n")
        stream.flush()


@dataclass
class Lines:
    """Lines of an input, and where we are in it.

    Attributes:
        name: how messages call the input: `stdin`, `-e`, the file's name.
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

    def take_answer(self) -> str | None:
        """The next line, or `None` if there is none or it is a command."""
        line = self.take()
        if line is not None and as_typed(line).startswith(MARK):
            self.lines = chain([line], self.lines)
            self.number -= 1
            return None
        return line


def read_lines(file: BinaryIO, name: str) -> Iterator[str]:
    """Lines of a file as they come. What is not UTF-8 becomes U+FFFD.

    Raises:
        MiniGPTError: at a line of more than `LONGEST_INPUT` bytes: it may be endless.
    """
    lines = iter(partial(file.readline, LONGEST_INPUT + 1), b"")
    for number, line in enumerate(lines, start=1):
        if len(line) > LONGEST_INPUT:
            raise too_long(f"line {number} of {name}")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        yield text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text


def too_long(what: str) -> MiniGPTError:
    """The error for an input of more than `LONGEST_INPUT` bytes."""
    return MiniGPTError(f"{shown_line(what)} is longer than {LONGEST_INPUT >> 20} MB")


class PlainLoop:
    """Runs lines and prompts one after another. It is a context: within it, ^C is
    handled; at its end the engine is given back.

    For `watch` and `top` see `WatchedEngine`. With `keep_going` a line that fails is
    only reported.
    """

    def __init__(
        self,
        session: Session,
        open_engine: Callable[[str], Engine],
        directory: str,
        page: PlainDisplay,
        watch: Callable[[int, Event], None] | None = None,
        top: int = 0,
        keep_going: bool = False,
    ) -> None:
        self._page = page
        self._page.answer = self._answer
        self._keep_going = keep_going
        self._input = Lines("", iter(()))
        self._app = App(
            session,
            lambda folder: WatchedEngine(open_engine(folder), watch, top),
            directory,
            page,
            is_terminal=False,
        )
        self._signals = Signals(self._app.stop, leaving=())

    @property
    def has_failed(self) -> bool:
        """Whether any line failed."""
        return self._page.has_mistakes

    def __enter__(self) -> "PlainLoop":
        return self

    def __exit__(self, *error: object) -> None:
        self._app.close()

    def run(self, source: Lines) -> bool:
        """Handle every line. Returns whether to go on with what comes next.

        A line that fails is reported as `NAME:LINE: message`.

        Raises:
            KeyboardInterrupt: after ^C; a text that was being made is ended.
        """
        self._input = source
        joiner = LineJoiner()
        while (line := source.take()) is not None:
            try:
                if (whole := joiner.feed(line)) is not None:
                    self.run_steps(partial(run_line, whole))
                if self._page.has_mistakes and not self._keep_going:
                    return False
            except MiniGPTError as error:
                if not self._goes_on_after(error):
                    return False
            if self._app.has_quit:
                return False
        try:
            joiner.end()
        except MiniGPTError as error:
            return self._goes_on_after(error)
        return True

    def run_steps(self, make_steps: Callable[[Context], Steps]) -> None:
        """Carry out one command; raises what it raises, and as `run` after ^C."""
        color = self._app.session.settings.value("color")
        self._page.color = color == "always"
        with self._signals, self._signals.stopping(), self._page.spinner:
            self._app.carry_out(make_steps(self._app.context()))
        if self._signals.interrupts:
            raise KeyboardInterrupt

    def _answer(self) -> str | None:
        with self._signals.phase("reading"):
            return self._input.take_answer()

    def _goes_on_after(self, error: MiniGPTError) -> bool:
        self._page.has_mistakes = True
        place = shown_line(f"{self._input.name}:{self._input.number}")
        self._page.err.write(f"{place}: {shown_line(str(error))}\n")
        self._page.err.flush()
        return self._keep_going
