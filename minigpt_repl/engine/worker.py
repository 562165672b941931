"""The engine's own process: loads a checkpoint, answers requests, warms samplers.

`remote.py` starts it and talks to it over two sockets: one carries requests,
replies and events as pickled values, the other only the number of the request up
to which all is to be stopped. The second is read by a thread of its own, so that a
stop is heard while the engine computes. The process ends when its parent does.
Knows no terminal: what it and TensorFlow write goes to the engine's log.
"""

import os
import queue
import signal
import struct
import threading
import traceback
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from minigpt_repl.engine.request import Engine, Request
from minigpt_repl.errors import EngineError, EngineStopped, MiniGPTError
from minigpt_repl.sampling.parameters import Value

STOP = struct.Struct("!q")
"""What goes over the second socket."""

IDLE = 1.0
"""Seconds without a request until warming goes on: it would keep the next waiting."""

METHODS = ("encode", "info", "logits", "warm")
"""What can be asked for beside `generate`."""


@dataclass(frozen=True)
class Load:
    """The first message: what to load and what to prepare.

    Attributes:
        directory: the checkpoint's folder.
        verify: whether its files must agree with its record.
        warm: samplers and parameters to trace while nothing else is asked.
        factory: import path `module:function` of what makes an engine of
            `directory` and `verify`.
    """

    directory: str
    verify: bool
    warm: tuple[tuple[str, Mapping[str, Value]], ...]
    factory: str


class Worker:
    """Answers one parent.

    Replies are `(number of the request, kind, content)` with the kinds `event`,
    `result` and `error`; number 0 is the process's own state: `state`, `loaded`,
    `failed`.
    """

    def __init__(self, connection: Connection, stop_descriptor: int) -> None:
        self._connection = connection
        self._stop_descriptor = stop_descriptor
        self._requests: queue.SimpleQueue[tuple[int, str, tuple[Any, ...]]]
        self._requests = queue.SimpleQueue()
        self._engine: Engine | None = None
        self._stopped_until = 0
        self._current = 0

    def run(self) -> None:
        """Load, then answer until the parent hangs up."""
        load: Load = self._connection.recv()
        for listen in (self._hear_requests, self._hear_stops):
            threading.Thread(target=listen, daemon=True).start()
        self._send(0, "state", "loading")
        try:
            self._engine = _make_engine(load)
            info = self._engine.info
        except MiniGPTError as error:
            self._send(0, "failed", error)
            return
        except Exception as error:  # noqa: BLE001, a defect: reported, with a trace
            self._send(0, "failed", _as_engine_error(error))
            return
        self._send(0, "loaded", info)
        self._serve(self._engine, deque(load.warm))

    def _serve(self, engine: Engine, to_warm: deque[tuple[str, Any]]) -> None:
        self._send(0, "state", "warming" if to_warm else "ready")
        pause = 0.0
        while True:
            try:
                request = self._requests.get(timeout=pause if to_warm else None)
                number, method, arguments = request
                pause = IDLE
            except queue.Empty:
                pause = 0.0
                _warm(engine, *to_warm.popleft())
                if not to_warm:
                    self._send(0, "state", "ready")
                continue
            try:
                self._answer(engine, number, method, arguments)
            except MiniGPTError as error:
                self._send(number, "error", error)
            except Exception as error:  # noqa: BLE001, as above
                self._send(number, "error", _as_engine_error(error))

    def _answer(
        self, engine: Engine, number: int, method: str, arguments: tuple[Any, ...]
    ) -> None:
        if number <= self._stopped_until:
            raise EngineStopped("stopped before the first token")
        if method == "generate":
            self._stream(engine, number, *arguments)
        elif method == "info":
            self._send(number, "result", engine.info)
        elif method in METHODS:
            self._send(number, "result", getattr(engine, method)(*arguments))
        else:
            raise EngineError(f"the engine's process knows no {method!r}")

    def _stream(self, engine: Engine, number: int, request: Request) -> None:
        self._current = number
        try:
            for event in engine.generate(request):
                self._send(number, "event", event)
                # A stop that came before the engine took up the request is
                # forgotten by it; say it again.
                if number <= self._stopped_until:
                    engine.stop()
        finally:
            self._current = 0
        self._send(number, "result", None)

    def _hear_requests(self) -> None:
        while True:
            try:
                self._requests.put(self._connection.recv())
            except (EOFError, OSError):
                os._exit(0)

    def _hear_stops(self) -> None:
        while True:
            message = os.read(self._stop_descriptor, STOP.size)
            if len(message) < STOP.size:
                os._exit(0)
            (self._stopped_until,) = STOP.unpack(message)
            if self._engine is not None and 0 < self._current <= self._stopped_until:
                self._engine.stop()

    def _send(self, number: int, kind: str, content: Any) -> None:
        try:
            self._connection.send((number, kind, content))
        except OSError:  # the parent has gone
            os._exit(0)


def _make_engine(load: Load) -> Engine:
    module, _, name = load.factory.partition(":")
    engine: Engine = getattr(import_module(module), name)(load.directory, load.verify)
    return engine


def _warm(engine: Engine, sampler: str, parameters: Mapping[str, Value]) -> None:
    # Warming is a favour: what can't be warmed fails, and says so, when asked for.
    try:
        engine.warm(sampler, parameters)
    except Exception:  # noqa: BLE001
        traceback.print_exc()


def _as_engine_error(error: Exception) -> EngineError:
    """A defect of ours as one line; the trace goes to the engine's log."""
    traceback.print_exception(error)
    line = (str(error).strip() or "no message").splitlines()[0]
    return EngineError(f"the engine failed: {type(error).__name__}: {line[:200]}")


def main(connection_descriptor: int, stop_descriptor: int) -> None:
    """Run in a process that `remote.py` started, with its two sockets."""
    # The parent says when to stop; a ^C in its terminal is not for this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    Worker(Connection(connection_descriptor), stop_descriptor).run()
