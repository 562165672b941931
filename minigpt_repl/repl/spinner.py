"""A line that moves while nothing else does: the model is loading, or compiling.

A thread draws it, because the main thread waits for the engine. Whoever writes to
the terminal calls `hold` before and `resume` after.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType

from minigpt_repl.repl.wrapping import CLEAR_LINE

DELAY = 0.25
PERIOD = 0.1
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PLAIN_FRAMES = "|/-\\"


class Spinner:
    """Shows that work goes on, after `DELAY` seconds without any output.

    Args:
        write: writes to the terminal; the cursor is at the start of a line.
        label: what the wait is for, asked again for each frame.
        columns: of the terminal now; a line that is too long could not be erased.
        frames: characters shown one after another.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        label: Callable[[], str],
        columns: Callable[[], int],
        frames: str = FRAMES,
    ) -> None:
        self._write = write
        self._label = label
        self._columns = columns
        self._frames = frames
        self._lock = threading.Lock()
        self._waiting_since: float | None = None
        self._is_drawn = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._turn, daemon=True)

    def __enter__(self) -> "Spinner":
        self.resume()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self.hold()

    def hold(self) -> None:
        """Take the line away, if it is there; none is drawn until `resume`."""
        with self._lock:
            self._waiting_since = None
            if self._is_drawn:
                self._is_drawn = False
                self._write(f"\r{CLEAR_LINE}")

    def resume(self) -> None:
        """The wait begins again; the cursor is at the start of a line."""
        self._waiting_since = time.monotonic()

    def _turn(self) -> None:
        count = 0
        while not self._done.wait(PERIOD):
            with self._lock:
                since = self._waiting_since
                if since is None or time.monotonic() - since < DELAY:
                    continue
                count += 1
                frame = self._frames[count % len(self._frames)]
                seconds = int(time.monotonic() - since)
                tail = f" ({seconds} s)" if seconds else ""
                line = f"{frame} {self._label()}{tail}"[: self._columns() - 1]
                self._is_drawn = True
                try:
                    self._write(f"\r{line}{CLEAR_LINE}")
                except OSError:  # the terminal has gone; the main thread is told
                    return
