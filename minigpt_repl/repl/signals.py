"""Signals while the program runs: ^C stops a text, others end the program cleanly.

^C asks the engine to stop; pressed again when nothing has come of it, it raises
`KeyboardInterrupt`. At the prompt, ^C is a key. SIGTERM and SIGHUP raise `SystemExit`,
so that every `finally` runs and the terminal is sane.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minigpt_repl.errors import MiniGPTError

LEAVING = (signal.SIGTERM, signal.SIGHUP)

PATIENCE = 0.5
"""Seconds in which another ^C belongs to the first: a key is easily pressed twice, and
a text that ends in the meantime is kept."""


@contextmanager
def on_interrupt(handler: Callable[[int, Any], Any]) -> Iterator[None]:
    """What ^C does until the end."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ignore(number: int, frame: object) -> None:
    """For `on_interrupt`, while another program has the terminal. Unlike `SIG_IGN`, it
    is not handed on to that program."""


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[list[float]]:
    """^C calls `stop`, and after `PATIENCE` raises `KeyboardInterrupt`; yields the
    times at which it was pressed."""
    times: list[float] = []

    def interrupt(number: int, frame: object) -> None:
        times.append(time.monotonic())
        stop()
        if times[-1] - times[0] > PATIENCE:
            raise KeyboardInterrupt

    with on_interrupt(interrupt):
        yield times


@contextmanager
def leaving_after_stop(stop: Callable[[], None]) -> Iterator[None]:
    """As `stopping`; after ^C it ends with `KeyboardInterrupt`, whatever failed."""
    with stopping(stop) as times:
        try:
            yield
        except MiniGPTError:
            if not times:
                raise
    if times:
        raise KeyboardInterrupt


@contextmanager
def leaving_cleanly() -> Iterator[None]:
    """The first of the signals in `LEAVING` raises `SystemExit`."""

    def leave(number: int, frame: object) -> None:
        for each in LEAVING:
            signal.signal(each, signal.SIG_IGN)

        def end() -> None:
            raise SystemExit(128 + number)

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            end()
        else:
            # What is raised in a callback of prompt_toolkit's, it may tell and go on.
            loop.call_soon_threadsafe(end)

    before = {number: signal.signal(number, leave) for number in LEAVING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
