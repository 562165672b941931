"""The REPL where there is no terminal: lines from a pipe, a file or a flag.

Each line is handled as if it had been typed. Only text goes to stdout, flushed as
it comes; everything else goes to stderr, and no escape byte is written unless
colour is forced. Imports no TensorFlow and no prompt_toolkit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, TextIO

from rich.console import RenderableType

from minigpt_repl.engine.batches import programs
from minigpt_repl.engine.request import Engine, EngineInfo, Event, Request, RowEvent
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.models.text.normalize import as_typed
from minigpt_repl.repl import commands  # noqa: F401 - fills the table of commands
from minigpt_repl.repl.app import App
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.dispatch import MARK, LineJoiner, run_line
from minigpt_repl.repl.drawing import draw
from minigpt_repl.repl.output import (
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
from minigpt_repl.repl.session import Session
from minigpt_repl.repl.signals import Signals
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.shown import shown, shown_line

if TYPE_CHECKING:
    import numpy as np

BYTE_ORDER_MARK = "\ufeff"
LONGEST_INPUT = 4 * 1024 * 1024
"""Bytes of a line, or of a prompt on standard input."""


class Page:
    """A `Display` of two streams.

    Args:
        out: gets the texts.
        err: gets notices and questions.
        answer: the next line of the input, or `None` at its end or a command.
        only_new: whether the prompt is left out.
        hide_texts: whether nothing but errors and notices is written, because
            someone else writes the texts in another form.
        width: columns for tables.

    Attributes:
        color: whether escape bytes are allowed.
        has_mistakes: whether a line of a sourced file failed.
    """

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        answer: Callable[[], str | None] = lambda: None,
        only_new: bool = False,
        hide_texts: bool = False,
        width: int = 80,
    ) -> None:
        self._out = out
        self._err = err
        self._answer = answer
        self._only_new = only_new
        self._hide_texts = hide_texts
        self._replacement: str | None = None
        self._live: RenderableType | None = None
        self._is_in_line = False
        self.width = width
        self.color = False
        self.has_mistakes = False

    def show(self, output: Output) -> None:
        """Write an output; of what can't be taken back only the last is written."""
        if not isinstance(output, Live):
            self._finish_live()
        match output:
            case Say(content):
                self._say(content)
            case Notice(text):
                self.has_mistakes |= isinstance(output, Mistake)
                self._write_line(self._err, shown(text))
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

    def finish(self) -> None:
        """End what is still open with a line end."""
        self._finish_live()
        if self._is_in_line:
            self._end_text()

    def ask(self, question: str) -> str | None:
        """The next line of the input."""
        self._finish_live()
        self._write_line(self._err, shown(question))
        return self._answer()

    def edit(self, text: str) -> None:
        """There is no terminal to edit on."""

    def _say(self, content: RenderableType) -> None:
        if self._is_in_line:
            self._end_text()
        stream = self._err if self._hide_texts else self._out
        if isinstance(content, str):
            self._write_line(stream, shown(content))
            return
        draw(content, stream, self.width, has_color=self.color)
        stream.flush()

    def _write_text(self, text: str) -> None:
        if text and not self._hide_texts:
            self._out.write(shown(text))
            self._out.flush()
            self._is_in_line = True

    def _end_text(self) -> None:
        if not self._hide_texts:
            self._out.write("\n")
            self._out.flush()
        self._is_in_line = False

    def _finish_live(self) -> None:
        if self._live is not None:
            content, self._live = self._live, None
            self._say(content)

    def _write_line(self, stream: TextIO, text: str) -> None:
        stream.write(f"{text}\n")
        stream.flush()


