"""The REPL on a terminal: reads lines with prompt_toolkit and carries them out.

The prompt is there before any model: the engine is started after the first
drawing, and a line that comes early waits for it. Knows no command by name and
imports no TensorFlow.
"""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import DummyHistory, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.output import ColorDepth, DummyOutput, Output
from prompt_toolkit.styles import Style

from minigpt_repl import __version__
from minigpt_repl.decoding.remote import RemoteEngine
from minigpt_repl.decoding.request import Engine, EngineInfo
from minigpt_repl.errors import EXIT_INTERRUPTED, EXIT_OK, MiniGPTError
from minigpt_repl.repl import outputs
from minigpt_repl.repl.command import Desk
from minigpt_repl.repl.history import LineHistory
from minigpt_repl.repl.keys import is_open_block, make_keys, without_block_marks
from minigpt_repl.repl.modes import Modes
from minigpt_repl.repl.perform import perform
from minigpt_repl.repl.screen import Screen
from minigpt_repl.repl.session import Session
from minigpt_repl.repl.signals import Left, Signals
from minigpt_repl.repl.spinner import FRAMES, PLAIN_FRAMES, Spinner
from minigpt_repl.repl.theme import colors, is_dumb, wants_color
from minigpt_repl.repl.toolbar import loaded_info, status_of, toolbar

PROMPT = "> "
CONTINUATION = ". "
SECOND_INTERRUPT = 2.0
"""Seconds in which a second ^C leaves, if the engine does not answer."""

MENU_ROWS = 6
COMMANDS = "minigpt_repl.repl.dispatch"
"""Imported, with all commands, while the user begins to type."""

WAITING = {
    "starting": "starting the engine",
    "loading": "loading the model",
    "warming": "working, or warming up samplers",
}


def run_terminal(
    session: Session,
    open_engine: Callable[[str], Engine],
    directory: str,
    *,
    history: Path | None = None,
    first_lines: Sequence[str] = (),
    input: Input | None = None,
    output: Output | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
    debug: bool = False,
) -> int:
    """Read lines and carry them out until the user leaves.

    Args:
        session: where it starts.
        open_engine: makes the engine of a checkpoint's folder without waiting
            for it, as `RemoteEngine` does.
        directory: the folder to start with.
        history: file of earlier lines; `None` keeps none.
        first_lines: carried out before the first prompt.
        input: where keys come from; the terminal if `None`.
        output: where the line editor draws; the terminal if `None`.
        out: gets the texts; `sys.stdout` if `None`.
        err: gets notices; `sys.stderr` if `None`.
        debug: whether a defect of ours ends the program with its trace.

    Returns:
        The exit code.
    """
    terminal = _Terminal(
        session,
        open_engine,
        directory,
        LineHistory(history) if history else None,
        out or sys.stdout,
        err or sys.stderr,
        debug,
    )
    return terminal.run(first_lines, input, output)


