"""The REPL on a terminal: reads lines and carries them out.

The prompt is there before any model: the engine is started after the first drawing, and
a line that comes early waits for it. The toolbar tells what the next text is made with
and how the engine is.
"""

import os
import sys
import termios
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TextIO

from prompt_toolkit.input import Input
from prompt_toolkit.output import Output

from minigpt_repl.engine.request import Engine, EngineInfo, State, Status
from minigpt_repl.errors import EXIT_OK, MiniGPTError
from minigpt_repl.paths import PACKAGE
from minigpt_repl.repl import output as outputs
from minigpt_repl.repl.context import Node, Session
from minigpt_repl.repl.dispatch import App, run_line
from minigpt_repl.repl.line_editor import (
    DumbEditor,
    Fragment,
    LineEditor,
    LineHistory,
    edit,
)
from minigpt_repl.repl.screen import Screen, is_dumb, wants_color, work_of
from minigpt_repl.repl.signals import ignore, leaving_cleanly, on_interrupt, stopping
from minigpt_repl.sampling.parameters import format_values
from minigpt_repl.shown import defect, in_tokens_per_second, shortened, shown_line
from minigpt_repl.version import __version__

COMMANDS = "minigpt_repl.repl.commands"
"""Imported, with all commands, a little after the prompt can be typed at."""

IMPORT_DELAY = 0.3


class Terminal(App):
    """One run of the loop.

    Without `history`, a file, no lines are kept. Keys come from `input`, the line
    editor draws on `output`, texts go to `out` and notices to `err`; each is the
    terminal if it is `None`. With `debug` a defect of ours ends the program with its
    trace.
    """

    is_terminal = True

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
        self.has_keys = not is_dumb(os.environ)
        self._debug = debug
        self._history = LineHistory(history) if history else None
        self._editor: LineEditor | DumbEditor = DumbEditor(self._history)
        if self.has_keys:
            self._editor = LineEditor(
                self.context, self._toolbar, self._begin, self._history, input, output
            )
        self._exit_code: int | None = None
        self._has_begun = False
        self._reported: MiniGPTError | None = None

        def open_watched(folder: str) -> Engine:
            engine = open_engine(folder)
            engine.when_changed(partial(self._on_change, engine))
            return engine

        screen = Screen(
            out or sys.stdout,
            err or sys.stderr,
            self._editor.size,
            can_move=self.has_keys,
            label=self._waiting_for if self.has_keys else None,
        )
        super().__init__(session, open_watched, directory, screen)

    def run(self, first_lines: Iterable[str] = ()) -> int:
        """Carry out lines, those that are given first, until the user leaves; returns
        the exit code."""
        try:
            with leaving_cleanly(), on_interrupt(ignore), _unseen_typing(self.has_keys):
                self._apply_color()
                self.screen.notice(
                    f"minigpt-repl {__version__}: type a text to continue it, "
                    ":help helps, ^D leaves"
                )
                for line in first_lines:
                    if self._exit_code is None:
                        self._run_line(line)
                while self._exit_code is None:
                    self._turn()
                return self._exit_code
        except SystemExit as left:  # by a signal
            return int(left.code or 0)
        finally:
            self.close()

    def answer(
        self, question: outputs.Ask | outputs.AskKey | outputs.AskEditor
    ) -> str | None:
        """What the user types, presses or leaves in the editor."""
        match question:
            case outputs.Ask(text):
                return self._editor.ask(text)
            case outputs.AskKey():
                return self._editor.key()
            case outputs.AskEditor(text):
                with on_interrupt(ignore), self._editor.usual_modes():
                    return edit(text)

    def show(self, output: outputs.Output) -> object:
        """As `App`; of a prompt that was just typed the end will do."""
        if isinstance(output, outputs.TextStarted) and self.has_keys:
            output = outputs.TextStarted(self.screen.end_of(output.prompt))
        return super().show(output)

    def _turn(self) -> None:
        """Read one line and carry it out."""
        self._apply_color()
        keys = str(self.session.settings.value("keys"))
        if not self.has_keys:
            self._begin()
        try:
            line = self._editor.read(keys, self.screen.color)
        except EOFError:
            self._exit_code = EXIT_OK
        except KeyboardInterrupt:
            self.screen.notice("^D leaves, :help helps")
        else:
            if self._history is not None and self._history.trouble:
                self.screen.notice(self._history.trouble)
                self._history.trouble = None
            self._run_line(line)

    def _run_line(self, line: str) -> None:
        import_module(COMMANDS)
        try:
            with stopping(self.stop):
                self.carry_out(partial(run_line, line))
        except MiniGPTError as error:
            self._reported = error
            self.screen.notice(str(error), is_error=True)
        except KeyboardInterrupt:
            self.screen.notice("stopped")
        except Exception as error:
            if self._debug:
                raise
            self.screen.notice(_describe_defect(error), is_error=True)
        if self.has_quit:
            self._exit_code = EXIT_OK

    def _begin(self) -> None:
        """The prompt can be typed at: do what it did not wait for, once."""
        if not self._has_begun:
            self._has_begun = True
            importing = threading.Timer(IMPORT_DELAY, import_module, args=(COMMANDS,))
            importing.daemon = True
            importing.start()
            self.engine.start()

    def _on_change(self, engine: Engine) -> None:
        """An engine's status changed; called from another thread."""
        if engine is not self.engine:
            return
        self._editor.refresh()
        status = engine.status
        failure = status.failure
        if status.state != "failed" or failure is None or failure is self._reported:
            return
        notice = partial(self.screen.notice, str(failure), is_error=True)
        if self._editor.print_above(notice):
            self._reported = failure

    def _toolbar(self) -> list[Fragment]:
        columns = self._editor.size().columns
        return toolbar(self.session, self.directory, self.engine.status, columns)

    def _apply_color(self) -> None:
        setting = str(self.session.settings.value("color"))
        self.screen.color = wants_color(setting, os.environ, is_terminal=True)

    def _waiting_for(self) -> str:
        return f"{work_of(self.opening or self.engine)}; ^C goes back"