class WatchedEngine:
    """An engine whose events someone else sees too.

    A sampler is warmed before its first text, so that the figures of the text tell
    of the text and not of a compile.

    Args:
        engine: does what is asked.
        watch: gets every event of every text, with the text's row, before the
            caller does. With it each token of a finished text carries its score,
            whether the caller asked or not.
    """

    def __init__(
        self, engine: Engine, watch: Callable[[int, Event], None] | None = None
    ) -> None:
        self._engine = engine
        self._watch = watch
        self._warmed: set[object] = set()
        self.stop = engine.stop
        self.close = engine.close

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def generate(self, request: Request) -> Iterator[Event]:
        for _, event in self.generate_rows([request]):
            yield event

    def generate_rows(self, requests: Sequence[Request]) -> Iterator[RowEvent]:
        for request, rows, key in programs(requests):
            if key not in self._warmed:
                self._engine.warm(request.sampler, request.parameters, rows)
                self._warmed.add(key)
        if self._watch is None:
            yield from self._engine.generate_rows(requests)
            return
        scored = [replace(request, with_scores=True) for request in requests]
        for row, event in self._engine.generate_rows(scored):
            self._watch(row, event)
            yield row, event

    def encode(self, text: str) -> tuple[int, ...]:
        return self._engine.encode(text)

    def logits(self, token_ids: Sequence[int]) -> "np.ndarray":
        return self._engine.logits(token_ids)

    def warm(
        self, sampler: str, parameters: Mapping[str, Value], rows: int = 1
    ) -> None:
        self._engine.warm(sampler, parameters, rows)

    def prepare(
        self, sampler: str, parameters: Mapping[str, Value], rows: int = 1
    ) -> None:
        self._engine.prepare(sampler, parameters, rows)


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

    Args:
        session: where it starts.
        open_engine: makes the engine of a checkpoint's folder without waiting for it.
        directory: the folder to start with.
        out: gets the texts.
        err: gets everything else.
        watch: see `WatchedEngine`; with it, nobody else writes the texts.
        keep_going: whether a line that fails is only reported.
        only_new: whether prompts are left out of the texts.
        width: columns for tables.
    """

    def __init__(
        self,
        session: Session,
        open_engine: Callable[[str], Engine],
        directory: str,
        out: TextIO,
        err: TextIO,
        watch: Callable[[int, Event], None] | None = None,
        keep_going: bool = False,
        only_new: bool = False,
        width: int = 80,
    ) -> None:
        self._has_failed = False
        self._err = err
        self._keep_going = keep_going
        self._input = Lines("", iter(()))
        self._page = Page(
            out, err, self._answer, only_new, watch is not None, width=width
        )
        self._app: App[Engine] = App(
            session,
            lambda folder: WatchedEngine(open_engine(folder), watch),
            directory,
            self._page,
            is_terminal=False,
        )
        self._signals = Signals(self._app.stop, leaving=())

    @property
    def quit_code(self) -> int | None:
        """What `:quit` carried, or `None`."""
        return self._app.quit_code

    @property
    def has_failed(self) -> bool:
        """Whether any line failed."""
        return self._has_failed or self._page.has_mistakes

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
                if not self._goes_on_after(error, f"{source.name}:{source.number}"):
                    return False
            if self.quit_code is not None:
                return False
        try:
            joiner.end()
        except MiniGPTError as error:
            return self._goes_on_after(error, f"{source.name}:{source.number}")
        return True

    def run_steps(self, make_steps: Callable[[Context], Steps]) -> None:
        """Carry out one command.

        Raises:
            MiniGPTError: what the command raised.
            KeyboardInterrupt: as `run`.
        """
        color = self._app.session.settings.value("color")
        self._page.color = color == "always"
        with self._signals, self._signals.stopping():
            self._app.carry_out(make_steps(self._app.context()))
        if self._signals.interrupts:
            raise KeyboardInterrupt

    def _answer(self) -> str | None:
        with self._signals.reading():
            return self._input.take_answer()

    def _goes_on_after(self, error: MiniGPTError, place: str) -> bool:
        self._has_failed = True
        self._err.write(f"{shown_line(place)}: {shown_line(str(error))}\n")
        self._err.flush()
        return self._keep_going