class _Terminal:
    """One run of the loop. The engine in use is `_engine`; `:model` changes it."""

    def __init__(
        self,
        session: Session,
        open_engine: Callable[[str], Engine],
        directory: str,
        history: LineHistory | None,
        out: TextIO,
        err: TextIO,
        debug: bool,
    ) -> None:
        self._session = session
        self._open_engine = open_engine
        self._directory = directory
        self._engine = open_engine(directory)
        self._opening: Engine | None = None
        self._history = history
        self._debug = debug
        self._is_dumb = is_dumb(os.environ)
        self._screen = Screen(out, err, self._size, can_move=not self._is_dumb)
        self._signals = Signals(self._stop_engines)
        self._modes = Modes()
        self._spinner: Spinner | None = None
        self._exit_code: int | None = None
        self._interrupted_at = -SECOND_INTERRUPT
        self._reported: MiniGPTError | None = None

    def run(
        self, first_lines: Iterable[str], input: Input | None, output: Output | None
    ) -> int:
        with ExitStack() as stack:
            stack.callback(lambda: self._engine.close())
            stack.enter_context(self._signals)
            self._make_prompt(input, output)
            self._apply_color()
            self._banner()
            try:
                for line in first_lines:
                    if self._exit_code is None:
                        self._carry_out_line(line)
                while self._exit_code is None:
                    self._turn()
            except Left as left:
                self._exit_code = left.exit_code
            except OSError:
                # A closed terminal: what is written to it can't be.
                if not self._signals.left:
                    raise
                self._exit_code = self._signals.left
        return self._exit_code

    def _make_prompt(self, input: Input | None, output: Output | None) -> None:
        self._prompt: PromptSession[str] = PromptSession(
            PROMPT,
            multiline=True,
            prompt_continuation=_continuation,
            completer=_Completer(self._desk),
            complete_while_typing=True,
            auto_suggest=AutoSuggestFromHistory(),
            history=self._history or InMemoryHistory(),
            key_bindings=make_keys(),
            bottom_toolbar=self._toolbar,
            style=Style.from_dict(colors(os.environ)),
            include_default_pygments_style=False,
            reserve_space_for_menu=MENU_ROWS,
            enable_suspend=True,
            input=input,
            # Even prompt_toolkit's way for terminals that can only print begins
            # with an escape sequence.
            output=DummyOutput() if self._is_dumb else output,
        )
        self._prompt.app.after_render += self._after_first_render
        # A terminal that does not tell where its cursor is only has no toolbar.
        self._prompt.app.renderer.cpr_not_supported_callback = None
        self._prompt.app.timeoutlen = 0.3  # how long Escape waits for Alt-Enter

    def _turn(self) -> None:
        """Read one line and carry it out."""
        self._apply_color()
        try:
            line = self._read_plain() if self._is_dumb else self._read()
        except EOFError:
            self._exit_code = EXIT_OK
        except KeyboardInterrupt:
            self._hint()
        else:
            self._tell_history_trouble()
            self._carry_out_line(without_block_marks(line))

    def _read(self) -> str:
        is_vi = self._session.settings.value("keys") == "vi"
        with self._signals.at_prompt(self._prompt.app):
            return self._prompt.prompt(
                [("class:prompt", PROMPT)],
                editing_mode=EditingMode.VI if is_vi else EditingMode.EMACS,
                color_depth=None if self._screen.color else ColorDepth.DEPTH_1_BIT,
            )

    def _read_plain(self) -> str:
        """For a terminal that can only print; it edits the line itself."""
        self._start_engine()
        with self._signals.reading():
            line = input(PROMPT)
            while is_open_block(line):
                line += "\n" + input(CONTINUATION)
        if line.strip() and self._history is not None:
            self._history.store_string(line)
        return line

    def _carry_out_line(self, line: str) -> None:
        frames = FRAMES if _can_write(FRAMES, self._screen.encoding) else PLAIN_FRAMES
        write = (lambda text: None) if self._is_dumb else self._screen.write_over
        self._spinner = Spinner(write, self._waiting_for, frames)
        from minigpt_repl.repl.dispatch import run_line

        try:
            with self._modes.unseen(), self._signals.working(), self._spinner:
                steps = run_line(line, self._desk())
                self._session = perform(steps, self._carry_out)
        except MiniGPTError as error:
            self._reported = error
            self._screen.notice(str(error), is_error=True)
        except KeyboardInterrupt:
            self._give_up()
        except (Left, OSError):
            raise
        except Exception as error:
            if self._debug:
                raise
            self._screen.notice(_describe_defect(error), is_error=True)
        finally:
            self._screen.finish()
            if self._signals.interrupts:
                self._interrupted_at = time.monotonic()

    def _carry_out(self, output: outputs.Output) -> object:
        """Do what a command asks; returns what it gets back."""
        spinner = self._spinner
        assert spinner is not None
        spinner.hold()
        reply: object = None
        match output:
            case outputs.Ask(question):
                self._screen.finish()
                reply = self._ask(question)
            case outputs.AskEditor(text):
                self._screen.finish()
                reply = self._edit(text)
            case outputs.SwitchModel(directory):
                spinner.resume()
                reply = self._switch_model(directory)
                spinner.hold()
            case outputs.Quit(exit_code):
                self._exit_code = exit_code
            case _:
                self._screen.show(output)
        if self._screen.is_at_line_start:
            spinner.resume()
        return reply

    def _edit(self, text: str) -> str | None:
        from minigpt_repl.repl.editor import edit_text

        with self._signals.ignored(), self._modes.usual():
            return edit_text(text)

    def _ask(self, question: str) -> str | None:
        try:
            return (
                self._ask_plain(question) if self._is_dumb else self._ask_at(question)
            )
        except (EOFError, KeyboardInterrupt):
            return None

    def _ask_plain(self, question: str) -> str:
        with self._signals.reading(), self._modes.usual():
            return input(f"{question} ")

    def _ask_at(self, question: str) -> str:
        asking: PromptSession[str] = PromptSession(
            history=DummyHistory(),
            input=self._prompt.input,
            output=self._prompt.output,
            color_depth=self._prompt.color_depth,
        )
        with self._signals.at_prompt(asking.app):
            return asking.prompt(f"{question} ")

    def _switch_model(self, directory: str) -> EngineInfo:
        """Load another checkpoint; the engine in use stays if that fails."""
        engine = self._opening = self._open_engine(directory)
        try:
            info = engine.info
        except BaseException:
            engine.close()
            raise
        finally:
            self._opening = None
        self._engine.close()
        self._engine, self._directory = engine, directory
        self._watch(engine)
        return info

    def _stop_engines(self) -> None:
        """Called by the signal handler."""
        for engine in (self._opening, self._engine):
            if engine is not None:
                engine.stop()

    def _give_up(self) -> None:
        """The second ^C: leave if the engine is stuck, else end the command."""
        if getattr(self._engine, "is_stuck", False) or self._opening is not None:
            self._exit_code = EXIT_INTERRUPTED
        else:
            self._screen.notice("stopped")

    def _hint(self) -> None:
        """^C on an empty line."""
        recently = time.monotonic() - self._interrupted_at < SECOND_INTERRUPT
        if recently and getattr(self._engine, "is_stuck", False):
            self._exit_code = EXIT_INTERRUPTED
            return
        self._interrupted_at = time.monotonic()
        self._screen.notice("^D leaves, :help helps")

    def _after_first_render(self, sender: object) -> None:
        self._prompt.app.after_render -= self._after_first_render
        threading.Thread(target=import_module, args=(COMMANDS,), daemon=True).start()
        self._start_engine()

    def _start_engine(self) -> None:
        self._watch(self._engine)
        if isinstance(self._engine, RemoteEngine):
            self._engine.start()

    def _watch(self, engine: Engine) -> None:
        if isinstance(engine, RemoteEngine):
            engine.on_change = self._on_change

    def _on_change(self) -> None:
        """The engine's state changed; called from another thread."""
        app, engine = self._prompt.app, self._engine
        app.invalidate()
        failure = engine.failure if isinstance(engine, RemoteEngine) else None
        loop = app.loop
        if failure is None or loop is None or not app.is_running:
            return
        if failure is not self._reported and status_of(engine) == "failed":
            self._reported = failure
            notice = partial(self._screen.notice, str(failure), is_error=True)
            with suppress(RuntimeError):  # the prompt has just ended
                loop.call_soon_threadsafe(lambda: run_in_terminal(notice))

    def _desk(self) -> Desk:
        return Desk(self._session, self._engine, self._screen.width, is_terminal=True)

    def _toolbar(self) -> StyleAndTextTuples:
        engine = self._engine
        return [
            *toolbar(
                self._session,
                self._directory,
                status_of(engine),
                loaded_info(engine),
                self._size().columns,
            )
        ]

    def _apply_color(self) -> None:
        setting = str(self._session.settings.value("color"))
        self._screen.color = wants_color(setting, os.environ, is_terminal=True)

    def _banner(self) -> None:
        self._screen.notice(
            f"minigpt-repl {__version__}: type a text to continue it, "
            ":help helps, ^D leaves"
        )

    def _tell_history_trouble(self) -> None:
        if self._history is not None and self._history.trouble:
            self._screen.notice(self._history.trouble)
            self._history.trouble = None

    def _waiting_for(self) -> str:
        engine = self._opening or self._engine
        return f"{WAITING.get(status_of(engine), 'working')}; ^C goes back"

    def _size(self) -> os.terminal_size:
        if self._is_dumb:
            return shutil.get_terminal_size()
        size = self._prompt.output.get_size()
        return os.terminal_size((size.columns, size.rows))


class _Completer(Completer):
    """Offers what `completion.py` finds."""

    def __init__(self, desk: Callable[[], Desk]) -> None:
        self._desk = desk

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        before = document.text_before_cursor
        if not before.startswith(":"):
            return
        from minigpt_repl.repl.completion import complete

        for candidate in complete(before, self._desk()):
            yield Completion(
                candidate.text,
                start_position=candidate.start - len(before),
                display_meta=candidate.meaning,
            )


def _continuation(width: int, line: int, is_soft: int) -> StyleAndTextTuples:
    return [("class:continuation", " " * width if is_soft else CONTINUATION)]


def _can_write(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _describe_defect(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = ""
    if trace is not None:
        name = Path(trace.tb_frame.f_code.co_filename).name
        where = f" in {name} line {trace.tb_lineno}"
    line = (str(error) or "no message").splitlines()[0]
    return (
        f"a defect of this program, {type(error).__name__}: {line}{where}; "
        "the session goes on"
    )
