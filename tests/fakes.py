"""An engine without TensorFlow: a Markov chain over a few words.

`from fakes import FakeEngine` works in every test. Same request and seed give the
same text; the samplers choose by the registry's own rules, so scores, kept sets
and the order of events are those of a real engine.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from minigpt_repl.engine import inspection
from minigpt_repl.engine.batches import made_once
from minigpt_repl.engine.remote import Status
from minigpt_repl.engine.request import (
    CandidatesWeighed,
    DraftVerified,
    EngineInfo,
    Event,
    Finished,
    Generation,
    HypothesesChanged,
    Hypothesis,
    Reprimed,
    Request,
    RowEvent,
    Started,
    StopReason,
    Timings,
    Token,
    TokenChosen,
    TokenScore,
)
from minigpt_repl.errors import EngineError, MiniGPTError
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec, find_sampler

RESERVED = ("[PAD]", "[UNK]", "[BOS]")
MARKS = (".", ",", "!", "?")
_STORY = (
    "the a little old boy girl king queen dog cat house garden river was said went "
    "ran saw had and but to in of with her his away home ##ing ##ed"
)
WORDS = tuple(_STORY.split())
VOCABULARY = (*RESERVED, *MARKS, *WORDS)
_IDS = {word: index for index, word in enumerate(VOCABULARY)}
KEPT_AFTER_REPRIMING = 4


class FakeEngine:
    """Implements `minigpt_repl.engine.remote.ServedEngine`.

    Args:
        delay: seconds before each token; `stop()` ends the wait.
        fail_at: index of the token at which `generate` raises `EngineError`.
        not_finite_at: index of the token before which a seed's text meets scores
            that are no numbers, by seed.
        context_length: positions, `[BOS]` included.
        broken: raised by every call, as by an engine that could not load.
        directory: name of the folder that `info` reports.

    Attributes:
        requests: every request of which a text was made.
        warmed: names of the samplers that were warmed.
        warmed_rows: for how many rows each of them was.
        closed: whether `close()` was called.
    """

    def __init__(
        self,
        delay: float = 0.0,
        fail_at: int | None = None,
        context_length: int = 32,
        broken: MiniGPTError | None = None,
        directory: str = "/checkpoints/fake",
        has_draft: bool = True,
        not_finite_at: Mapping[int, int] | None = None,
    ) -> None:
        self.delay = delay
        self.fail_at = fail_at
        self.context_length = context_length
        self.broken = broken
        self.directory = directory
        self.has_draft = has_draft
        self.requests: list[Request] = []
        self.not_finite_at = not_finite_at or {}
        self.warmed: list[str] = []
        self.warmed_rows: list[int] = []
        self.closed = False
        self.on_change = lambda: None
        self._stopping = threading.Event()
        size = len(VOCABULARY)
        # Row i: scores after token i. Spread, so that rules differ visibly.
        table = np.random.default_rng(7).normal(0.0, 2.0, (size, size))
        table[:, : len(RESERVED)] = -np.inf
        self._table = table.astype(np.float32)
        self._draws = np.random.default_rng(11)

    @property
    def info(self) -> EngineInfo:
        self._check()
        return EngineInfo(
            directory=self.directory,
            checkpoint_sha256="f" * 64,
            vocabulary_size=len(VOCABULARY),
            context_length=self.context_length,
            parameter_count=1234,
            lowercase=True,
            has_draft=self.has_draft,
            load_s=0.5,
            training={"recipe": "fake", "metrics": {"validation_perplexity": 12.5}},
            words=VOCABULARY,
        )

    @property
    def status(self) -> Status:
        return Status("ready", self.info)

    def start(self) -> None:
        """It is there already."""

    def encode(self, text: str) -> tuple[int, ...]:
        self._check()
        return tuple(_IDS.get(word, 1) for word in split(text))

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        self._check()
        return self._table[[2, *token_ids]]  # (len + 1, vocabulary)

    def warm(
        self, sampler: str, parameters: Mapping[str, Value], rows: int = 1
    ) -> None:
        self._check()
        find_sampler(sampler).check(parameters)
        self.warmed.append(sampler)
        self.warmed_rows.append(rows)

    prepare = warm

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        self.closed = True

    def generate(self, request: Request) -> Iterator[Event]:
        for _, event in self.generate_rows([request]):
            yield event

    def generate_rows(self, requests: Sequence[Request]) -> Iterator[RowEvent]:
        self._check()
        self._stopping.clear()
        yield from made_once(requests, self._batches)

    def _batches(self, requests: Sequence[Request]) -> Iterator[RowEvent]:
        numbered = list(enumerate(requests))
        for (_, is_search), same in groupby(numbered, lambda each: _alike(each[1])):
            batch = list(same)
            size = 1 if is_search else len(batch)
            for first in range(0, len(batch), size):
                yield from self._interleave(dict(batch[first : first + size]))
                if self._is_stopped():
                    return

    def _interleave(self, requests: Mapping[int, Request]) -> Iterator[RowEvent]:
        """An event of each text in turn; the last ones come together at the end."""
        texts = {n: self._make(request) for n, request in requests.items()}
        ends: dict[int, Finished] = {}
        while len(ends) < len(texts):
            for number, events in texts.items():
                if number in ends:
                    continue
                event = next(events)
                if isinstance(event, Finished):
                    ends[number] = event
                else:
                    yield number, event
        made = [end.generation for end in ends.values()]
        tokens = sum(len(generation.tokens) for generation in made)
        seconds = max(generation.timings.decode_s for generation in made)
        for number in texts:
            generation = ends[number].generation
            timings = replace(
                generation.timings, decode_s=seconds, rows=len(made), tokens=tokens
            )
            yield number, Finished(replace(generation, timings=timings))

    def _make(self, request: Request) -> Iterator[Event]:
        self.requests.append(request)
        spec = find_sampler(request.sampler)
        limits = {"vocabulary": len(VOCABULARY)}
        values = spec.check(request.parameters, limits)
        started = self._start(request, spec)
        yield started
        tokens: list[Token] = []
        reprimed: list[int] = []
        accepted = 0
        text = ""  # display form, right after the prompt
        reason: StopReason = "length"
        random = np.random.default_rng(started.seed)
        seen = [2, *started.prompt_ids]  # what the model sees, from [BOS]
        while len(tokens) < request.length:
            if self._stopping.wait(self.delay) if self.delay else self._is_stopped():
                reason = "interrupted"
                break
            index = len(tokens)
            if index == self.fail_at:
                raise EngineError("the engine's process ended; it will be started anew")
            if len(seen) >= self.context_length:
                if spec.search is not None:
                    reason = "context"
                    break
                seen = [2, *seen[-KEPT_AFTER_REPRIMING:]]
                reprimed.append(index)
                yield Reprimed(index, KEPT_AFTER_REPRIMING)
            if index == self.not_finite_at.get(started.seed):
                reason = "not_finite"
                break
            scores = self._table[seen[-1]]
            chosen, kept = self._choose(spec, values, scores, seen, random)
            score = _score(scores, chosen, kept) if request.with_scores else None
            token = Token(chosen, VOCABULARY[chosen], score)
            delta = _delta(text or request.prompt, token)
            text += delta
            tokens.append(token)
            seen.append(chosen)
            if request.with_details and spec.name == "contrastive":
                yield CandidatesWeighed(index, self._weigh(values, scores, seen[:-1]))
            if spec.name == "speculative":
                accepted += index % 2
                if request.with_details:
                    yield DraftVerified(index, (chosen, 3), 1, chosen)
            if spec.name == "beam":
                best = Hypothesis(tuple(t.id for t in tokens), -1.0 * len(tokens))
                pruned = (Hypothesis((*best.token_ids[:-1], 3), best.logprob - 2),)
                yield HypothesesChanged((best,), text, pruned)
            else:
                yield TokenChosen(index, token, delta)
            is_late = 2 * len(tokens) >= request.length
            if request.stop == "sentence" and token.text in ".!?" and is_late:
                reason = "stop"
                break
        count = len(tokens)
        yield Finished(
            Generation(
                request=replace(request, seed=started.seed),
                started=started,
                tokens=tuple(tokens),
                text=text,
                raw_text=" ".join(t.text for t in tokens).replace(" ##", ""),
                stop_reason=reason,
                timings=Timings(0.5, 0.01 if count else 0.0, 0.002 * count),
                reprimed=tuple(reprimed),
                accepted=(accepted, count) if spec.name == "speculative" else None,
                checkpoint_sha256="f" * 64,
            )
        )

    def _start(self, request: Request, spec: SamplerSpec) -> Started:
        ids = request.prompt_ids
        unknown: tuple[str, ...] = ()
        if ids is None:
            ids = self.encode(request.prompt)
            words = split(request.prompt)
            unknown = tuple(dict.fromkeys(w for w in words if w not in _IDS))
        room = self.context_length - 1
        if spec.search is not None:
            room = max(1, self.context_length - request.length)
        cropped = max(0, len(ids) - room)
        seed = request.seed
        if seed is None:
            seed = int(self._draws.integers(2**31))
        return Started(tuple(ids[cropped:]), seed, cropped, unknown)

    def _choose(
        self,
        spec: SamplerSpec,
        values: Mapping[str, Value],
        scores: np.ndarray,
        seen: Sequence[int],
        random: np.random.Generator,
    ) -> tuple[int, np.ndarray]:
        temperature = float(values.get("temperature") or 0.0)
        if spec.stages:
            where = inspection.next_place(seen[1:], self.context_length)
            shares = inspection.kept_distribution(spec, values, scores, where)
            return int(random.choice(len(scores), p=shares)), shares > 0
        if spec.name == "contrastive":
            best = self._weigh(values, scores, seen)[0][0]
            return best, spec.kept(np, softmax(scores), values)
        if not spec.is_random or temperature == 0:
            best = int(scores.argmax())
            return best, np.arange(len(scores)) == best
        probabilities = softmax(scores / temperature)
        kept = spec.kept(np, probabilities, values)
        weights = np.where(kept, probabilities, 0.0)
        return int(random.choice(len(scores), p=weights / weights.sum())), kept

    def _weigh(
        self, values: Mapping[str, Value], scores: np.ndarray, seen: Sequence[int]
    ) -> tuple[tuple[int, float, float, float], ...]:
        probabilities = softmax(scores)
        alpha = float(values["alpha"] or 0.0)
        rows = []
        for candidate in (-probabilities).argsort(kind="stable")[: int(values["k"])]:
            likeness = 0.9 if int(candidate) in seen else 0.1
            score = (1 - alpha) * float(probabilities[candidate]) - alpha * likeness
            rows.append(
                (int(candidate), float(probabilities[candidate]), likeness, score)
            )
        return tuple(sorted(rows, key=lambda row: -row[3]))

    def _is_stopped(self) -> bool:
        return self._stopping.is_set()

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken
        if self.closed:
            raise EngineError("the engine is closed")


def _alike(request: Request) -> tuple[object, bool]:
    """Equal for texts that are made together, and whether they are made alone."""
    spec = find_sampler(request.sampler)
    is_search = spec.search is not None
    return (spec.name, request.prompt, request.prompt_ids), is_search


def split(text: str) -> list[str]:
    """Lowercased words and punctuation marks."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities, in float64, of scores along the last axis."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _score(scores: np.ndarray, chosen: int, kept: np.ndarray) -> TokenScore:
    probabilities = softmax(scores)
    allowed = probabilities[probabilities > 0]
    return TokenScore(
        logprob=float(np.log(probabilities[chosen])),
        rank=1 + int((probabilities > probabilities[chosen]).sum()),
        entropy=float(-(allowed * np.log(allowed)).sum()),
        kept_mass=float(probabilities[kept].sum()),
    )


def _delta(before: str, token: Token) -> str:
    """What a token adds to the display form of the text before it."""
    if token.text.startswith("##"):
        return token.text[2:]
    if token.text in MARKS or not before or before[-1].isspace():
        return token.text
    return f" {token.text}"
