"""The engine in this process: a checkpoint, ready to continue prompts.

A request becomes token ids, a prompt that fits, and a row of a batch; `rows` and
`search_text` drive the loops of `decode` and `search`, `texts` holds what is shown.

The loops are compiled programs, which are made in the background, shared and kept. A
program makes so many rows of texts, or searches for one. It serves every sampler that
it was compiled with, every value that does not shape it, and every search that keeps no
more texts than it can.
"""

import ctypes
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt_repl.engine.decode import CORES, DecodeLoop, rows_of_part
from minigpt_repl.engine.inspection import with_scores
from minigpt_repl.engine.request import (
    Engine,
    EngineInfo,
    Finished,
    Request,
    RowEvent,
    RowEvents,
    Started,
    draw_seed,
)
from minigpt_repl.engine.rows import CALL_S, Decoding, prompt_window
from minigpt_repl.engine.search import SearchLoop
from minigpt_repl.engine.search_text import Searching
from minigpt_repl.engine.texts import Text, batches, crop, for_requests, spans
from minigpt_repl.engine.wording import Wording
from minigpt_repl.errors import EngineError, no_draft
from minigpt_repl.formats import Timings
from minigpt_repl.models.checkpoint import Checkpoint
from minigpt_repl.models.language_model import LanguageModel
from minigpt_repl.sampling.registry import SamplerSpec, all_samplers, choose_sampler

SCORED_AFTER_STOP = 2000
"""Tokens that are still scored after a stop: less than half a second's work."""

MOST_PROGRAMS, MOST_ROWS_KEPT = 128, 2048
"""Programs that are kept, and the rows of them all: there are thousands of chains, and
contrastive search may weigh the whole vocabulary. A row holds keys and values, 0.8 MB
of the shipped model. All sizes of the searches up to 64 rows find room, some 100: of a
program's 40 MB TensorFlow gives back little, so to drop one and compile it again costs
more memory than to keep it."""

Key = tuple[Any, ...]
"""What a program is known by: its rows, its samplers, the values that shape it."""


class LocalEngine(Engine):
    """An engine in this process, of a checkpoint that took `load_s` seconds to load."""

    def __init__(self, checkpoint: Checkpoint, load_s: float = 0.0) -> None:
        record = checkpoint.record
        self._model, draft = checkpoint.language_models()
        self._info = EngineInfo(
            directory=str(checkpoint.directory),
            checkpoint_sha256=record.sha256,
            vocabulary_size=self._model.vocabulary_size,
            context_length=self._model.context_length,
            parameter_count=record.parameter_count,
            lowercase=record.lowercase,
            has_draft=draft is not None,
            text=self._model.text,
            load_s=load_s,
            training=record.training,
        )
        self._wording = Wording(self._model.text, self._model.encode)
        self._unreported_load_s = load_s
        self._programs = Programs(self._model, draft, self._wording)
        self._beside = ThreadPoolExecutor(1)  # makes the next tokens
        self._stopping = threading.Event()
        self._is_closed = False

    @property
    def info(self) -> EngineInfo:
        self._check_open()
        return self._info

    def generate_rows(self, requests: Sequence[Request]) -> RowEvents:
        self._check_open()
        self._stopping.clear()
        for rows in batches(requests):
            while rows and not self._stopping.is_set():
                first = requests[rows[0][0]]
                spec, values = self._chosen(first)
                count, program = self._programs.soonest(
                    spec, values, len(rows), first.noise
                )
                now, rows = rows[:count], rows[count:]
                events = self._make(program, spec, [requests[row[0]] for row in now])
                yield from for_requests(events, now, requests)

    def stop(self) -> None:
        self._stopping.set()

    def encode(self, text: str) -> tuple[int, ...]:
        self._check_open()
        return self._model.encode(text)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        self._check_open()
        ids, size = self._known(token_ids), self._info.context_length
        rows = []
        for start, first, last in spans(len(ids), size):
            window = prompt_window(self._model, ids[start : start + size - 1])
            scores, _, _ = self._model.prefill(tf.constant(window))
            rows.append(scores.numpy()[0, first - start : last - start])
        return np.concatenate(rows)[:, : self._model.vocabulary_size]

    def warm(self, request: Request, rows: int = 1) -> None:
        self._check_open()
        self._programs.of(*self._chosen(request), rows, request.noise).result()

    def close(self) -> None:
        self._is_closed = True
        self._beside.shutdown()
        self._programs.close()

    def _make(
        self, program: "Future[Any]", spec: SamplerSpec, requests: Sequence[Request]
    ) -> Iterator[RowEvent]:
        """Events of texts that one batch makes."""
        values = [self._chosen(each)[1] for each in requests]
        texts = [self._begin(request, spec) for request in requests]
        for row, text in enumerate(texts):
            yield row, text.started
        load_s, self._unreported_load_s = self._unreported_load_s, 0.0
        stopped = self._stopping.is_set
        while not (program.done() or stopped()):  # a compile can't be interrupted
            wait([program], CALL_S)
        clock = time.perf_counter()
        first_token_s = 0.0
        for row_event in self._events(program, spec, values, texts):
            first_token_s = first_token_s or time.perf_counter() - clock
            yield row_event
        decode_s = time.perf_counter() - clock
        tokens = sum(len(text.token_ids) for text in texts)
        timings = Timings(load_s, first_token_s, decode_s, len(texts), tokens)
        has_time = tokens <= SCORED_AFTER_STOP or not stopped()
        for row, text in enumerate(texts):
            made = text.generation(timings, self._info.checkpoint_sha256)
            if text.request.with_scores and made.tokens and has_time:
                made = with_scores(made, self)
            yield row, Finished(made)

    def _events(
        self,
        program: "Future[Any]",
        spec: SamplerSpec,
        values: Sequence[Mapping[str, Any]],
        texts: Sequence[Text],
    ) -> Iterator[RowEvent]:
        stopped = self._stopping.is_set
        if not program.done():
            for text in texts:
                text.stop_reason = "interrupted"
            return iter(())
        loop = program.result()
        if spec.search is None:
            decoding = Decoding(self._model, loop, spec.name, values, texts, stopped)
            return decoding.events(self._beside)
        searching = Searching(self._model, loop, values[0], texts[0], stopped)
        return ((0, event) for event in searching.events())

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
        seed = draw_seed() if request.seed is None else request.seed
        started = Started(kept, seed, len(ids) - len(kept), unknown)
        return Text(
            replace(request, seed=seed), started, ids, self._model.text, first_ids
        )

    def _chosen(self, request: Request) -> tuple[SamplerSpec, dict[str, Any]]:
        """The sampler that does what was asked, and its parameters, checked, with words
        as this model's tokens."""
        limits = {"vocabulary": self._model.vocabulary_size}
        spec, values = choose_sampler(request.sampler, request.parameters, limits)
        return spec, self._wording.values(spec, values, self._model.logits_size)

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineError("the engine is closed")


