"""The engine in this process: a checkpoint, ready to continue prompts.

A request becomes token ids, a prompt that fits, and a row of a batch; `rows`
drives the loops of `decode` and `search`, `texts` holds what is shown.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf

from minigpt_repl.engine import inspection
from minigpt_repl.engine.batches import batches, made_once
from minigpt_repl.engine.programs import Programs
from minigpt_repl.engine.request import (
    Engine,
    EngineInfo,
    Finished,
    Request,
    RowEvent,
    RowEvents,
    Started,
    Timings,
    draw_seed,
)
from minigpt_repl.engine.rows import Decoding, Pace, prompt_window
from minigpt_repl.engine.search_text import Searching
from minigpt_repl.engine.texts import Text, crop, spans
from minigpt_repl.engine.wording import Wording
from minigpt_repl.errors import EngineError
from minigpt_repl.models.checkpoint import Checkpoint
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec, choose_sampler

SCORED_AFTER_STOP = 2000
"""Tokens that are still scored after a stop: less than half a second's work."""


class LocalEngine(Engine):
    """An engine in this process.

    Args:
        checkpoint: what to decode with.
        load_s: seconds that loading it took.
    """

    def __init__(self, checkpoint: Checkpoint, load_s: float = 0.0) -> None:
        record = checkpoint.record
        self._model, self._draft = checkpoint.language_models()
        self._info = EngineInfo(
            directory=str(checkpoint.directory),
            checkpoint_sha256=record.sha256,
            vocabulary_size=self._model.vocabulary_size,
            context_length=self._model.context_length,
            parameter_count=record.parameter_count,
            lowercase=record.lowercase,
            has_draft=self._draft is not None,
            text=self._model.text,
            load_s=load_s,
            training=record.training,
        )
        self._wording = Wording(self._model.text, self._model.encode)
        self._unreported_load_s = load_s
        self._programs = Programs(self._model, self._draft)
        self._paces: WeakKeyDictionary[Any, Pace] = WeakKeyDictionary()  # by the loop
        self._beside = ThreadPoolExecutor(1)  # makes the next tokens
        self._stopping = threading.Event()
        self._is_closed = False

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        self._check_open()
        return self._info

    def generate_rows(self, requests: Sequence[Request]) -> RowEvents:
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
        for start, first, last in spans(len(ids), size):
            window = prompt_window(self._model, ids[start : start + size - 1])
            scores, _, _ = self._model.prefill(tf.constant(window))
            rows.append(scores.numpy()[0, first - start : last - start])
        return np.concatenate(rows)[:, : self._model.vocabulary_size]

    def warm(self, request: Request, rows: int = 1) -> None:
        """Trace and compile now what such texts need; see `Engine`."""
        self._check_open()
        self._programs.of(*self._chosen(request), rows, request.noise).result()

    def close(self) -> None:
        """Give back what the engine holds; further calls raise `EngineError`."""
        self._is_closed = True
        self._beside.shutdown()
        self._programs.close()

    def _batches(self, requests: Sequence[Request]) -> Iterator[RowEvent]:
        """Events of texts, batch after batch; after a stop no other is begun."""
        for numbers in batches(requests):
            while numbers and not self._stopping.is_set():
                first = requests[numbers[0]]
                spec, values = self._chosen(first)
                count, program = self._programs.soonest(
                    spec, values, len(numbers), first.noise
                )
                now, numbers = numbers[:count], numbers[count:]
                for row, event in self._make(program, spec, [requests[n] for n in now]):
                    yield now[row], event

    def _make(
        self, program: "Future[Any]", spec: SamplerSpec, requests: Sequence[Request]
    ) -> Iterator[RowEvent]:
        """Events of texts that one batch makes."""
        values = [self._chosen(each)[1] for each in requests]
        texts = [self._begin(request, spec) for request in requests]
        for row, text in enumerate(texts):
            yield row, text.started
        load_s, self._unreported_load_s = self._unreported_load_s, 0.0
        loop = program.result()
        clock = time.perf_counter()  # of the text, not of a compile
        pace = self._paces.setdefault(loop, Pace())
        stopped = self._stopping.is_set
        if spec.search is None:
            events = Decoding(
                self._model, loop, spec.name, values, texts, pace, stopped
            ).events(self._beside)
        else:
            events = Searching(
                self._model, loop, values[0], texts[0], pace, stopped
            ).events()
        first_token_s = 0.0
        for row_event in events:
            if not first_token_s:
                first_token_s = time.perf_counter() - clock
            yield row_event
        decode_s = time.perf_counter() - clock
        tokens = sum(len(text.token_ids) for text in texts)
        timings = Timings(load_s, first_token_s, decode_s, len(texts), tokens)
        has_time = tokens <= SCORED_AFTER_STOP or not stopped()
        for row, text in enumerate(texts):
            made = text.generation(timings, self._info.checkpoint_sha256)
            if text.request.with_scores and made.tokens and has_time:
                made = inspection.scored(made, self)
            yield row, Finished(made)

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
            taken, first_ids = self._model.text.healing(request.prompt)
            ids = self.encode(request.prompt.removesuffix(taken))
            if self._model.text.unknown_id in ids:
                unknown = self._model.text.unknown_words(request.prompt, self.encode)
        ids, size = self._known(ids), self._info.context_length
        # A search can't begin a full context anew. A quarter is left to the prompt.
        new = 1 if spec.search is None else min(request.length, size - size // 4)
        kept = crop(ids, size, new)
        seed = request.seed
        if seed is None:
            seed = draw_seed()
        started = Started(kept, seed, len(ids) - len(kept), unknown)
        return Text(
            replace(request, seed=seed), started, ids, self._model.text, first_ids
        )

    def _chosen(self, request: Request) -> tuple[SamplerSpec, dict[str, Value]]:
        """The sampler that does what was asked, and its parameters, checked."""
        limits = {"vocabulary": self._model.vocabulary_size}
        spec, values = choose_sampler(request.sampler, request.parameters, limits)
        # Raises for what this model has no tokens for.
        self._wording.values(spec, values, self._model.logits_size)
        return spec, values

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineError("the engine is closed")
