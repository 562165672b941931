"""The engine seen from the terminal's process: `RemoteEngine`.

Loading TensorFlow and compiling a graph can't be interrupted, so both happen in a
child process (`worker.py`), which can be stopped, abandoned, killed and started
anew. Here there is no TensorFlow. A call waits until the model is loaded, and
`stop()` ends every wait.
"""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from minigpt_repl.decoding.parameters import Value
from minigpt_repl.decoding.request import (
    EngineInfo,
    Event,
    HypothesesChanged,
    Request,
    TokenChosen,
)
from minigpt_repl.decoding.worker import STOP, Load
from minigpt_repl.errors import EngineError, MiniGPTError
from minigpt_repl.paths import state_home

if TYPE_CHECKING:
    import numpy as np

Status = Literal["starting", "loading", "warming", "ready", "failed", "stopped"]
"""What the child is at; `stopped` if there is none, or it ended by itself."""

FACTORY = "minigpt_repl.decoding.engine:load_engine"
# Not `-m`: that would look for modules in the current folder first.
BOOT = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from minigpt_repl.decoding.worker import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]))"
)
PATIENCE = 0.1
"""Seconds that a stopped request may still take to its first token."""

LOG_LIMIT = 1_000_000


_STOP = "stop"
Reply = tuple[str, Any]
"""Kind and content; see `Worker`. `_STOP` is put there by `stop()`."""


