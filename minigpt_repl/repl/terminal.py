"""The REPL on a terminal: reads lines with prompt_toolkit and carries them out.

The prompt is there before any model: the engine is started after the first drawing, and
a line that comes early waits for it.
"""

import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TextIO

from prompt_toolkit.input import Input
from prompt_toolkit.output import Output

from minigpt_repl.engine.request import Engine
from minigpt_repl.errors import EXIT_INTERRUPTED, EXIT_OK, MiniGPTError
from minigpt_repl.repl import output as outputs
from minigpt_repl.repl.context import Session
from minigpt_repl.repl.dispatch import App
from minigpt_repl.repl.line_editor import Fragment, toolbar
from minigpt_repl.repl.output import wants_color
from minigpt_repl.repl.reader import LineHistory, Reader
from minigpt_repl.repl.screen import Screen, Spinner
from minigpt_repl.repl.signals import Left, Modes, Signals
from minigpt_repl.shown import defect
from minigpt_repl.version import __version__

SECOND_INTERRUPT = 2.0
"""Seconds in which a second ^C leaves, if the engine does not answer."""

HANG_UP = 128 + int(getattr(signal, "SIGHUP", 1))
COMMANDS = "minigpt_repl.repl.commands"
"""Imported, with all commands, a little after the prompt can be typed at."""

IMPORT_DELAY = 0.3

WAITING = {
    "starting": "starting the engine",
    "loading": "loading the model",
    "warming": "warming up the samplers",
}


