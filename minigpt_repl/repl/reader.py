"""Reads from the terminal: a line with prompt_toolkit, an answer, a text in an editor.

A terminal that can only print gets no escape sequence and edits its lines itself.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, run_in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.history import DummyHistory, FileHistory, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.layout import Layout, Window
from prompt_toolkit.output import ColorDepth, DummyOutput, Output
from prompt_toolkit.styles import Style

from minigpt_repl.errors import MiniGPTError
from minigpt_repl.files import open_user_file
from minigpt_repl.repl.context import Context
from minigpt_repl.repl.dispatch import whole_input
from minigpt_repl.repl.line_editor import (
    CONTINUATION,
    Fragment,
    LineCompleter,
    any_key,
    colors,
    continuation,
    make_keys,
)
from minigpt_repl.repl.output import is_dumb
from minigpt_repl.repl.signals import Modes, Signals
from minigpt_repl.repl.wrapping import on_terminal
from minigpt_repl.shown import shown, shown_path

PROMPT = "> "
MENU_ROWS = 6
KEY_DELAY = 0.05
"""Seconds that a lone Escape waits for what would make it another key."""
ESCAPE_DELAY = 0.3
"""Seconds that Escape waits for the Enter of Alt-Enter."""
LARGEST_HISTORY = 16 * 1024 * 1024


class LineHistory(FileHistory):
    """Lines of earlier sessions, in a file that only its owner can read.

    A history is a convenience: whatever is wrong with the file, the session goes on,
    and says so once: `trouble` tells why lines are not kept.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path
        self._is_given_up = False
        self.trouble: str | None = None

    def load_history_strings(self) -> Iterable[str]:
        """Earlier lines, the last first, their controls visible."""
        with self._noting():
            if self._path.exists():
                open_user_file(self._path, LARGEST_HISTORY).close()
                return [*map(shown, super().load_history_strings())]
        return []

    def store_string(self, string: str) -> None:
        """Add a line to the file."""
        if self._is_given_up:
            return
        with self._noting():
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Without waiting: it may be a pipe that nobody reads.
            how = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK
            os.close(os.open(self._path, how, 0o600))
            # What a badly set terminal sends may be no text that can be encoded.
            super().store_string(string.encode("utf-8", "replace").decode())

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except (OSError, MiniGPTError) as error:
            why = getattr(error, "strerror", None) or error
            self.trouble = f"lines are not kept: {shown_path(self._path)}: {why}"
            self._is_given_up = True


class Reader:
    """The input side of a terminal; one that `is_dumb` can only print.

    `on_first_prompt` is called once, when a prompt can be typed at. Without `input` and
    `output` keys come from the terminal, and the line editor draws there.
    """

    def __init__(
        self,
        context: Callable[[], Context],
        toolbar: Callable[[], list[Fragment]],
        on_first_prompt: Callable[[], None],
        signals: Signals,
        modes: Modes,
        history: LineHistory | None,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self.is_dumb = is_dumb(os.environ)
        self._on_first_prompt: Callable[[], None] | None = on_first_prompt
        self._signals = signals
        self._modes = modes
        self._history = history
        self._session: PromptSession[str] = PromptSession(
            [("class:prompt", PROMPT)],
            multiline=True,
            prompt_continuation=continuation,
            completer=LineCompleter(context),
            complete_while_typing=True,
            auto_suggest=AutoSuggestFromHistory(),
            history=history or InMemoryHistory(),
            key_bindings=make_keys(),
            bottom_toolbar=lambda: [*toolbar()],
            style=Style.from_dict(colors(os.environ)),
            include_default_pygments_style=False,
            reserve_space_for_menu=MENU_ROWS,
            enable_suspend=True,
            input=input,
            # Even prompt_toolkit's way for terminals that can only print begins
            # with an escape sequence.
            output=DummyOutput() if self.is_dumb else output,
        )
        app = self._session.app
        app.after_render += lambda sender: self._note_first_prompt()
        app.timeoutlen = ESCAPE_DELAY
        # A terminal that does not tell where its cursor is only has no toolbar.
        app.renderer.cpr_not_supported_callback = None

    def read(self, keys: str, color: bool) -> str:
        """One line, or several as one prompt.

        Raises:
            EOFError: ^D.
            KeyboardInterrupt: ^C on an empty line.
            Left: a signal told us to leave.
        """
        if self.is_dumb:
            return self._read_plain()
        is_vi = keys == "vi"
        self._session.editing_mode = EditingMode.VI if is_vi else EditingMode.EMACS
        self._session.color_depth = None if color else ColorDepth.DEPTH_1_BIT
        with self._signals.at_prompt(self._session.app):
            line = self._session.prompt()
        whole = whole_input(line)
        return line if whole is None else whole

    def ask(self, question: str) -> str | None:
        """An answer to a question, or `None` after ^D or ^C."""
        question = f"{on_terminal(question).rstrip()} "
        with suppress(EOFError, KeyboardInterrupt):
            if self.is_dumb:
                with self._signals.phase("reading"), self._modes.usual():
                    return input(question)
            asking: PromptSession[str] = PromptSession(
                history=DummyHistory(),
                input=self._session.input,
                output=self._session.output,
                color_depth=self._session.color_depth,
            )
            asking.app.renderer.cpr_not_supported_callback = None
            with self._signals.at_prompt(asking.app):
                return asking.prompt(question)
        return None

    def key(self) -> str | None:
        """One key: a character, or a name of `NAMED_KEYS`; `None` at a hang-up."""
        pressed: Application[str] = Application(
            layout=Layout(Window(height=1)),
            key_bindings=any_key(),
            input=self._session.input,
            output=self._session.output,
            erase_when_done=True,
        )
        pressed.ttimeoutlen = pressed.timeoutlen = KEY_DELAY
        pressed.renderer.cpr_not_supported_callback = None
        with suppress(EOFError, KeyboardInterrupt), self._signals.at_prompt(pressed):
            return pressed.run()
        return None

    def edit(self, text: str) -> str | None:
        """A text as the user left it in an editor, or `None` if it was not saved."""
        with self._signals.phase("elsewhere"), self._modes.usual():
            try:
                edited = click.edit(text, extension=".txt")
            except (click.ClickException, OSError) as error:
                why = getattr(error, "message", str(error))
                raise MiniGPTError(
                    f"can't edit ({why}): set EDITOR to an editor"
                ) from error
        return None if edited is None else edited.removesuffix("\n")

    def size(self) -> os.terminal_size:
        """The terminal's size now."""
        if self.is_dumb:
            return shutil.get_terminal_size()
        size = self._session.output.get_size()
        return os.terminal_size((size.columns, size.rows))

    def refresh(self) -> None:
        """Draw the toolbar anew; may be called from another thread."""
        self._session.app.invalidate()

    def print_above(self, write: Callable[[], None]) -> bool:
        """Have something written above the prompt, from another thread.

        Returns whether there is a prompt, so that it will be written.
        """
        app = self._session.app
        if app.loop is None or not app.is_running:
            return False
        with suppress(RuntimeError):  # the prompt has just ended
            app.loop.call_soon_threadsafe(lambda: run_in_terminal(write))
            return True
        return False

    def _read_plain(self) -> str:
        self._note_first_prompt()
        with self._signals.phase("reading"):
            line = input(PROMPT)
            while (whole := whole_input(line)) is None:
                line += "\n" + input(CONTINUATION)
        if line.strip() and self._history is not None:
            self._history.store_string(line)
        return whole

    def _note_first_prompt(self) -> None:
        if self._on_first_prompt is not None:
            call, self._on_first_prompt = self._on_first_prompt, None
            call()
