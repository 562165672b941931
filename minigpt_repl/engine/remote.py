"""The engine seen from the terminal's process: `RemoteEngine`.

Loading TensorFlow and compiling a graph can't be interrupted, so both happen in a
process of its own (`worker.py`), which can be stopped, abandoned, killed and started
anew. A call waits until the model is loaded, and `stop()` ends every wait.
"""

import contextlib
import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from minigpt_repl.engine.request import (
    Engine,
    EngineInfo,
    HypothesesChanged,
    Request,
    RowEvents,
    State,
    Status,
    TokenChosen,
)
from minigpt_repl.engine.worker import PREPARE, STOP, Load, Warming
from minigpt_repl.errors import EngineError, EngineStopped, MiniGPTError
from minigpt_repl.paths import PACKAGE, state_home

if TYPE_CHECKING:
    import numpy as np

FACTORY = "minigpt_repl.engine.worker:load_engine"
PATIENCE = 0.1
"""Seconds that stopped texts may still take to their first token."""

LOG_LIMIT = 1_000_000

# Not `-m`: that would look for modules in the current folder first.
BOOT = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from minigpt_repl.engine.worker import main; main(int(sys.argv[1]))"
)


class RemoteEngine(Engine):
    """An engine in a process of its own, which tells how it is without waiting.

    Args:
        directory: the checkpoint's folder.
        verify: whether its files must agree with its record.
        warm: what to prepare in the background.
        factory: import path `module:function` of what makes the engine in that
            process, of `directory` and `verify`.
        shows_log: whether its log lines go to stderr in place of the log.

    The process starts with `start()` or the first call, and again with the first
    call after it ended.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        verify: bool = True,
        warm: Sequence[Warming] = (),
        factory: str = FACTORY,
        shows_log: bool = False,
    ) -> None:
        self._load: Load = (str(directory), verify, tuple(warm), factory)
        self._shows_log = shows_log
        self._process: _Process | None = None
        self._is_closed = False
        self._on_change: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Start the process if there is none that runs; does not wait for it.

        Raises:
            EngineError: if the engine is closed or no process can be started.
        """
        self._started()

    def _started(self) -> "_Process":
        if self._is_closed:
            raise EngineError("the engine is closed")
        if self._process is None or self._process.status.failure is not None:
            self._process = _Process(
                self._load, self._shows_log, lambda: self._on_change()
            )
        return self._process

    @property
    def status(self) -> Status:
        return Status() if self._process is None else self._process.status

    def when_changed(self, call: Callable[[], None]) -> None:
        self._on_change = call

    @property
    def info(self) -> EngineInfo:
        info: EngineInfo = self.status.info or self._call("info")
        return info

    def generate_rows(self, requests: Sequence[Request]) -> RowEvents:
        """Events of several texts, as they happen.

        If a stop is not heard the texts are given up. If it was not heard before them
        either the process is killed and another started.

        Raises:
            EngineStopped: if `stop()` was called and no token came within `PATIENCE`,
                as while the model is loading.
        """
        process = self._started()
        was_stuck = process.status.info is not None and process.is_stuck
        patience: float | None = None
        has_token = False
        with process.asked("generate_rows", tuple(requests)) as replies:
            while True:
                try:
                    kind, content = replies.get(timeout=patience)
                except queue.Empty:
                    if was_stuck:
                        why = "the engine did not answer and is started anew"
                        process.kill(EngineError(why))
                        self._process = None
                        self.start()
                    raise process.stopped() from None
                if kind == "result":
                    return
                if kind == "error":
                    raise content
                if kind == STOP:
                    patience = None if has_token else PATIENCE
                    continue
                yield content
                if isinstance(content[1], (TokenChosen, HypothesesChanged)):
                    has_token, patience = True, None

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def encode(self, text: str) -> tuple[int, ...]:
        ids: tuple[int, ...] = self._call("encode", text)
        return ids

    def logits(self, token_ids: Sequence[int]) -> "np.ndarray":
        scores: np.ndarray = self._call("logits", tuple(token_ids))
        return scores

    def warm(self, request: Request, rows: int = 1) -> None:
        self._call("warm", request, rows)

    def prepare(self, request: Request) -> None:
        if self._process is not None:
            self._process.prepare(request)

    def close(self) -> None:
        self._is_closed = True
        if self._process is not None:
            self._process.kill(EngineError("the engine is closed"))

    def _call(self, method: str, *arguments: Any) -> Any:
        process = self._started()
        with process.asked(method, *arguments) as replies:
            kind, content = replies.get()
        if kind == STOP:
            raise process.stopped()
        if kind == "error":
            raise content
        return content


