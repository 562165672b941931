"""The decode engine in this process: a checkpoint, ready to continue prompts.

Puts together the model (`cached_model`), the samplers (`stepwise`), the prompt
(`packing`) and the text (`run`); a sampler is traced when it is first used and
kept. One text is made at a time. Knows no terminal.
"""

import ctypes
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from minigpt_repl.engine.cached_model import CachedModel
from minigpt_repl.engine.direct import let_go_of_functions
from minigpt_repl.engine.request import EngineInfo, Event, Request, Started
from minigpt_repl.engine.run import Run, Surroundings
from minigpt_repl.engine.stepwise import SteppedSampler, structure_of
from minigpt_repl.errors import EngineError
from minigpt_repl.models import packing
from minigpt_repl.models.checkpoint import Checkpoint, load_checkpoint
from minigpt_repl.models.text.vocabulary import Vocabulary
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec, find_sampler

SEEDS = 2**31

MOST_SAMPLERS = 16
"""Traced samplers that are kept. Each value that shapes a graph has one of its own,
some 10 MB, and there are thousands of such values."""


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
        trace_count: graphs traced so far. Only a sampler, or a value that shapes
            its graph, that was not used before adds to it.
    """

    def __init__(self, checkpoint: Checkpoint, load_s: float = 0.0) -> None:
        self.trace_count = 0
        self._tokenizer = checkpoint.causal_lm.preprocessor.tokenizer
        self._vocabulary = Vocabulary(self._tokenizer.get_vocabulary())
        self._target = self._cached(checkpoint.causal_lm)
        self._draft = self._cached(checkpoint.draft) if checkpoint.draft else None
        record = checkpoint.record
        self._info = EngineInfo(
            directory=str(checkpoint.directory),
            checkpoint_sha256=record.sha256,
            vocabulary_size=len(self._vocabulary),
            context_length=self._target.context_length,
            parameter_count=record.parameter_count,
            lowercase=record.lowercase,
            has_draft=self._draft is not None,
            load_s=load_s,
            training=record.training,
            words=self._vocabulary.words,
        )
        self._unreported_load_s = load_s
        self._samplers: dict[tuple[object, ...], SteppedSampler] = {}
        self._stopping = threading.Event()
        self._is_closed = False

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        self._check_open()
        return self._info

    def generate(self, request: Request) -> Iterator[Event]:
        """Events of one text; see `Engine`."""
        self._check_open()
        self._stopping.clear()
        spec, values = self._chosen(request.sampler, request.parameters)
        sampler = self._sampler(spec, values)
        ids = request.prompt_ids
        if ids is None:
            ids = self.encode(request.prompt)
        new = request.length if spec.is_whole_sequence else 1
        packed = packing.crop(ids, self._info.context_length, new)
        seed = request.seed
        if seed is None:
            seed = random.SystemRandom().randrange(SEEDS)
        unknown: tuple[str, ...] = ()
        if request.prompt_ids is None and Vocabulary.unk_id in ids:
            unknown = packing.unknown_words(self._tokenizer, request.prompt)
        started = Started(packed.ids, seed, packed.cropped, unknown)
        yield started
        load_s, self._unreported_load_s = self._unreported_load_s, 0.0
        around = Surroundings(
            vocabulary=self._vocabulary,
            context=self._info.context_length,
            lowercase=self._info.lowercase,
            logits=self.logits,
            is_stopped=self._stopping.is_set,
            checkpoint_sha256=self._info.checkpoint_sha256,
            load_s=load_s,
        )
        seeded = replace(request, seed=seed)
        yield from Run(seeded, spec, values, sampler, started, ids, around).events()

    def stop(self) -> None:
        """End the running generation within one step; from any thread."""
        self._stopping.set()

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, without `[BOS]`."""
        self._check_open()
        return packing.encode(self._tokenizer, text)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Scores of the next token after each of `token_ids`; see `Engine`."""
        self._check_open()
        ids, context = tuple(token_ids), self._info.context_length
        rows = []
        for start, first, last in packing.windows(len(ids), context):
            window = packing.window(ids[start : start + context - 1], context)
            scores, _, _ = self._target.read(tf.constant(window))
            rows.append(scores.numpy()[0, first - start : last - start])
        return np.concatenate(rows)[:, : len(self._vocabulary)]

    def warm(self, sampler: str, parameters: Mapping[str, Value]) -> None:
        """Trace and compile one sampler now, so that its first use is fast."""
        self._check_open()
        spec, values = self._chosen(sampler, parameters)
        stepped = self._sampler(spec, values)
        stepped.reset(values, seed=0)
        context = self._info.context_length
        prompt = (Vocabulary.unk_id,)  # any: with none nothing would be read
        state = stepped.begin(tf.constant(packing.window(prompt, context)), 2)
        step = stepped.step(state, tf.constant(np.arange(context)[None] < 2))
        step.index.numpy()  # waits for it
        _give_back_memory()

    def close(self) -> None:
        """Give back what the engine holds; further calls raise `EngineError`."""
        self._is_closed = True
        self._samplers.clear()
        let_go_of_functions()

    def _cached(self, causal_lm: object) -> CachedModel:
        return CachedModel(
            causal_lm,
            sorted(Vocabulary.special_ids),
            len(self._vocabulary),
            self._note_trace,
        )

    def _chosen(
        self, name: str, parameters: Mapping[str, Value]
    ) -> tuple[SamplerSpec, dict[str, Value]]:
        """The sampler that does what was asked, and its parameters, checked."""
        spec = find_sampler(name)
        limits = {"vocabulary": len(self._vocabulary)}
        values = spec.check(parameters, limits)
        if values.get("temperature") == 0:
            return find_sampler("greedy"), {}
        return spec, values

    def _sampler(
        self, spec: SamplerSpec, values: Mapping[str, Value]
    ) -> SteppedSampler:
        key = (spec.sampler, structure_of(spec, values))
        sampler = self._samplers.pop(key, None)
        if sampler is None:
            sampler = SteppedSampler(
                spec, values, self._target, self._draft, self._note_trace
            )
        self._samplers[key] = sampler  # the one used last comes last
        if len(self._samplers) > MOST_SAMPLERS:
            del self._samplers[next(iter(self._samplers))]
            let_go_of_functions()
        return sampler

    def _note_trace(self) -> None:
        self.trace_count += 1

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineError("the engine is closed")


def _give_back_memory() -> None:
    # A compile leaves some 70 MB that glibc would keep for the next one.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
