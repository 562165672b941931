"""An engine that is made when it is first needed.

A shell command that shows help or refuses a setting need not load a model. Other
code may watch the events as they pass, and everything asked of the engine is
asked of the one inside. Knows no terminal.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from minigpt_repl.engine.request import Engine, EngineInfo, Event, Request
from minigpt_repl.errors import EngineError
from minigpt_repl.sampling.parameters import Value

if TYPE_CHECKING:
    import numpy as np


class LazyEngine:
    """Implements `Engine` by one that `open_engine` makes on first use.

    Args:
        open_engine: makes the engine; what it raises is raised to the caller of
            whatever needed the engine, every time.
        watch: gets every event of every generation before the caller does. With
            it each token carries its score, whether the caller asked or not.

    Attributes:
        is_generating: whether a text is being made right now.
    """

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        watch: Callable[[Event], None] | None = None,
    ) -> None:
        self._open_engine = open_engine
        self._watch = watch
        self._engine: Engine | None = None
        self._is_closed = False
        self._warmed: set[str] = set()
        self.is_generating = False

    @property
    def info(self) -> EngineInfo:
        return self._ready().info

    def generate(self, request: Request) -> Iterator[Event]:
        if self._watch is not None:
            request = replace(request, with_scores=True)
        engine = self._ready()
        if request.sampler not in self._warmed:
            # So that the figures of a text tell of the text, not of a compile; and
            # ^C is heard at once, as while the model is loaded.
            engine.warm(request.sampler, request.parameters)
            self._warmed.add(request.sampler)
        self.is_generating = True
        try:
            for event in engine.generate(request):
                if self._watch is not None:
                    self._watch(event)
                yield event
        finally:
            self.is_generating = False

    def stop(self) -> None:
        if self._engine is not None:
            self._engine.stop()

    def encode(self, text: str) -> tuple[int, ...]:
        return self._ready().encode(text)

    def logits(self, token_ids: Sequence[int]) -> "np.ndarray":
        return self._ready().logits(token_ids)

    def warm(self, sampler: str, parameters: Mapping[str, Value]) -> None:
        self._ready().warm(sampler, parameters)

    def close(self) -> None:
        self._is_closed = True
        if self._engine is not None:
            self._engine.close()

    def _ready(self) -> Engine:
        if self._is_closed:
            raise EngineError("the engine is closed")
        if self._engine is None:
            self._engine = self._open_engine()
        return self._engine
