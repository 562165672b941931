"""Reads from a terminal: lines with prompt_toolkit, answers, keys, texts in an editor.

A terminal that can only print gets no escape sequence and edits its lines itself. Only
the terminal's own palette is used, so that its owner's choice of colours holds.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, get_app, run_in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import (
    CompleteEvent,
    Completer,
    Completion,
    get_common_complete_suffix,
)
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER, EditingMode
from prompt_toolkit.filters import emacs_insert_mode, has_focus, vi_insert_mode
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import DummyHistory, FileHistory, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import Layout, Window
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.styles import Style

from minigpt_repl.errors import MiniGPTError
from minigpt_repl.files import open_user_file
from minigpt_repl.repl.context import Context
from minigpt_repl.repl.dispatch import whole_input
from minigpt_repl.repl.screen import on_terminal
from minigpt_repl.repl.signals import on_interrupt
from minigpt_repl.shown import shown, shown_line, shown_path

PROMPT = "> "
CONTINUATION = ". "
MENU_ROWS = 6
KEY_DELAY = 0.05
"""Seconds that a lone Escape waits for what would make it another key."""
ESCAPE_DELAY = 0.3
"""Seconds that Escape waits for the Enter of Alt-Enter."""
LARGEST_HISTORY = 16 * 1024 * 1024

Fragment = tuple[str, str]
"""A style class of prompt_toolkit and the words that have it."""


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


class LineEditor:
    """Reads with prompt_toolkit.

    `when_drawn` is called whenever the prompt is there. Without `input` and `output`
    keys come from the terminal, and the line editor draws there.
    """

    def __init__(
        self,
        context: Callable[[], Context],
        toolbar: Callable[[], list[Fragment]],
        when_drawn: Callable[[], None],
        history: LineHistory | None,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._session: PromptSession[str] = PromptSession(
            [("class:prompt", PROMPT)],
            multiline=True,
            prompt_continuation=_continuation,
            completer=LineCompleter(context),
            complete_while_typing=True,
            auto_suggest=AutoSuggestFromHistory(),
            history=history or InMemoryHistory(),
            key_bindings=_make_keys(),
            bottom_toolbar=lambda: [*toolbar()],
            style=Style.from_dict(colors(os.environ)),
            include_default_pygments_style=False,
            reserve_space_for_menu=MENU_ROWS,
            enable_suspend=True,
            input=input,
            output=output,
        )
        app = self._session.app
        app.after_render += lambda sender: when_drawn()
        app.timeoutlen = ESCAPE_DELAY
        # A terminal that does not tell where its cursor is only has no toolbar.
        app.renderer.cpr_not_supported_callback = None

    def read(self, keys: str, color: bool) -> str:
        """One line, or several as one prompt.

        Raises:
            EOFError: ^D.
            KeyboardInterrupt: ^C on an empty line.
        """
        is_vi = keys == "vi"
        self._session.editing_mode = EditingMode.VI if is_vi else EditingMode.EMACS
        self._session.color_depth = None if color else ColorDepth.DEPTH_1_BIT
        line = self._session.prompt()
        whole = whole_input(line)
        return line if whole is None else whole

    def ask(self, question: str) -> str | None:
        """An answer to a question, or `None` after ^D or ^C."""
        asking: PromptSession[str] = PromptSession(
            history=DummyHistory(),
            input=self._session.input,
            output=self._session.output,
            color_depth=self._session.color_depth,
        )
        asking.app.renderer.cpr_not_supported_callback = None
        with suppress(EOFError, KeyboardInterrupt):
            return asking.prompt(f"{on_terminal(question).rstrip()} ")
        return None

    def key(self) -> str | None:
        """One key: a character, or a name of `NAMED_KEYS`; `None` at a hang-up."""
        pressed: Application[str] = Application(
            layout=Layout(Window(height=1)),
            key_bindings=_any_key(),
            input=self._session.input,
            output=self._session.output,
            erase_when_done=True,
        )
        pressed.ttimeoutlen = pressed.timeoutlen = KEY_DELAY
        pressed.renderer.cpr_not_supported_callback = None
        with suppress(EOFError, KeyboardInterrupt):
            return pressed.run()
        return None

    def usual_modes(self) -> AbstractContextManager[None]:
        """The terminal as another program expects it."""
        return self._session.input.cooked_mode()

    def size(self) -> os.terminal_size:
        """The terminal's size now."""
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


class DumbEditor:
    """Reads from a terminal that can only print; as `LineEditor`, without keys."""

    def __init__(self, history: LineHistory | None) -> None:
        self._history = history

    def read(self, keys: str, color: bool) -> str:
        with on_interrupt(signal.default_int_handler):
            line = input(PROMPT)
            while (whole := whole_input(line)) is None:
                line += "\n" + input(CONTINUATION)
        if line.strip() and self._history is not None:
            self._history.store_string(line)
        return whole

    def ask(self, question: str) -> str | None:
        with (
            suppress(EOFError, KeyboardInterrupt),
            on_interrupt(signal.default_int_handler),
        ):
            return input(f"{on_terminal(question).rstrip()} ")
        return None

    def key(self) -> None:
        return None

    def usual_modes(self) -> AbstractContextManager[None]:
        return nullcontext()

    def size(self) -> os.terminal_size:
        return shutil.get_terminal_size()

    def refresh(self) -> None:
        """There is no toolbar."""

    def print_above(self, write: Callable[[], None]) -> bool:
        return False


