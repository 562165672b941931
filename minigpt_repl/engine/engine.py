"""The engine in this process: a checkpoint, ready to continue prompts.

A request becomes token ids, a prompt that fits, and a row of a batch; `rows`
drives the loops of `decode` and `search`, `texts` holds what is shown.
"""

import ctypes
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from minigpt_repl.engine import inspection, windows
from minigpt_repl.engine.decode import MOST_ROWS, DecodeLoop, filled_up
from minigpt_repl.engine.repeats import made_once
from minigpt_repl.engine.request import (
    SEEDS,
    EngineInfo,
    Event,
    Finished,
    Request,
    RowEvent,
    Started,
    Timings,
    TokenScore,
)
from minigpt_repl.engine.rows import Decoding, Pace, prompt_window, search_events
from minigpt_repl.engine.search import SearchLoop, shape_of
from minigpt_repl.engine.texts import Text
from minigpt_repl.errors import EngineError
from minigpt_repl.models.checkpoint import Checkpoint, load_checkpoint
from minigpt_repl.models.language_model import LanguageModel
from minigpt_repl.models.minigpt import language_model
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec, all_samplers, find_sampler

MOST_LOOPS, MOST_ROWS_KEPT = 64, 1024
"""Programs that are kept, and their rows. One takes some 20 MB and its rows, of the
shipped model, 0.8 MB each. Without chains there are 40 programs of up to 64 rows."""

Loop = TypeVar("Loop", DecodeLoop, SearchLoop)


