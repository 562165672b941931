"""The engine seen from the terminal's process: `RemoteEngine`.

Loading TensorFlow and compiling a graph can't be interrupted, so both happen in a
process of its own (`worker.py`), which can be stopped, abandoned, killed and started
anew. A call waits until the model is loaded, and `stop()` ends every wait.
"""

import contextlib
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
    Finished,
    Generation,
    HypothesesChanged,
    Request,
    RowEvents,
    Started,
    State,
    Status,
    Timings,
    TokenChosen,
)
from minigpt_repl.engine.worker import STOP, Load, Warming
from minigpt_repl.errors import EngineError, EngineStopped, MiniGPTError
from minigpt_repl.paths import PACKAGE, state_home

if TYPE_CHECKING:
    import numpy as np

FACTORY = "minigpt_repl.engine.worker:load_engine"
PATIENCE = 0.1
"""Seconds that a stopped request may still take to its first token."""

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
            try:
                self._process = _Process(
                    self._load, self._shows_log, lambda: self._on_change()
                )
            except OSError as error:
                raise EngineError(
                    f"can't start the engine's process: {error.strerror}"
                ) from error
        return self._process

    @property
    def status(self) -> Status:
        """How the process is; never waits."""
        return Status() if self._process is None else self._process.status

    def when_changed(self, call: Callable[[], None]) -> None:
        """Have that called, from another thread, whenever the status changes."""
        self._on_change = call

    @property
    def info(self) -> EngineInfo:
        """What is loaded; waits until it is."""
        info: EngineInfo = self.status.info or self._call("info")
        return info

    def generate_rows(self, requests: Sequence[Request]) -> RowEvents:
        """Events of several texts, as they happen.

        Raises:
            EngineStopped: if `stop()` was called and the texts had not begun
                within `PATIENCE`, as while the model is loading.
        """
        process = self._started()
        was_held_up = process.is_held_up
        open_rows: dict[int, Started] = {}
        patience: float | None = None
        has_token = False
        with process.asked("generate_rows", tuple(requests)) as replies:
            while True:
                try:
                    kind, content = replies.get(timeout=patience)
                except queue.Empty:
                    if was_held_up:  # it has not answered twice: start another
                        why = "the engine did not answer and is started anew"
                        process.kill(EngineError(why))
                        self.start()
                    info = process.status.info
                    if info is None or not open_rows:
                        raise _stopped(process) from None
                    for row, started in open_rows.items():
                        yield row, Finished(_nothing(requests[row], started, info))
                    return
                if kind == STOP:
                    patience = None if has_token else PATIENCE
                    continue
                if kind == "error":
                    raise content
                if kind == "result":
                    return
                row, event = content
                if isinstance(event, Started):
                    open_rows[row] = event
                elif isinstance(event, Finished):
                    del open_rows[row]
                    has_token = bool(open_rows)  # the next batch may be compiling
                elif isinstance(event, (TokenChosen, HypothesesChanged)):
                    has_token, patience = True, None
                yield row, event

    def stop(self) -> None:
        """End all that is under way; may be called from a signal handler."""
        if self._process is not None:
            self._process.stop()

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, without the start token."""
        ids: tuple[int, ...] = self._call("encode", text)
        return ids

    def logits(self, token_ids: Sequence[int]) -> "np.ndarray":
        """Scores of the next token after each of `token_ids`; see `Engine`."""
        scores: np.ndarray = self._call("logits", tuple(token_ids))
        return scores

    def warm(self, request: Request, rows: int = 1) -> None:
        """Trace and compile now what so many such texts need."""
        self._call("warm", request, rows)

    def prepare(self, request: Request) -> None:
        """Have that done when nothing else is to do; does not wait."""
        if self._process is not None:
            self._process.tell("prepare", request)

    def close(self) -> None:
        """End the process."""
        self._is_closed = True
        if self._process is not None:
            self._process.kill(EngineError("the engine is closed"))

    def _call(self, method: str, *arguments: Any) -> Any:
        process = self._started()
        with process.asked(method, *arguments) as replies:
            kind, content = replies.get()
        if kind == STOP:
            raise _stopped(process)
        if kind == "error":
            raise content
        return content


Replies = queue.SimpleQueue[tuple[str, Any]]
"""Kinds and contents of what came for a request and nobody took yet."""


class _Process:
    """A worker's process, and the threads that send to it and sort its replies.

    What `stop` uses is safe in a signal handler: `SimpleQueue`, and no lock.
    """

    def __init__(
        self, load: Load, shows_log: bool, on_change: Callable[[], None]
    ) -> None:
        self._status = Status("starting")
        self._on_change = on_change
        self._calls: dict[int, Replies] = {}
        self._last = 0  # numbers of requests, which are answered in order
        self._given_up = 0
        self._answered = 0
        self._lock = threading.Lock()
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outgoing.put(load)
        self._connection, theirs = Pipe()
        # Nothing is imported from the current folder, whatever lies there.
        places = [place for place in sys.path if place] + [str(PACKAGE.parent)]
        with theirs, _open_log(shows_log) as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-c", BOOT, str(theirs.fileno()), *places],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # neither ^C nor a hang-up are for it
            )
        for work in (self._send, self._receive):
            threading.Thread(target=work, daemon=True).start()

    @property
    def is_held_up(self) -> bool:
        """Whether it is still at work on something that was given up."""
        return self._given_up > self._answered

    @property
    def status(self) -> Status:
        status = self._status
        is_waited_for = status.info is None or self.is_held_up
        return replace(status, is_stuck=status.failure is None and is_waited_for)

    @contextlib.contextmanager
    def asked(self, method: str, *arguments: Any) -> Iterator[Replies]:
        """Send a request, and take replies to it; one left before its end is stopped.

        Raises:
            MiniGPTError: why the process has ended.
        """
        replies: Replies = queue.SimpleQueue()
        with self._lock:
            if self._status.failure is not None:
                raise self._status.failure
            self._last = number = self._last + 1
            self._calls[number] = replies
            self._outgoing.put((number, method, arguments))
        try:
            yield replies
        finally:
            del self._calls[number]
            if self._answered < number and self._status.failure is None:
                self._given_up = number
                self._outgoing.put((number, STOP, ()))

    def tell(self, method: str, *arguments: Any) -> None:
        """Send what needs no answer."""
        self._outgoing.put((0, method, arguments))

    def stop(self) -> None:
        """Stop every open request."""
        self._outgoing.put((self._last, STOP, ()))
        for replies in list(self._calls.values()):
            replies.put((STOP, None))

    def kill(self, why: MiniGPTError) -> None:
        """End the process now."""
        self._end(why)
        self._popen.kill()
        self._popen.wait()

    def _send(self) -> None:
        with contextlib.suppress(OSError):  # the other thread tells why
            while (message := self._outgoing.get()) is not None:
                self._connection.send(message)

    def _receive(self) -> None:
        while True:
            try:
                number, kind, content = self._connection.recv()
            except Exception:  # noqa: BLE001, a torn message is an end as well
                break
            if number == 0:
                self._note(kind, content)
                continue
            if kind in ("result", "error"):
                self._answered = number
            if number in self._calls:
                self._calls[number].put((kind, content))
        self._end(_why_ended(self._popen.wait()))

    def _note(self, kind: str, content: Any) -> None:
        """What the worker says of itself."""
        if kind == "failed":
            self._end(content)
            return
        with self._lock:
            if self._status.failure is None:
                key = "info" if kind == "loaded" else "state"
                self._status = replace(self._status, **{key: content})
        self._on_change()

    def _end(self, why: MiniGPTError) -> None:
        with self._lock:
            if self._status.failure is not None:
                return
            state: State = "failed" if self._status.info is None else "stopped"
            self._status = replace(self._status, state=state, failure=why)
        self._outgoing.put(None)
        for replies in list(self._calls.values()):
            replies.put(("error", why))
        self._on_change()


def log_file() -> Path:
    """Where the engine's process and TensorFlow write what they have to say."""
    return state_home() / "engine.log"


