"""The engine's own process: loads a checkpoint, answers requests, warms samplers.

`remote.py` starts it and talks to it over one connection. It reads that in a thread of
its own, so that a stop is heard while the engine computes, and warms samplers in
another, so that no text waits for one. The process ends when its parent does. What it
and TensorFlow write goes to the engine's log; a program that loads TensorFlow into its
own process keeps what that writes out of the terminal with `quiet`.
"""

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from minigpt_repl.engine.request import Engine, Request
from minigpt_repl.errors import EngineError, EngineStopped, MiniGPTError
from minigpt_repl.models.record import check_checkpoint
from minigpt_repl.shown import defect

PREPARE = "prepare"
STOP = "stop"
"""In place of a method: everything up to that request's number is to be stopped."""

Warming = tuple[Request, int]
"""What `Engine.warm` takes: a text, and how many of them together."""

Load = tuple[str, bool, tuple[Warming, ...], str]
"""The first message: directory, verify, warm and factory of a `RemoteEngine`."""


class Worker:
    """Answers one parent.

    Messages are `(number of the request, method, arguments)`. Replies are `(number,
    kind, content)` with the kinds `event`, `result` and `error`; number 0 is the
    process's own: its `state`, its `info` when it has loaded, or its `failure`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._requests: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()
        self._to_warm: queue.LifoQueue[Warming] = queue.LifoQueue()
        self._engine: Engine | None = None
        self._stopped_until = 0

    def run(self) -> None:
        """Load, then answer until the parent hangs up."""
        load: Load = self._connection.recv()
        directory, verify, to_warm, factory = load
        threading.Thread(target=self._listen, daemon=True).start()
        self._send(0, "state", "loading")
        module, _, name = factory.partition(":")
        try:
            make = getattr(import_module(module), name)
            self._engine = engine = make(directory, verify)
            self._send(0, "info", engine.info)
        except Exception as error:  # noqa: BLE001, also a defect is reported
            self._send(0, "failure", _as_our_error(error))
            return
        for warming in reversed(to_warm):
            self._to_warm.put(warming)
        threading.Thread(target=self._warm, args=[engine], daemon=True).start()
        while True:
            number, method, arguments = self._requests.get()
            try:
                result = self._answer(engine, number, method, arguments)
                self._send(number, "result", result)
            except Exception as error:  # noqa: BLE001, as above
                self._send(number, "error", _as_our_error(error))

    def _answer(self, engine: Engine, number: int, method: str, arguments: Any) -> Any:
        if number <= self._stopped_until:
            raise EngineStopped()
        if method == "info":
            return engine.info
        if method != "generate_rows":
            return getattr(engine, method)(*arguments)
        for event in engine.generate_rows(*arguments):
            self._send(number, "event", event)
            # A stop that came before the engine took up the request is forgotten by
            # it; say it again.
            if number <= self._stopped_until:
                engine.stop()
        return None

    def _warm(self, engine: Engine) -> None:
        """Prepare samplers for good, the one that was named last first."""
        while True:
            if self._to_warm.empty():
                self._send(0, "state", "ready")
            warming = self._to_warm.get()
            self._send(0, "state", "warming")
            # A favour: what can't be warmed fails, and says so, when asked for.
            try:
                engine.warm(*warming)
            except Exception:  # noqa: BLE001
                traceback.print_exc()

    def _listen(self) -> None:
        while True:
            try:
                number, method, arguments = self._connection.recv()
            except (EOFError, OSError):  # the parent has gone
                os._exit(0)
            if method == PREPARE:
                self._to_warm.put(arguments)
            elif method != STOP:
                self._requests.put((number, method, arguments))
            else:
                self._stopped_until = number
                if self._engine is not None:
                    self._engine.stop()

    def _send(self, number: int, kind: str, content: Any) -> None:
        with self._sending, contextlib.suppress(OSError):  # `_listen` ends all
            self._connection.send((number, kind, content))


def load_engine(directory: str | Path, verify: bool = True) -> Engine:
    """An engine in this process, of a checkpoint's folder.

    Raises:
        CheckpointError: if it is missing, damaged or of another kind.
    """
    # Before the seconds that importing TensorFlow takes.
    check_checkpoint(Path(directory), verify)
    from minigpt_repl.engine.engine import LocalEngine
    from minigpt_repl.models.checkpoint import load_checkpoint

    clock = time.perf_counter()
    checkpoint = load_checkpoint(Path(directory), verify)
    return LocalEngine(checkpoint, time.perf_counter() - clock)


def _as_our_error(error: Exception) -> MiniGPTError:
    """A defect of ours as one line; the trace goes to the engine's log."""
    if isinstance(error, MiniGPTError):
        return error
    traceback.print_exception(error)
    return EngineError(f"the engine failed: {defect(error)}")


def main(descriptor: int) -> None:
    """Run in a process that `remote.py` started, with its end of the connection."""
    # The parent says when to stop; a ^C in its terminal is not for this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    Worker(Connection(descriptor)).run()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what C code writes to descriptor 2, and warnings that nobody asked for.

    TensorFlow, absl and XLA write some lines there that no environment variable
    silences. Python's `sys.stderr` goes on writing to the real one: what this program
    says is never lost. Both are as before when the context ends.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    stderr = sys.stderr
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        with open(kept, "w", 1, stderr.encoding, stderr.errors, closefd=False) as ours:
            # What a test or a notebook has put in its place writes elsewhere already.
            is_real = stderr is sys.__stderr__
            with (
                contextlib.redirect_stderr(ours if is_real else stderr),
                warnings.catch_warnings(),
            ):
                if not sys.warnoptions:
                    warnings.simplefilter("ignore")
                yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