class Programs:
    """What a model, and its draft model, can be asked to do without a compile."""

    def __init__(
        self, model: LanguageModel, draft: LanguageModel | None, wording: Wording
    ) -> None:
        self._model, self._draft, self._wording = model, draft, wording
        self._made: dict[Key, Future[Any]] = {}  # the one used last comes last
        self._lock = threading.Lock()
        self._compiler = ThreadPoolExecutor(2)  # a text waits for none but its own

    def of(
        self, spec: SamplerSpec, values: Mapping[str, Any], rows: int, noise: str
    ) -> "Future[Any]":
        """The program that makes so many rows of texts by a sampler with these values;
        compiled in the background if there is none yet.

        Raises:
            EngineError: if the sampler needs a draft model and there is none.
        """
        if spec.needs_draft and self._draft is None:
            raise EngineError(no_draft(spec.name))
        key = self._key(spec, values, rows, noise)
        with self._lock:
            program = self._made.pop(key, None)
            if program is None or (program.done() and program.exception()):
                program = self._compiler.submit(
                    self._compile, spec, values, key[0], noise
                )
            self._made[key] = program
            while len(self._made) > 1 and self._holds_too_much():
                del self._made[next(iter(self._made))]
        return program

    def soonest(
        self, spec: SamplerSpec, values: Mapping[str, Any], rows: int, noise: str
    ) -> tuple[int, "Future[Any]"]:
        """The program that can begin first, and how many of the texts it makes.

        While their own is being compiled that is one for fewer rows, or for a wider
        search, if there is one.
        """
        own = self.of(spec, values, rows, noise)
        if own.done():
            return rows, own
        size, *alike = self._key(spec, values, rows, noise)
        ready = {
            key[0]: program
            for key, program in list(self._made.items())
            if [*key[1:]] == alike and program.done() and not program.exception()
        }
        if spec.search is None:
            fewer = max((each for each in ready if each < size), default=None)
            return (rows, own) if fewer is None else (fewer * CORES, ready[fewer])
        wider = min((each for each in ready if each > size), default=None)
        return (rows, own) if wider is None else (rows, ready[wider])

    def close(self) -> None:
        """Compile no more, and give all back."""
        self._compiler.shutdown(cancel_futures=True)
        self._made.clear()

    def _holds_too_much(self) -> bool:
        rows = sum(size for size, *_ in self._made)
        return len(self._made) > MOST_PROGRAMS or rows > MOST_ROWS_KEPT

    def _key(
        self, spec: SamplerSpec, values: Mapping[str, Any], rows: int, noise: str
    ) -> Key:
        if spec.search is None:
            shapes = ((s.name, s.shape(own)) for s, own in self._sharing(spec, values))
            return (rows_of_part(rows), noise, *shapes)
        size = spec.search.size(values, self._model.allowed_count)
        fixed = [p.name for p in spec.parameters if not p.is_live]
        return (size, spec.name, *(values[n] for n in fixed if n != spec.search.rows))

    def _sharing(
        self, spec: SamplerSpec, values: Mapping[str, Any]
    ) -> list[tuple[SamplerSpec, Mapping[str, Any]]]:
        """The samplers of the program that one that needs no search is in, each with
        its parameters; others than itself with the usual ones."""
        if not spec.takes_rows or spec.stages:
            return [(spec, values)]
        words, size = self._wording, self._model.logits_size
        return [
            (s, values if s is spec else words.values(s, s.defaults(), size))
            for s in all_samplers()
            if s.takes_rows
        ]

    def _compile(
        self, spec: SamplerSpec, values: Mapping[str, Any], size: int, noise: str
    ) -> DecodeLoop | SearchLoop:
        prompt = prompt_window(self._model, (0,))  # of no token nothing would be read
        loop: DecodeLoop | SearchLoop
        if spec.search is None:
            samplers = self._sharing(spec, values)
            loop = DecodeLoop(self._model, samplers, size, noise)
            loop.begin(spec.name, [values], [0], prompt, 2)
            loop.decode(1, 0)
        else:
            loop = SearchLoop(spec, values, size, self._model, self._draft)
            loop.advance(1, loop.begin(values, prompt, 2))
        _give_back_memory()
        return loop


def _give_back_memory() -> None:
    # A compile leaves some 70 MB that glibc would keep for the next one.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