def load_engine(directory: str | Path, verify: bool = True) -> "LocalEngine":
    """An engine of a checkpoint's folder.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    clock = time.perf_counter()
    checkpoint = load_checkpoint(Path(directory), verify)
    return LocalEngine(checkpoint, time.perf_counter() - clock)


class LocalEngine:
    """Implements `minigpt_repl.engine.request.Engine` in this process.

    Args:
        checkpoint: what to decode with.
        load_s: seconds that loading it took.

    Attributes:
        trace_count: graphs traced so far. Only a sampler, a number of rows, or a
            value that shapes a graph, that was not used before adds to it.
    """

    def __init__(self, checkpoint: Checkpoint, load_s: float = 0.0) -> None:
        self.trace_count = 0
        record = checkpoint.record
        self._model = language_model(checkpoint.causal_lm, self._note_trace)
        self._draft: LanguageModel | None = None
        if checkpoint.draft is not None:
            self._draft = language_model(checkpoint.draft, self._note_trace)
        self._info = EngineInfo(
            directory=str(checkpoint.directory),
            checkpoint_sha256=record.sha256,
            vocabulary_size=self._model.vocabulary_size,
            context_length=self._model.context_length,
            parameter_count=record.parameter_count,
            lowercase=record.lowercase,
            has_draft=self._draft is not None,
            load_s=load_s,
            training=record.training,
            words=tuple(self._model.text.pieces),
            tokenizer=record.tokenizer,
            document=record.document,
        )
        self._unreported_load_s = load_s
        self._loops: dict[tuple[object, ...], Any] = {}
        self._paces: dict[object, Pace] = {}  # by the number of rows, or the search
        self._beside = ThreadPoolExecutor(1)  # makes the next tokens
        self._stopping = threading.Event()
        self._is_closed = False

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        self._check_open()
        return self._info

    def generate(self, request: Request) -> Iterator[Event]:
        """Events of one text; see `Engine`."""
        for _, event in self.generate_rows([request]):
            yield event

    def generate_rows(self, requests: Sequence[Request]) -> Iterator[RowEvent]:
        """Events of several texts; see `Engine`."""
        self._check_open()
        self._stopping.clear()
        yield from made_once(requests, self._batches)

    def stop(self) -> None:
        """End the running generation within one call; from any thread."""
        self._stopping.set()

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, without the start token."""
        self._check_open()
        return self._model.encode(text)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Scores of the next token after each of `token_ids`; see `Engine`."""
        self._check_open()
        ids, size = self._known(token_ids), self._info.context_length
        rows = []
        for start, first, last in windows.spans(len(ids), size):
            window = prompt_window(self._model, ids[start : start + size - 1])
            scores, _, _ = self._model.prefill(tf.constant(window))
            rows.append(scores.numpy()[0, first - start : last - start])
        return np.concatenate(rows)[:, : self._model.vocabulary_size]

    def warm(
        self, sampler: str, parameters: Mapping[str, Value], rows: int = 1
    ) -> None:
        """Trace and compile one sampler now, so that its first use is fast."""
        self._check_open()
        spec, values = self._chosen(sampler, parameters)
        # Any prompt will do, but with none nothing would be read.
        prompt = prompt_window(self._model, (0,))
        if spec.search is None:
            loop = self._decode_loop(spec, values, rows)
            loop.begin(spec.name, [values], prompt, 2)
            loop.decode(1, np.zeros(loop.rows, np.int32), 0)
        else:
            search = self._search_loop(spec, values)
            search.advance(1, search.begin(values, prompt, 2))
        _give_back_memory()

    def prepare(
        self, sampler: str, parameters: Mapping[str, Value], rows: int = 1
    ) -> None:
        """Nothing: here a first use is the soonest that can be."""

    def close(self) -> None:
        """Give back what the engine holds; further calls raise `EngineError`."""
        self._is_closed = True
        self._beside.shutdown()
        self._loops.clear()

    def _batches(self, requests: Sequence[Request]) -> Iterator[RowEvent]:
        """Events of texts, batch after batch; after a stop no other is begun."""
        numbered = list(enumerate(requests))
        for _, same in groupby(numbered, lambda each: self._batch_key(each[1])):
            batch = list(same)
            for first in range(0, len(batch), MOST_ROWS):
                part = batch[first : first + MOST_ROWS]
                numbers = [number for number, _ in part]
                for row, event in self._make([request for _, request in part]):
                    yield numbers[row], event
                if self._stopping.is_set():
                    return

    def _make(self, requests: list[Request]) -> Iterator[RowEvent]:
        """Events of texts that one batch makes."""
        chosen = [self._chosen(each.sampler, each.parameters) for each in requests]
        spec, values = chosen[0][0], [values for _, values in chosen]
        texts = [self._begin(request, spec) for request in requests]
        if spec.search is None:
            loop = self._decode_loop(spec, values[0], len(texts))
            pace = self._paces.setdefault(loop.rows, Pace())
            stopped = self._stopping.is_set
            events = Decoding(
                self._model, loop, spec.name, values, texts, pace, stopped
            ).events(self._beside)
        else:
            search = self._search_loop(spec, values[0])
            pace = self._paces.setdefault(spec.name, Pace())
            stopped = self._stopping.is_set
            events = search_events(
                self._model, search, spec.search, values[0], texts[0], pace, stopped
            )
        for row, text in enumerate(texts):
            yield row, text.started
        load_s, self._unreported_load_s = self._unreported_load_s, 0.0
        clock = time.perf_counter()
        first_token_s = 0.0
        for row_event in events:
            if not first_token_s:
                first_token_s = time.perf_counter() - clock
            yield row_event
        decode_s = time.perf_counter() - clock
        tokens = sum(len(text.token_ids) for text in texts)
        timings = Timings(load_s, first_token_s, decode_s, len(texts), tokens)
        for row, text in enumerate(texts):
            scores = self._scores(spec, values[row], text)
            sha256 = self._info.checkpoint_sha256
            yield row, Finished(text.generation(timings, sha256, scores))

    def _known(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        """Token ids, which may come from a file: each has a token."""
        ids, size = tuple(token_ids), self._model.vocabulary_size
        if ids and not 0 <= min(ids) <= max(ids) < size:
            wrong = next(each for each in ids if not 0 <= each < size)
            raise EngineError(f"there is no token {wrong}: the model has 0..{size - 1}")
        return ids

    def _begin(self, request: Request, spec: SamplerSpec) -> Text:
        ids = request.prompt_ids
        unknown: tuple[str, ...] = ()
        first_ids = None
        if ids is None:
            text = request.prompt
            if spec.search is None:
                taken, first_ids = self._model.text.healing(text)
                text = text.removesuffix(taken)
            ids = self.encode(text)
            if self._model.text.unknown_id in ids:
                unknown = self._model.text.unknown_words(request.prompt, self.encode)
        ids = self._known(ids)
        new = request.length if spec.search is not None else 1
        cropped = windows.crop(ids, self._info.context_length, new)
        seed = request.seed
        if seed is None:
            seed = random.SystemRandom().randrange(SEEDS)
        started = Started(cropped.token_ids, seed, cropped.dropped, unknown)
        return Text(
            replace(request, seed=seed), started, ids, self._model.text, first_ids
        )

    def _scores(
        self, spec: SamplerSpec, values: dict[str, Value], text: Text
    ) -> Sequence[TokenScore | None]:
        """A score for each token of a text, if it wants them."""
        count = len(text.token_ids)
        if not text.request.with_scores or not count:
            return [None] * count
        ids = (*text.started.prompt_ids, *text.token_ids)
        rows = inspection.text_logits(self.logits(ids), count)
        size, seed = self._info.context_length, text.started.seed
        where = inspection.places(ids, count, size, seed)
        kept = inspection.kept_mask(spec, values, rows, where)
        return inspection.score_tokens(rows, text.token_ids, kept)

    def _chosen(
        self, name: str, parameters: Mapping[str, Value]
    ) -> tuple[SamplerSpec, dict[str, Value]]:
        """The sampler that does what was asked, and its parameters, checked."""
        spec = find_sampler(name)
        values = spec.check(parameters, {"vocabulary": self._model.vocabulary_size})
        if values.get("temperature") == 0 and not spec.stages:
            return find_sampler("greedy"), {}
        return spec, values

    def _batch_key(self, request: Request) -> tuple[object, ...]:
        """Equal for texts that can be rows of one batch."""
        spec, values = self._chosen(request.sampler, request.parameters)
        same: tuple[object, ...] = (spec.name, request.prompt, request.prompt_ids)
        if spec.takes_rows:
            return same
        values_key = tuple(values.items())
        return (*same, values_key, id(request) if spec.search else None)

    def _decode_loop(
        self, spec: SamplerSpec, values: Mapping[str, Value], rows: int
    ) -> DecodeLoop:
        count = filled_up(rows)
        if spec.takes_rows and not spec.stages:
            together = [s for s in all_samplers() if s.takes_rows]
        else:
            together = [spec]
        key = (count, *((s.name, _structure(s, values)) for s in together))
        samplers = [(s, values if s is spec else s.defaults()) for s in together]
        return self._loop(
            key, lambda: DecodeLoop(self._model, samplers, count, self._note_trace)
        )

    def _search_loop(
        self, spec: SamplerSpec, values: Mapping[str, Value]
    ) -> SearchLoop:
        shape = shape_of(spec, values, self._model.allowed_count)
        return self._loop(
            (spec.name, *shape.values()),
            lambda: SearchLoop(spec, shape, self._model, self._draft, self._note_trace),
        )

    def _loop(self, key: tuple[object, ...], make: Callable[[], Loop]) -> Loop:
        loop: Loop = self._loops.pop(key, None) or make()
        self._loops[key] = loop  # the one used last comes last
        while len(self._loops) > 1 and self._holds_too_much():
            del self._loops[next(iter(self._loops))]
        return loop

    def _holds_too_much(self) -> bool:
        rows = sum(loop.rows for loop in self._loops.values())
        return len(self._loops) > MOST_LOOPS or rows > MOST_ROWS_KEPT

    def _note_trace(self) -> None:
        self.trace_count += 1

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineError("the engine is closed")


def _structure(spec: SamplerSpec, values: Mapping[str, Value]) -> tuple[Value, ...]:
    """The values that shape a sampler's graph."""
    return tuple(values[p.name] for p in spec.parameters if not p.is_live)


def _give_back_memory() -> None:
    # A compile leaves some 70 MB that glibc would keep for the next one.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