def _open_log(is_stderr: bool) -> BinaryIO:
    """The log, or stderr, to write to."""
    path = log_file()
    # A log is a convenience: a full disk or a folder in the way must not matter.
    with contextlib.suppress(OSError):
        if is_stderr:
            return os.fdopen(os.dup(2), "wb")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_long = path.exists() and path.stat().st_size > LOG_LIMIT
        how = os.O_TRUNC if is_long else os.O_APPEND
        # What is no file must not keep us waiting either.
        how |= os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK
        return os.fdopen(os.open(path, how, 0o600), "wb")
    return open(os.devnull, "wb")


def _why_ended(exit_code: int) -> EngineError:
    how = f"exit code {exit_code}"
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            how = signal.Signals(-exit_code).name
    return EngineError(
        f"the engine's process ended ({how}), see {log_file()}; "
        "the next line starts another"
    )


def _nothing(request: Request, started: Started, info: EngineInfo) -> Generation:
    """A text that was stopped before its first token."""
    return Generation(
        request=replace(request, seed=started.seed),
        started=started,
        tokens=(),
        text="",
        raw_text="",
        stop_reason="interrupted",
        timings=Timings(0.0, 0.0, 0.0),
        checkpoint_sha256=info.checkpoint_sha256,
    )


def _stopped(process: _Process) -> EngineStopped:
    if process.status.info is None:
        return EngineStopped("stopped: the model is still loading")
    return EngineStopped()