def edit(text: str) -> str | None:
    """A text as the user left it in an editor, or `None` if it was not saved."""
    try:
        edited = click.edit(text, extension=".txt")
    except (click.ClickException, OSError) as error:
        why = getattr(error, "message", str(error))
        raise MiniGPTError(f"can't edit ({why}): set EDITOR to an editor") from error
    return None if edited is None else edited.removesuffix("\n")


class LineCompleter(Completer):
    """Offers what `completion.py` finds."""

    def __init__(self, context: Callable[[], Context]) -> None:
        self._context = context

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        before = document.text_before_cursor
        if not before.startswith(":"):
            return
        import minigpt_repl.repl.commands  # noqa: F401 - fills the table of commands
        from minigpt_repl.repl.completion import complete

        for candidate in complete(before, self._context()):
            yield Completion(
                candidate.text,
                start_position=candidate.start - len(before),
                display=shown_line(candidate.text),
                display_meta=shown_line(candidate.meaning),
            )


def _make_keys() -> KeyBindings:
    """Key bindings of the line editor, for emacs and vi keys."""
    keys = KeyBindings()
    is_inserting = emacs_insert_mode | vi_insert_mode
    at_line = has_focus(DEFAULT_BUFFER)

    @keys.add("enter", filter=at_line)
    def _(event: KeyPressEvent) -> None:
        """Send the line; in an open block, begin another."""
        buffer = event.current_buffer
        if whole_input(buffer.text) is None:
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("tab", filter=at_line & is_inserting)
    def _(event: KeyPressEvent) -> None:
        """Complete as far as it is certain, then offer the rest."""
        buffer = event.current_buffer
        if buffer.complete_state is not None:
            buffer.complete_next()
            return
        # prompt_toolkit's own forgets the key while it looks for what to offer.
        document = buffer.document
        asked = CompleteEvent(completion_requested=True)
        found = list(buffer.completer.get_completions(document, asked))
        if len(found) == 1:
            buffer.apply_completion(found[0])
        elif found:
            buffer.insert_text(get_common_complete_suffix(document, found))
            buffer.start_completion()

    @keys.add("escape", "enter", filter=at_line & is_inserting)
    def _(event: KeyPressEvent) -> None:
        """A new line in the prompt."""
        event.current_buffer.newline(copy_margin=False)

    @keys.add("c-c", filter=at_line)
    @keys.add("<sigint>")
    def _(event: KeyPressEvent) -> None:
        """Clear the line; on an empty one, let the loop decide."""
        buffer = event.app.current_buffer
        if get_app().layout.has_focus(DEFAULT_BUFFER) and buffer.text:
            buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt(), style="class:aborting")

    return keys


NAMED_KEYS = {
    "enter": "enter",
    "c-j": "enter",
    "backspace": "backspace",
    "left": "left",
    "tab": "tab",
    "escape": "escape",
    "c-c": "escape",
    "c-d": "escape",
    "<sigint>": "escape",
}


def _any_key() -> KeyBindings:
    """Key bindings that end an application with the first key."""
    keys = KeyBindings()

    def bind(key: str, name: str) -> None:
        @keys.add(key)
        def _(event: KeyPressEvent) -> None:
            event.app.exit(result=name)

    for key, name in NAMED_KEYS.items():
        bind(key, name)

    @keys.add("<any>")
    def _(event: KeyPressEvent) -> None:
        """A character; other keys, and what a terminal answers, are none."""
        if len(event.data) == 1 and event.data.isprintable():
            event.app.exit(result=event.data)

    return keys


def _continuation(width: int, line: int, is_soft: int) -> StyleAndTextTuples:
    """What stands before a further line of the input."""
    return [("class:continuation", " " * width if is_soft else CONTINUATION)]


_MENU = ("bg:ansibrightblack ansiwhite", "bg:ansiwhite ansiblack")
_MENU_CURRENT = ("bg:ansicyan ansiblack", "bg:ansiblue ansiwhite")
_STRONG = ("bold ansibrightcyan", "bold ansiblue")
_FAINT = ("ansibrightblack", "ansibrightblack")
_COLORS = {
    "prompt": _STRONG,
    "continuation": _FAINT,
    "auto-suggestion": _FAINT,
    "bottom-toolbar": (
        "noreverse bg:ansiblack ansiwhite",
        "noreverse bg:ansiwhite ansiblack",
    ),
    "bottom-toolbar.strong": _STRONG,
    "bottom-toolbar.busy": ("ansibrightyellow", "bold ansimagenta"),
    "bottom-toolbar.bad": ("bold ansibrightred", "bold ansired"),
    "completion-menu.completion": _MENU,
    "completion-menu.completion.current": _MENU_CURRENT,
    "completion-menu.meta.completion": _MENU,
    "completion-menu.meta.completion.current": _MENU_CURRENT,
}
"""Styles on a dark and on a light background."""

_LIGHT_BACKGROUNDS = ("7", "15")


def colors(environment: Mapping[str, str]) -> dict[str, str]:
    """Styles for prompt_toolkit, by the background that the terminal reports."""
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    place = int(background in _LIGHT_BACKGROUNDS)
    return {name: styles[place] for name, styles in _COLORS.items()}
