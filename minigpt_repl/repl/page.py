"""Carries out what commands yield where no person is looking: pipes and files.

Only text goes to `out`, flushed as it comes; everything else goes to `err`. No
escape byte is written unless colour is forced. Knows nothing of the engine.
"""

from collections.abc import Callable
from typing import TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.repl.command import Steps
from minigpt_repl.repl.outputs import (
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
from minigpt_repl.repl.perform import perform
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