Replies = queue.SimpleQueue[tuple[str, Any]]
"""Kinds and contents of what came for a request and nobody took yet."""


class _Process:
    """A worker's process, a thread that sends to it, and one that sorts its replies.

    What `stop` uses is safe in a signal handler: `SimpleQueue`, and no lock.
    """

    def __init__(
        self, load: Load, shows_log: bool, on_change: Callable[[], None]
    ) -> None:
        self.status = Status("starting")
        self._on_change = on_change
        self._killed: MiniGPTError | None = None  # why, if it was
        self._open: dict[int, Replies] = {}  # what the worker has not answered yet
        self._numbers = itertools.count(1)  # of requests, which are answered in order
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outgoing.put(load)
        self._connection, theirs = Pipe()
        # Nothing is imported from the current folder, whatever lies there.
        places = [place for place in sys.path if place] + [str(PACKAGE.parent)]
        with theirs, _open_log(shows_log) as log:
            try:
                self._popen = subprocess.Popen(
                    [sys.executable, "-P", "-c", BOOT, str(theirs.fileno()), *places],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # neither ^C nor a hang-up are for it
                )
            except OSError as error:
                why = f"can't start the engine's process: {error.strerror}"
                raise EngineError(why) from error
        for work in (self._send, self._receive):
            threading.Thread(target=work, daemon=True).start()

    @property
    def is_stuck(self) -> bool:
        """Whether a request would have to wait for something else."""
        status = self.status
        return status.failure is None and (status.info is None or bool(self._open))

    @contextlib.contextmanager
    def asked(self, method: str, *arguments: Any) -> Iterator[Replies]:
        """Send a request, and take replies to it; one left before its end is stopped.

        Raises:
            MiniGPTError: why the process has ended.
        """
        replies: Replies = queue.SimpleQueue()
        number = next(self._numbers)
        self._open[number] = replies
        # Only now: if it ends later the reply is an error.
        if self.status.failure is not None:
            raise self.status.failure
        self._outgoing.put((number, method, arguments))
        try:
            yield replies
        finally:
            if number in self._open:
                self._outgoing.put((number, STOP, ()))

    def prepare(self, request: Request) -> None:
        """Have something done that needs no answer."""
        self._outgoing.put((0, PREPARE, (request, 1)))

    def stop(self) -> None:
        """Stop every open request."""
        for number, replies in list(self._open.items()):
            self._outgoing.put((number, STOP, ()))
            replies.put((STOP, None))

    def stopped(self) -> EngineStopped:
        """What to raise where a stop ended a wait."""
        if self.status.info is None:
            return EngineStopped("stopped: the model is still loading")
        return EngineStopped()

    def kill(self, why: MiniGPTError) -> None:
        """End the process now."""
        self._killed = why
        self._popen.kill()
        self._popen.wait()

    def _send(self) -> None:
        with contextlib.suppress(OSError):  # the other thread tells why
            while (message := self._outgoing.get()) is not None:
                self._connection.send(message)

    def _receive(self) -> None:
        why: MiniGPTError | None = None
        with contextlib.suppress(EOFError, OSError):  # maybe within a message
            while why is None:
                number, kind, content = self._connection.recv()
                if kind == "event":
                    self._open[number].put((kind, content))
                elif number:
                    self._open.pop(number).put((kind, content))
                elif kind == "failure":
                    why = content
                else:
                    self.status = replace(self.status, **{kind: content})
                    self._on_change()
        self._end(why or self._killed or _why_ended(self._popen.wait()))
        self._popen.wait()

    def _end(self, why: MiniGPTError) -> None:
        state: State = "failed" if self.status.info is None else "stopped"
        self.status = replace(self.status, state=state, failure=why)
        self._outgoing.put(None)
        for replies in list(self._open.values()):
            replies.put(("error", why))
        self._on_change()


def log_file() -> Path:
    """Where the engine's process and TensorFlow write what they have to say."""
    return state_home() / "engine.log"


def _open_log(is_stderr: bool) -> BinaryIO:
    """The log, or stderr, to write to."""
    if is_stderr:
        return os.fdopen(os.dup(2), "wb")
    path = log_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        return path.open("wb" if path.stat().st_size > LOG_LIMIT else "ab")
    except OSError:  # a full disk or a folder in the way must not matter
        return open(os.devnull, "wb")


def _why_ended(exit_code: int) -> EngineError:
    is_signal = exit_code < 0
    how = signal.Signals(-exit_code).name if is_signal else f"exit code {exit_code}"
    return EngineError(
        f"the engine's process ended ({how}), see {log_file()}; "
        "the next line starts another"
    )
