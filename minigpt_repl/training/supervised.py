"""A process that is watched by another one, for libraries that call `abort()`.

JAX ends a process whose coordinator is gone from a thread of its own, without an
exception: only another process can say so in a line and choose the exit code.
"""

import contextlib
import os
import signal
import threading
from typing import Any

from minigpt_repl.errors import MiniGPTError


def fork_and_watch(told: str) -> int | None:
    """Go on in a child process, and wait for it here.

    To be called while there is one thread. Signals that ask for an end are passed
    on to the child, and whatever ends the parent ends the child as well.

    Args:
        told: what it means when the child calls `abort()`.

    Returns:
        `None` in the child. In the parent, the child's exit code.

    Raises:
        MiniGPTError: in the parent, if a signal ended the child.
    """
    parent_is_alive, held_by_parent = os.pipe()
    child = os.fork()
    if not child:
        os.close(held_by_parent)
        os.setpgrp()  # ^C comes once, passed on by the parent
        threading.Thread(
            target=_end_with_parent, args=(parent_is_alive,), daemon=True
        ).start()
        return None
    os.close(parent_is_alive)

    def pass_on(number: int, frame: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, pass_on)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(held_by_parent)
    if code == -signal.SIGABRT:
        raise MiniGPTError(told)
    if code < 0:
        raise MiniGPTError(f"the training was ended by {signal.Signals(-code).name}")
    return code


def _end_with_parent(parent_is_alive: int) -> None:
    os.read(parent_is_alive, 1)  # returns when the parent is gone
    os._exit(1)
