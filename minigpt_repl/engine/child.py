"""The engine's child process, seen from its parent: starting it, and its replies.

`remote.py` makes an engine of it. Here there is no TensorFlow, and nothing waits:
a thread sorts the replies, and whoever asked takes them when it wants them.
"""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Literal

from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.engine.worker import STOP, Load
from minigpt_repl.errors import EngineError, MiniGPTError
from minigpt_repl.paths import state_home

Status = Literal["starting", "loading", "warming", "ready", "failed", "stopped"]
"""What the child is at; `stopped` if there is none, or it ended by itself."""

# Not `-m`: that would look for modules in the current folder first.
BOOT = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from minigpt_repl.engine.worker import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]))"
)
LOG_LIMIT = 1_000_000

STOPPED = "stop"
Reply = tuple[str, Any]
"""Kind and content; see `Worker`. `STOPPED` is put there by `stop()`."""


class Call:
    """One request on its way, and the replies to it that nobody took yet.

    `SimpleQueue` may be used in a signal handler, unlike a lock.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()


class Child:
    """A worker process, and the thread that sorts its replies by request."""

    def __init__(
        self, load: Load, log: IO[bytes] | int, on_change: Callable[[], None]
    ) -> None:
        self.status: Status = "starting"
        self.info: EngineInfo | None = None
        self.ending: MiniGPTError | None = None
        self._on_change = on_change
        self._calls: dict[int, Call] = {}
        self._last = 0  # numbers of requests, which are answered in order
        self._given_up = 0
        self._answered = 0
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        stop_ours, stop_theirs = socket.socketpair()
        with theirs, stop_theirs:
            descriptors = (theirs.fileno(), stop_theirs.fileno())
            self.process = subprocess.Popen(
                [sys.executable, "-c", BOOT, *map(str, descriptors), *sys.path],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # neither ^C nor a hang-up are for it
            )
        stop_ours.setblocking(False)
        self._stop_socket = stop_ours
        self._connection = Connection(ours.detach())
        self._connection.send(load)
        threading.Thread(target=self._sort_replies, daemon=True).start()

    @property
    def is_held_up(self) -> bool:
        """Whether it is still at work on something that was given up."""
        return self._given_up > self._answered

    def open(self, method: str, *arguments: Any) -> Call:
        """Send a request.

        Raises:
            MiniGPTError: why the process has ended.
        """
        with self._lock:
            if self.ending is not None:
                raise self.ending
            self._last += 1
            call = Call(self._last)
            self._calls[call.number] = call
            with contextlib.suppress(OSError):  # the sorting thread tells why
                self._connection.send((call.number, method, arguments))
        return call

    def close(self, call: Call, is_done: bool) -> None:
        """Take no more replies to a request; it is stopped unless it is done."""
        self._calls.pop(call.number, None)
        if not is_done and self.ending is None:
            self._given_up = call.number
            self._send_stop(call.number)

    def stop(self) -> None:
        """Stop every open request. Takes no lock: for signal handlers."""
        self._send_stop(self._last)
        for call in list(self._calls.values()):
            call.replies.put((STOPPED, None))

    def kill(self, why: MiniGPTError) -> None:
        """End the process now."""
        self._end(why)
        self.process.kill()
        self.process.wait()
        self._stop_socket.close()

    def _send_stop(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._stop_socket.send(STOP.pack(number))

    def _sort_replies(self) -> None:
        while True:
            try:
                number, kind, content = self._connection.recv()
            except Exception:  # noqa: BLE001, a torn message is an end as well
                break
            if number == 0:
                self._note_state(kind, content)
                continue
            if kind in ("result", "error"):
                self._answered = number
            call = self._calls.get(number)
            if call is not None:
                call.replies.put((kind, content))
        self._end(_why_ended(self.process.wait()))
        self._connection.close()

    def _note_state(self, kind: str, content: Any) -> None:
        if kind == "failed":
            self._end(content)
            return
        if kind == "loaded":
            self.info = content
        elif kind == "state":
            self.status = content
        self._on_change()

    def _end(self, why: MiniGPTError) -> None:
        with self._lock:
            if self.ending is not None:
                return
            self.ending = why
        self.status = "failed" if self.info is None else "stopped"
        for call in list(self._calls.values()):
            call.replies.put(("error", why))
        self._on_change()


def log_file() -> Path:
    """Where the child and TensorFlow write what they have to say."""
    return state_home() / "engine.log"


def open_log() -> IO[bytes] | int:
    path = log_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_long = path.exists() and path.stat().st_size > LOG_LIMIT
        how = os.O_TRUNC if is_long else os.O_APPEND
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600), "wb")
    except OSError:  # a log is a convenience
        return subprocess.DEVNULL


def _why_ended(exit_code: int) -> EngineError:
    how = f"exit code {exit_code}"
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            how = signal.Signals(-exit_code).name
    return EngineError(
        f"the engine's process ended ({how}), see {log_file()}; "
        "the next line starts another"
    )
