"""Signals while the program runs: ^C stops a text, others end the program cleanly.

The first ^C asks the engine to stop, the second raises `KeyboardInterrupt`. At the
prompt, ^C is a key. SIGTERM and SIGHUP raise `SystemExit`, so that every `finally` runs
and the terminal is sane.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minigpt_repl.errors import MiniGPTError

LEAVING = (signal.SIGTERM, signal.SIGHUP)


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


@dataclass
class Interrupts:
    """How often ^C was pressed."""

    count: int = 0


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[Interrupts]:
    """^C calls `stop`, and the second time raises `KeyboardInterrupt`."""
    interrupts = Interrupts()

    def interrupt(number: int, frame: object) -> None:
        interrupts.count += 1
        stop()
        if interrupts.count > 1:
            raise KeyboardInterrupt

    with on_interrupt(interrupt):
        yield interrupts


@contextmanager
def leaving_after_stop(stop: Callable[[], None]) -> Iterator[None]:
    """As `stopping`; after ^C it ends with `KeyboardInterrupt`, whatever failed."""
    with stopping(stop) as interrupts:
        try:
            yield
        except MiniGPTError:
            if not interrupts.count:
                raise
    if interrupts.count:
        raise KeyboardInterrupt


@contextmanager
def leaving_cleanly() -> Iterator[None]:
    """The first of the signals in `LEAVING` raises `SystemExit`."""

    def leave(number: int, frame: object) -> None:
        for each in LEAVING:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in LEAVING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
