"""How often a live block is redrawn: drawing must not cost more than the text."""

import time
from collections.abc import Callable

FRAME_S = 1 / 12


class Pace:
    """Tells when the next frame is due.

    Args:
        is_terminal: whether anyone sees frames before the last one.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(
        self, is_terminal: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._is_terminal = is_terminal
        self._clock = clock
        self._due = 0.0

    def is_due(self) -> bool:
        """Whether to draw a frame now; if so the next one is due a while later."""
        now = self._clock()
        if not self._is_terminal or now < self._due:
            return False
        self._due = now + FRAME_S
        return True
