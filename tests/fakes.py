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
from minigpt_repl.engine.request import (
    CandidatesWeighed,
    DraftVerified,
    Engine,
    EngineInfo,
    Event,
    Finished,
    Generation,
    HypothesesChanged,
    Hypothesis,
    Request,
    RowEvent,
    Started,
    Timings,
    Token,
    TokenChosen,
)
from minigpt_repl.errors import EngineError, MiniGPTError
from minigpt_repl.formats import StopReason
from minigpt_repl.models.text.wordpiece import WordPieceText
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


class FakeEngine(Engine):
    """Has the interface of `minigpt_repl.engine.remote.RemoteEngine`.

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
        warmed_noise: and with which noise.
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
        self.warmed_noise: list[str] = []
        self.closed = False
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
            text=WordPieceText(VOCABULARY),
            load_s=0.5,
            training={"recipe": "fake", "metrics": {"validation_perplexity": 12.5}},
        )

    def encode(self, text: str) -> tuple[int, ...]:
        self._check()
        return tuple(_IDS.get(word, 1) for word in split(text))

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        self._check()
        return self._table[[2, *token_ids]]  # (len + 1, vocabulary)

    def warm(self, request: Request, rows: int = 1) -> None:
        self._check()
        find_sampler(request.sampler).check(request.parameters)
        self.warmed.append(request.sampler)
        self.warmed_rows.append(rows)
        self.warmed_noise.append(request.noise)

    prepare = warm

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        self.closed = True

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
        values = spec.check(request.parameters, {"vocabulary": len(VOCABULARY)})
        started = self._start(request, spec)
        yield started
        tokens: list[Token] = []
        reprimed: list[int] = []
        text = ""  # display form, right after the prompt
        random = np.random.default_rng(started.seed)
        seen = [2, *started.prompt_ids]  # what the model sees, from [BOS]
        while (reason := self._end(request, tokens)) is None:
            index = len(tokens)
            if len(seen) >= self.context_length:
                if spec.search is not None:
                    reason = "context"
                    break
                seen = [2, *seen[-KEPT_AFTER_REPRIMING:]]
                reprimed.append(index)
            if index == self.not_finite_at.get(started.seed):
                reason = "not_finite"
                break
            chosen = self._choose(spec, values, seen, random)
            token = Token(chosen, VOCABULARY[chosen])
            delta = _delta(text or request.prompt, token)
            text += delta
            tokens.append(token)
            if request.with_details:
                yield from self._details(spec, values, seen, chosen, index)
            seen.append(chosen)
            if spec.search is not None and spec.search.shows == "hypotheses":
                best = Hypothesis(tuple(t.id for t in tokens), -1.0 * len(tokens))
                yield HypothesesChanged((best,), text)
            else:
                yield TokenChosen(index, token, delta)
        count = len(tokens)
        made = Generation(
            request=replace(request, seed=started.seed),
            started=started,
            tokens=tuple(tokens),
            text=text,
            raw_text=" ".join(t.text for t in tokens).replace(" ##", ""),
            stop_reason=reason,
            timings=Timings(0.5, 0.01 if count else 0.0, 0.002 * count),
            reprimed=tuple(reprimed),
            accepted=(count // 2, count) if spec.name == "speculative" else None,
            checkpoint_sha256="f" * 64,
        )
        if request.with_scores:
            logits = self._table[[2, *started.prompt_ids, *made.token_ids]]
            made = inspection.with_scores(made, logits, self)
        yield Finished(made)

    def _end(self, request: Request, tokens: Sequence[Token]) -> StopReason | None:
        """Why a text ends here, if it does."""
        is_late = 2 * len(tokens) >= request.length
        ends = bool(tokens) and tokens[-1].text in ".!?" and is_late
        if ends and request.stop == "sentence":
            return "stop"
        if len(tokens) >= request.length:
            return "length"
        if self._stopping.wait(self.delay) if self.delay else self._is_stopped():
            return "interrupted"
        if len(tokens) == self.fail_at:
            raise EngineError("the engine's process ended; it will be started anew")
        return None

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
        seen: Sequence[int],
        random: np.random.Generator,
    ) -> int:
        scores = self._table[seen[-1]]
        if spec.name == "contrastive":
            return self._weigh(values, seen)[0][0]
        if not spec.is_random:
            return int(scores.argmax())
        where = inspection.next_place(seen[1:], self)
        shares = inspection.kept_distribution(spec, values, scores, where)
        return int(random.choice(len(scores), p=shares))

    def _details(
        self,
        spec: SamplerSpec,
        values: Mapping[str, Value],
        seen: Sequence[int],
        chosen: int,
        index: int,
    ) -> Iterator[Event]:
        if spec.name == "contrastive":
            yield CandidatesWeighed(index, self._weigh(values, seen))
        elif spec.name == "speculative":
            yield DraftVerified(index, (chosen, 3), 1, chosen)

    def _weigh(
        self, values: Mapping[str, Value], seen: Sequence[int]
    ) -> tuple[tuple[int, float, float, float], ...]:
        shares = softmax(self._table[seen[-1]])
        alpha = float(values["alpha"] or 0.0)
        rows = []
        for candidate in inspection.top_ids(shares, int(values["k"])):
            similarity = 0.9 if candidate in seen else 0.1
            share = float(shares[candidate])
            score = (1 - alpha) * share - alpha * similarity
            rows.append((candidate, share, similarity, score))
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


softmax = inspection.probabilities


def _delta(before: str, token: Token) -> str:
    """What a token adds to the display form of the text before it."""
    if token.text.startswith("##"):
        return token.text[2:]
    if token.text in MARKS or not before or before[-1].isspace():
        return token.text
    return f" {token.text}"
