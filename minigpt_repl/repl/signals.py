"""Signals on a terminal: ^C stops a text, and whoever ends us ends us cleanly.

While a line is carried out, the first ^C asks the engine to stop and the second
raises `KeyboardInterrupt`. At the prompt, ^C is a key. SIGTERM and SIGHUP raise
`Left` in either case, so that every `finally` runs and the terminal is sane.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from prompt_toolkit.application import Application

LEAVING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)


RETRY_S = 0.01
"""After which an application that could not leave is told again."""


class Left(BaseException):
    """A signal told us to leave."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class Signals:
    """Handles signals as long as it is entered; does nothing outside the main
    thread, where Python has no signals.

    Args:
        stop: asks whatever is running to stop; takes no lock.

    Attributes:
        interrupts: ^C since the line began to be carried out.
        left: exit code of the signal that told us to leave, or 0.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._is_working = False
        self._is_reading = False
        self._app: Application[Any] | None = None
        self._before: dict[int, Any] = {}
        self.interrupts = 0
        self.left = 0

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *LEAVING):
                handler = self._leave if number in LEAVING else self._interrupt
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """A line is carried out: ^C stops it."""
        self.interrupts = 0
        self._is_working = True
        try:
            yield
        finally:
            self._is_working = False

    @contextlib.contextmanager
    def at_prompt(self, app: "Application[Any]") -> Iterator[None]:
        """A line is read by an application, which is told to leave.

        Raises:
            Left: if a signal came while the application before it was ending.
        """
        if self.left:
            raise Left(self.left)
        was_working, self._is_working = self._is_working, False
        self._app = app
        try:
            yield
        finally:
            self._app = None
            self._is_working = was_working

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """A line is read without an application: ^C raises `KeyboardInterrupt`."""
        was_working, self._is_working = self._is_working, False
        self._is_reading = True
        try:
            yield
        finally:
            self._is_reading = False
            self._is_working = was_working

    @contextlib.contextmanager
    def ignored(self) -> Iterator[None]:
        """Another program has the terminal: ^C is for it."""
        was_working, self._is_working = self._is_working, False
        try:
            yield
        finally:
            self._is_working = was_working

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._is_reading:
            raise KeyboardInterrupt
        if not self._is_working:
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