class Terminal:
    """One run of the loop, and the `Display` of its outputs.

    Without `history`, a file, no lines are kept. Keys come from `input`, the line
    editor draws on `output`, texts go to `out` and notices to `err`; each is the
    terminal if it is `None`. With `debug` a defect of ours ends the program with its
    trace.
    """

    def __init__(
        self,
        session: Session,
        open_engine: Callable[[str], Engine],
        directory: str,
        *,
        history: Path | None = None,
        input: Input | None = None,
        output: Output | None = None,
        out: TextIO | None = None,
        err: TextIO | None = None,
        debug: bool = False,
    ) -> None:
        self._open_engine = open_engine
        self._history = LineHistory(history) if history else None
        self._debug = debug
        self._signals = Signals(lambda: self._app.stop())
        self._modes = Modes()
        self._reader = Reader(
            lambda: self._app.context(),
            self._toolbar,
            self._begin,
            self._signals,
            self._modes,
            self._history,
            input,
            output,
        )
        self._is_dumb = self._reader.is_dumb
        out, err = out or sys.stdout, err or sys.stderr
        self._screen = Screen(out, err, self._reader.size, not self._is_dumb)
        label = None if self._is_dumb else self._waiting_for
        self._spinner = Spinner(err, label)
        self._exit_code: int | None = None
        self._interrupted_at = -SECOND_INTERRUPT
        self._reported: MiniGPTError | None = None
        self._app = App(session, self._open, directory, self, is_terminal=True)

    def run(self, first_lines: Iterable[str] = ()) -> int:
        """Carry out lines, those that are given first, until the user leaves; returns
        the exit code."""
        with ExitStack() as stack:
            stack.callback(self._app.close)
            stack.enter_context(self._signals)
            if not self._is_dumb:
                stack.enter_context(self._modes.unseen())
            self._apply_color()
            self._screen.notice(
                f"minigpt-repl {__version__}: type a text to continue it, "
                ":help helps, ^D leaves"
            )
            try:
                for line in first_lines:
                    if self._exit_code is None:
                        self._carry_out(line)
                while self._exit_code is None:
                    self._turn()
            except Left as left:
                self._exit_code = left.exit_code
            except OSError as error:
                if not _is_hang_up(error):
                    raise
                self._exit_code = self._signals.left or HANG_UP
        return self._exit_code

    @property
    def width(self) -> int:
        """Columns of the terminal now."""
        return self._screen.width

    @property
    def has_keys(self) -> bool:
        """Whether single keys can be asked for."""
        return not self._is_dumb

    def show(self, output: outputs.Output) -> str | None:
        """Show an output; the answer to one that asks.

        Where the cursor is at a line's start after it, we may wait.
        """
        self._spinner.hold()
        answer = None
        match output:
            case outputs.Ask(question):
                self.finish()
                answer = self._reader.ask(question)
            case outputs.AskKey():  # a live block above it stays open
                answer = self._reader.key()
            case outputs.AskEditor(text):
                self.finish()
                answer = self._reader.edit(text)
            case _:
                self._screen.show(output)
        if self._screen.is_at_line_start:
            self._spinner.resume()
        return answer

    def finish(self) -> None:
        """End a text or a live block."""
        self._spinner.hold()
        with suppress(OSError):
            self._screen.finish()

    def _turn(self) -> None:
        """Read one line and carry it out."""
        self._apply_color()
        keys = str(self._app.session.settings.value("keys"))
        try:
            line = self._reader.read(keys, self._screen.color)
        except EOFError:
            self._exit_code = EXIT_OK
        except KeyboardInterrupt:
            self._hint()
        else:
            if self._history is not None and self._history.trouble:
                self._screen.notice(self._history.trouble)
                self._history.trouble = None
            self._carry_out(line)

    def _carry_out(self, line: str) -> None:
        import_module(COMMANDS)
        from minigpt_repl.repl.dispatch import run_line

        try:
            with self._signals.working(), self._spinner:
                self._app.carry_out(run_line(line, self._app.context()))
            if self._app.has_quit:
                self._exit_code = EXIT_OK
        except MiniGPTError as error:
            self._reported = error
            self._screen.notice(str(error), is_error=True)
        except KeyboardInterrupt:
            self._give_up()
        except Exception as error:
            if self._debug or _is_hang_up(error):
                raise
            self._screen.notice(_describe_defect(error), is_error=True)
        finally:
            if self._signals.interrupts:
                self._interrupted_at = time.monotonic()

    def _open(self, directory: str) -> Engine:
        engine = self._open_engine(directory)
        engine.when_changed(partial(self._on_change, engine))
        return engine

    def _give_up(self) -> None:
        """The second ^C: leave if the engine is stuck, else end the command."""
        if self._app.engine.status.is_stuck or self._app.opening is not None:
            self._exit_code = EXIT_INTERRUPTED
        else:
            self._screen.notice("stopped")

    def _hint(self) -> None:
        """^C on an empty line."""
        recently = time.monotonic() - self._interrupted_at < SECOND_INTERRUPT
        if recently and self._app.engine.status.is_stuck:
            self._exit_code = EXIT_INTERRUPTED
            return
        self._interrupted_at = time.monotonic()
        self._screen.notice("^D leaves, :help helps")

    def _begin(self) -> None:
        """The prompt can be typed at: do what it did not wait for."""
        importing = threading.Timer(IMPORT_DELAY, import_module, args=(COMMANDS,))
        importing.daemon = True
        importing.start()
        self._app.engine.start()

    def _on_change(self, engine: Engine) -> None:
        """An engine's status changed; called from another thread."""
        if engine is not self._app.engine:
            return
        self._reader.refresh()
        status = engine.status
        failure = status.failure
        if status.state != "failed" or failure is None or failure is self._reported:
            return
        notice = partial(self._screen.notice, str(failure), is_error=True)
        if self._reader.print_above(notice):
            self._reported = failure

    def _toolbar(self) -> list[Fragment]:
        app, columns = self._app, self._reader.size().columns
        return toolbar(app.session, app.directory, app.engine.status, columns)

    def _apply_color(self) -> None:
        setting = str(self._app.session.settings.value("color"))
        self._screen.color = wants_color(setting, os.environ, is_terminal=True)

    def _waiting_for(self) -> str:
        engine = self._app.opening or self._app.engine
        return f"{WAITING.get(engine.status.state, 'working')}; ^C goes back"


def _is_hang_up(error: Exception) -> bool:
    """Whether the terminal has gone."""
    return isinstance(error, OSError) and error.errno in (errno.EIO, errno.EPIPE)


def _describe_defect(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"in {Path(last.filename).name} line {last.lineno}"
    return f"a defect of this program, {defect(error)} {where}; the session goes on"