@contextmanager
def _unseen_typing(has_keys: bool) -> Iterator[None]:
    """What is typed while nobody reads it is kept for the next prompt and not shown."""
    if not has_keys or not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    modes = termios.tcgetattr(sys.stdin)
    # Not by lines: else a ^D would be spent on nobody, and lost.
    modes[3] &= ~(termios.ECHO | termios.ICANON)
    # Else the system drops words that are on their way when ^C is pressed.
    modes[3] |= termios.NOFLSH
    termios.tcsetattr(sys.stdin, termios.TCSANOW, modes)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal may have gone
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def _describe_defect(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"in {Path(last.filename).name} line {last.lineno}"
    return f"a defect of this program, {defect(error)} {where}; the session goes on"


SEPARATOR = " · "
STATES: dict[State, tuple[str, str]] = {
    "stopped": (".bad", "engine not running"),
    "starting": (".busy", "starting"),
    "loading": (".busy", "loading"),
    "warming": ("", "ready, warming"),
    "ready": ("", "ready"),
    "failed": (".bad", "not loaded"),
}
"""Style and words of an engine's state."""


def toolbar(
    session: Session, directory: str, status: Status, columns: int
) -> list[Fragment]:
    """The toolbar's words, as many as fit.

    Where there is little room, the first of these go: checkpoint, seed, speed,
    context, parameters. The sampler and the engine's state stay.
    """
    settings, node = session.settings, session.node
    values = settings.parameters()
    name, shown = settings.sampler.name, format_values(values)
    style, state = STATES[status.state]
    if settings.sampler.stages:
        room = columns - len(SEPARATOR) - len(state)
        name, shown = settings.sampler.text(values), ""
        if len(name) > room:
            name = shortened(settings.sampler.name, max(room - len("..."), 1))
    seed, speed, used = settings.value("seed"), 0.0, ""
    if node is not None:
        speed = node.generation.tokens_per_second
        used = "" if status.info is None else _context(node, status.info)
    # By importance, the least one first: (place, style, words).
    parts = [
        (0, "", shown_line(directory.rstrip("/").split("/")[-1] or str(PACKAGE))),
        (3, "", "" if seed is None else f"seed {seed}"),
        (5, "", in_tokens_per_second(speed) if speed else ""),
        (4, "", used),
        (2, "", shown),
        (6, style, state),
        (1, ".strong", name),
    ]
    parts = [part for part in parts if part[2]]
    while len(parts) > 1 and _width([words for _, _, words in parts]) > columns:
        del parts[0]
    fragments: list[Fragment] = []
    for place, style, words in sorted(parts):
        if fragments:
            # The parameters belong to the sampler's name.
            fragments.append(("", " " if place == 2 else SEPARATOR))
        fragments.append((f"class:bottom-toolbar{style}", words))
    return fragments


def _width(words: list[str]) -> int:
    return sum(map(len, words)) + len(SEPARATOR) * (len(words) - 1)


def _context(node: Node, info: EngineInfo) -> str:
    """Positions that the current text takes up, the start token included."""
    generation = node.generation
    used = 1 + len(generation.started.prompt_ids) + len(generation.tokens)
    return f"{min(used, info.context_length)}/{info.context_length}"
