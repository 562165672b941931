"""How the terminal treats what is typed while nobody reads it.

What is typed while a text is made is not shown in the middle of it, but kept for
the next prompt. Does nothing where there is no terminal of this kind.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

try:
    import termios
except ImportError:  # no such terminals on this system
    termios = None  # type: ignore[assignment]


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
