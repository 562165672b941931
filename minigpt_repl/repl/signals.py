"""Signals and modes of a terminal: ^C stops a text, other signals end us cleanly.

While a line is carried out, the first ^C asks the engine to stop and the second raises
`KeyboardInterrupt`. At the prompt, ^C is a key. SIGTERM and SIGHUP raise `Left`, so
that every `finally` runs and the terminal is sane. What is typed while nobody reads it
is kept for the next prompt and not shown.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from minigpt_repl.errors import MiniGPTError

if TYPE_CHECKING:
    from prompt_toolkit.application import Application

try:
    import termios
except ImportError:  # no such terminals on this system
    termios = None  # type: ignore[assignment]

LEAVING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
RETRY_S = 0.01
"""After which an application that could not leave is told again."""

Phase = Literal["elsewhere", "reading", "working"]


class Left(BaseException):
    """A signal told us to leave."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class Signals:
    """Handles signals as long as it is entered; does nothing outside the main
    thread, where Python has no signals.

    `stop` asks whatever is running to stop, and takes no lock. The signals in `leaving`
    raise `Left`.

    Attributes:
        interrupts: ^C since the line began to be carried out.
        left: exit code of the signal that told us to leave, or 0.
    """

    def __init__(
        self, stop: Callable[[], None], leaving: Sequence[int] = LEAVING
    ) -> None:
        self._stop = stop
        self._leaving = leaving
        self._phase: Phase = "elsewhere"
        self._app: Application[Any] | None = None
        self._before: dict[int, Any] = {}
        self.interrupts = 0
        self.left = 0

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupt)
            for number in self._leaving:
                self._before[number] = signal.signal(number, self._leave)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """A line is carried out: ^C stops it, the second raises
        `KeyboardInterrupt`."""
        self.interrupts = 0
        with self.phase("working"):
            yield

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """As `working`, and whatever fails after a ^C is a `KeyboardInterrupt`."""
        with self.working():
            try:
                yield
            except MiniGPTError:
                if self.interrupts:
                    raise KeyboardInterrupt from None
                raise

    @contextlib.contextmanager
    def at_prompt(self, app: "Application[Any]") -> Iterator[None]:
        """A line is read by an application, which is told to leave.

        Raises:
            Left: if a signal came while the application before it was ending.
        """
        if self.left:
            raise Left(self.left)
        self._app = app
        try:
            with self.phase("elsewhere"):
                yield
        finally:
            self._app = None

    @contextlib.contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """What ^C means until the end: while `reading` a line without an application
        it raises `KeyboardInterrupt`, `elsewhere` it is for whoever has the terminal.
        """
        before, self._phase = self._phase, phase
        try:
            yield
        finally:
            self._phase = before

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._phase == "reading":
            raise KeyboardInterrupt
        if self._phase == "elsewhere":
            return
        self.interrupts += 1
        self._stop()
        if self.interrupts > 1:
            raise KeyboardInterrupt

    def _leave(self, number: int, frame: FrameType | None) -> None:
        if self.left:
            return
        self.left = 128 + number
        app = self._app
        if app is None or app.loop is None or not app.is_running:
            raise Left(self.left)
        # Raised out of the event loop it would leave the terminal as it is.
        app.loop.call_soon_threadsafe(lambda: _exit(app, Left(self.left)))


def _exit(app: "Application[Any]", error: BaseException) -> None:
    try:
        app.exit(exception=error)
    except Exception:  # noqa: BLE001, it is just beginning, or ending already
        if app.is_running and app.loop is not None:
            app.loop.call_later(RETRY_S, _exit, app, error)


class Modes:
    """The modes of the terminal on standard input."""

    def __init__(self) -> None:
        self._usual = _modes()

    @contextlib.contextmanager
    def unseen(self) -> Iterator[None]:
        """What is typed is kept and not shown, from one prompt to the next."""
        if self._usual is None:
            yield
            return
        modes = list(self._usual)
        # Not by lines: else a ^D would be spent on nobody, and lost.
        modes[3] &= ~(termios.ECHO | termios.ICANON)
        # Else the system drops words that are on their way when ^C is pressed.
        modes[3] |= termios.NOFLSH
        with self._set(modes):
            yield

    @contextlib.contextmanager
    def usual(self) -> Iterator[None]:
        """As the terminal was before us, for another program."""
        with self._set(self._usual):
            yield

    @contextlib.contextmanager
    def _set(self, modes: list[Any] | None) -> Iterator[None]:
        before = _modes()
        if modes is None or before is None:
            yield
            return
        # A terminal that has gone has no modes to set.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(sys.stdin, termios.TCSANOW, modes)
        try:
            yield
        finally:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def _modes() -> list[Any] | None:
    if termios is None:
        return None
    try:
        return termios.tcgetattr(sys.stdin)
    except (termios.error, OSError, ValueError, AttributeError, TypeError):
        return None
