"""The engine seen from the terminal's process: `RemoteEngine`.

Loading TensorFlow and compiling a graph can't be interrupted, so both happen in a
child process (`child.py`, `worker.py`), which can be stopped, abandoned, killed and
started anew. Here there is no TensorFlow. A call waits until the model is loaded,
and `stop()` ends every wait.
"""

import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt_repl.engine.child import STOPPED, Child, Status, open_log
from minigpt_repl.engine.request import (
    EngineInfo,
    Event,
    Finished,
    Generation,
    HypothesesChanged,
    Request,
    Started,
    Timings,
    TokenChosen,
)
from minigpt_repl.engine.worker import Load
from minigpt_repl.errors import EngineError, EngineStopped, MiniGPTError
from minigpt_repl.sampling.parameters import Value

if TYPE_CHECKING:
    import numpy as np

FACTORY = "minigpt_repl.engine.engine:load_engine"
PATIENCE = 0.1
"""Seconds that a stopped request may still take to its first token."""


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
        self._child: Child | None = None
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
            EngineStopped: if `stop()` was called and the text had not begun
                within `PATIENCE`, as while the model is loading.
        """
        child = self._running_child()
        was_held_up = child.is_held_up
        call = child.open("generate", request)
        is_done = has_token = False
        started: Started | None = None
        patience: float | None = None
        try:
            while True:
                try:
                    kind, content = call.replies.get(timeout=patience)
                except queue.Empty:
                    if was_held_up:  # it has not answered twice: start another
                        self._restart(child)
                    if started is None:
                        raise _stopped(child) from None
                    yield Finished(_nothing(request, started))
                    return
                if kind == STOPPED:
                    patience = None if has_token else PATIENCE
                    continue
                is_done = kind in ("result", "error")
                if kind == "error":
                    raise content
                if is_done:
                    return
                if isinstance(content, Started):
                    started = content
                elif isinstance(content, (TokenChosen, HypothesesChanged)):
                    has_token, patience = True, None
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
            is_done = kind != STOPPED
        finally:
            child.close(call, is_done)
        if kind == STOPPED:
            raise _stopped(child)
        if kind == "error":
            raise content
        return content

    def _running_child(self) -> Child:
        if self._is_closed:
            raise EngineError("the engine is closed")
        if self._child is None or self._child.ending is not None:
            self._child = self._start_child()
        return self._child

    def _start_child(self) -> Child:
        log = open_log()
        try:
            return Child(self._load, log, lambda: self.on_change())
        except OSError as error:
            raise EngineError(
                f"can't start the engine's process: {error.strerror}"
            ) from error
        finally:
            if not isinstance(log, int):
                log.close()

    def _restart(self, child: Child) -> None:
        child.kill(EngineError("the engine did not answer and is started anew"))
        self._child = self._start_child()


def _nothing(request: Request, started: Started) -> Generation:
    """A text that was stopped before its first token."""
    return Generation(
        request=replace(request, seed=started.seed),
        started=started,
        tokens=(),
        text="",
        raw_text="",
        stop_reason="interrupted",
        timings=Timings(0.0, 0.0, 0.0),
    )


def _stopped(child: Child) -> EngineStopped:
    if child.info is None:
        return EngineStopped("stopped: the model is still loading")
    return EngineStopped("stopped before the first token")