class _Call:
    """One request on its way, and the replies to it that nobody took yet.

    `SimpleQueue` may be used in a signal handler, unlike a lock.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()


class _Child:
    """A worker process, and the thread that sorts its replies by request."""

    def __init__(
        self, load: Load, log: IO[bytes] | int, on_change: Callable[[], None]
    ) -> None:
        self.status: Status = "starting"
        self.info: EngineInfo | None = None
        self.ending: MiniGPTError | None = None
        self._on_change = on_change
        self._calls: dict[int, _Call] = {}
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

    def open(self, method: str, *arguments: Any) -> _Call:
        """Send a request.

        Raises:
            MiniGPTError: why the process has ended.
        """
        with self._lock:
            if self.ending is not None:
                raise self.ending
            self._last += 1
            call = _Call(self._last)
            self._calls[call.number] = call
            with contextlib.suppress(OSError):  # the sorting thread tells why
                self._connection.send((call.number, method, arguments))
        return call

    def close(self, call: _Call, is_done: bool) -> None:
        """Take no more replies to a request; it is stopped unless it is done."""
        self._calls.pop(call.number, None)
        if not is_done and self.ending is None:
            self._given_up = call.number
            self._send_stop(call.number)

    def stop(self) -> None:
        """Stop every open request. Takes no lock: for signal handlers."""
        self._send_stop(self._last)
        for call in list(self._calls.values()):
            call.replies.put((_STOP, None))

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


class RemoteEngine:
    """An engine in a child process; implements `request.Engine`.

    Args:
        directory: the checkpoint's folder.
        verify: whether its files must agree with its record.
        warm: samplers and parameters to prepare in the background.
        factory: import path of what makes the engine in the child.
        on_change: called, from another thread, whenever `status` changes.

    The child starts with `start()` or the first call, and again with the first
    call after it ended.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        verify: bool = True,
        warm: Sequence[tuple[str, Mapping[str, Value]]] = (),
        factory: str = FACTORY,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._load = Load(str(directory), verify, tuple(warm), factory)
        self._child: _Child | None = None
        self._is_closed = False
        self.on_change = on_change

    def start(self) -> None:
        """Start the child, if there is none, and do not wait for it.

        Raises:
            EngineError: if the engine is closed or no process can be started.
        """
        self._running_child()

    @property
    def status(self) -> Status:
        """What the child is at; never waits."""
        return "stopped" if self._child is None else self._child.status

    @property
    def failure(self) -> MiniGPTError | None:
        """Why the child ended, if it did; never waits."""
        return None if self._child is None else self._child.ending

    @property
    def is_stuck(self) -> bool:
        """Whether a request would have to wait for something else; never waits."""
        child = self._child
        if child is None or child.ending is not None:
            return False
        return child.info is None or child.is_held_up

    @property
    def loaded(self) -> EngineInfo | None:
        """What is loaded, or `None`; never waits."""
        return None if self._child is None else self._child.info

    @property
    def info(self) -> EngineInfo:
        """What is loaded; waits until it is."""
        info: EngineInfo = self.loaded or self._call("info")
        return info

    def generate(self, request: Request) -> Iterator[Event]:
        """Events of one text, as they happen.

        Raises:
            EngineError: also if `stop()` was called and no token came within
                `PATIENCE`, as while the model is loading or compiling.
        """
        child = self._running_child()
        was_held_up = child.is_held_up
        call = child.open("generate", request)
        is_done = has_begun = False
        patience: float | None = None
        try:
            while True:
                try:
                    kind, content = call.replies.get(timeout=patience)
                except queue.Empty:
                    if was_held_up:  # it has not answered twice: start another
                        self._restart(child)
                    raise _stopped(child) from None
                if kind == _STOP:
                    patience = None if has_begun else PATIENCE
                    continue
                is_done = kind in ("result", "error")
                if kind == "error":
                    raise content
                if is_done:
                    return
                if isinstance(content, (TokenChosen, HypothesesChanged)):
                    has_begun, patience = True, None
                yield content
        finally:
            child.close(call, is_done)

    def stop(self) -> None:
        """End all that is under way; may be called from a signal handler."""
        if self._child is not None:
            self._child.stop()

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, without `[BOS]`."""
        ids: tuple[int, ...] = self._call("encode", text)
        return ids

    def logits(self, token_ids: Sequence[int]) -> "np.ndarray":
        """Scores of the next token after each of `token_ids`; see `Engine`."""
        scores: np.ndarray = self._call("logits", tuple(token_ids))
        return scores

    def warm(self, sampler: str, parameters: Mapping[str, Value]) -> None:
        """Trace and compile one sampler now."""
        self._call("warm", sampler, dict(parameters))

    def close(self) -> None:
        """End the child."""
        self._is_closed = True
        if self._child is not None:
            self._child.kill(EngineError("the engine is closed"))

    def _call(self, method: str, *arguments: Any) -> Any:
        child = self._running_child()
        call = child.open(method, *arguments)
        is_done = False
        try:
            kind, content = call.replies.get()
            is_done = kind != _STOP
        finally:
            child.close(call, is_done)
        if kind == _STOP:
            raise _stopped(child)
        if kind == "error":
            raise content
        return content

    def _running_child(self) -> _Child:
        if self._is_closed:
            raise EngineError("the engine is closed")
        if self._child is None or self._child.ending is not None:
            self._child = self._start_child()
        return self._child

    def _start_child(self) -> _Child:
        log = _open_log()
        try:
            return _Child(self._load, log, lambda: self.on_change())
        except OSError as error:
            raise EngineError(
                f"can't start the engine's process: {error.strerror}"
            ) from error
        finally:
            if not isinstance(log, int):
                log.close()

    def _restart(self, child: _Child) -> None:
        child.kill(EngineError("the engine did not answer and is started anew"))
        self._child = self._start_child()


def log_file() -> Path:
    """Where the child and TensorFlow write what they have to say."""
    return state_home() / "engine.log"


def _open_log() -> IO[bytes] | int:
    path = log_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_long = path.exists() and path.stat().st_size > LOG_LIMIT
        how = os.O_TRUNC if is_long else os.O_APPEND
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600), "wb")
    except OSError:  # a log is a convenience
        return subprocess.DEVNULL


def _stopped(child: _Child) -> EngineError:
    if child.info is None:
        return EngineError("stopped: the model is still loading")
    return EngineError("stopped before the first token")


def _why_ended(exit_code: int) -> EngineError:
    how = f"exit code {exit_code}"
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            how = signal.Signals(-exit_code).name
    return EngineError(
        f"the engine's process ended ({how}), see {log_file()}; "
        "the next line starts another"
    )
