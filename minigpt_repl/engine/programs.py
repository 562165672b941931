"""The compiled programs of an engine: made in the background, shared and kept.

A program makes so many rows of texts, or searches for one. It serves every sampler
that it was compiled with, every value that does not shape it, and every search that
keeps no more texts than it can.
"""

import ctypes
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from minigpt_repl.engine.decode import CORES, ROW_COUNTS, DecodeLoop, rows_of_part
from minigpt_repl.engine.rows import prompt_window
from minigpt_repl.engine.search import SearchLoop, search_size
from minigpt_repl.errors import EngineError, no_draft
from minigpt_repl.models.language_model import LanguageModel
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec, all_samplers

MOST_PROGRAMS, MOST_ROWS_KEPT = 128, 2048
"""Programs that are kept, and the rows of them all: there are thousands of chains, and
contrastive search may weigh the whole vocabulary. A row holds keys and values, 0.8 MB
of the shipped model. All sizes of the searches up to 64 rows find room, some 100: of a
program's 40 MB TensorFlow gives back little, so to drop one and compile it again costs
more memory than to keep it."""

Key = tuple[Any, ...]
"""What a program is known by: its rows, its samplers, the values that shape it."""


class Programs:
    """What a model can be asked to do without a compile.

    Args:
        model: the model.
        draft: the draft model, if there is one.
    """

    def __init__(self, model: LanguageModel, draft: LanguageModel | None) -> None:
        self._model, self._draft = model, draft
        self._made: dict[Key, Future[Any]] = {}  # the one used last comes last
        self._lock = threading.Lock()
        self._compiler = ThreadPoolExecutor(2)  # a text waits for none but its own

    def of(
        self,
        spec: SamplerSpec,
        values: Mapping[str, Value],
        rows: int = 1,
        noise: str = "own",
    ) -> "Future[Any]":
        """The program of a sampler, compiled in the background if there is none yet.

        Args:
            spec: the sampler.
            values: its parameters.
            rows: texts to make together.
            noise: how chance is drawn; see `Request`.

        Raises:
            EngineError: if the sampler needs a draft model and there is none.
        """
        if spec.needs_draft and self._draft is None:
            raise EngineError(no_draft(spec.name))
        size = self._size(spec, values, rows)
        key = _key(spec, values, size, noise)
        with self._lock:
            program = self._made.pop(key, None)
            if program is None or (program.done() and program.exception()):
                make = self._decode_loop if spec.search is None else self._search_loop
                program = self._compiler.submit(make, spec, values, size, noise)
            self._made[key] = program
            while len(self._made) > 1 and self._holds_too_much():
                del self._made[next(iter(self._made))]
        return program

    def soonest(
        self, spec: SamplerSpec, values: Mapping[str, Value], rows: int, noise: str
    ) -> tuple[int, "Future[Any]"]:
        """The program that can begin first, and how many of the texts it makes.

        While their own is being compiled that is one for fewer rows, or for a wider
        search, if there is one.
        """
        own = self.of(spec, values, rows, noise)
        if not own.done():
            for key, count in self._stand_ins(spec, values, rows, noise):
                other = self._made.get(key)
                if other is not None and other.done() and not other.exception():
                    return count, other
        return rows, own

    def close(self) -> None:
        """Compile no more, and give all back."""
        self._compiler.shutdown(cancel_futures=True)
        self._made.clear()

    def _holds_too_much(self) -> bool:
        rows = sum(size for size, *_ in self._made)
        return len(self._made) > MOST_PROGRAMS or rows > MOST_ROWS_KEPT

    def _size(self, spec: SamplerSpec, values: Mapping[str, Value], rows: int) -> int:
        if spec.search is None:
            return rows_of_part(rows)
        return search_size(spec.search, values, self._model)

    def _stand_ins(
        self, spec: SamplerSpec, values: Mapping[str, Value], rows: int, noise: str
    ) -> Iterator[tuple[Key, int]]:
        """Other programs that could make some of the texts, the best ones first."""
        size = self._size(spec, values, rows)
        if spec.search is None:
            for smaller in [count for count in reversed(ROW_COUNTS) if count < size]:
                yield _key(spec, values, smaller, noise), smaller * CORES
        elif spec.search.rows is not None:
            for larger in sorted({known for known, *_ in list(self._made)}):
                if larger > size:
                    yield _key(spec, values, larger, noise), 1

    def _decode_loop(
        self, spec: SamplerSpec, values: Mapping[str, Value], rows: int, noise: str
    ) -> DecodeLoop:
        samplers = [(s, values if s is spec else s.defaults()) for s in _sharing(spec)]
        loop = DecodeLoop(self._model, samplers, rows, noise)
        loop.begin(spec.name, [values], [0], self._any_prompt(), 2)
        loop.decode(1, 0)
        _give_back_memory()
        return loop

    def _search_loop(
        self, spec: SamplerSpec, values: Mapping[str, Value], rows: int, noise: str
    ) -> SearchLoop:
        loop = SearchLoop(spec, values, rows, self._model, self._draft)
        loop.advance(1, loop.begin(values, self._any_prompt(), 2))
        _give_back_memory()
        return loop

    def _any_prompt(self) -> np.ndarray:
        # What a new program is tried with. Of no token nothing would be read.
        return prompt_window(self._model, (0,))


def _sharing(spec: SamplerSpec) -> list[SamplerSpec]:
    """The samplers of the program that a sampler that needs no search is in."""
    if spec.takes_rows and not spec.stages:
        return [each for each in all_samplers() if each.takes_rows]
    return [spec]


def _key(spec: SamplerSpec, values: Mapping[str, Value], size: int, noise: str) -> Key:
    if spec.search is None:
        return (size, noise, *((s.name, s.shape(values)) for s in _sharing(spec)))
    fixed = [p.name for p in spec.parameters if not p.is_live]
    return (size, spec.name, *(values[n] for n in fixed if n != spec.search.rows))


def _give_back_memory() -> None:
    # A compile leaves some 70 MB that glibc would keep for the next one.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
