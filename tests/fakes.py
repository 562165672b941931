"""An engine without TensorFlow: a Markov chain over a few words.

`from fakes import FakeEngine` works in every test. Same request and seed give the
same text. Batches, texts and rules are the program's own, so what a text looks like,
where it ends, its scores and the order of events are those of a real engine.
"""

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import numpy as np

from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import (
    SEEDS,
    CandidatesWeighed,
    DraftVerified,
    Engine,
    EngineInfo,
    Event,
    Finished,
    HypothesesChanged,
    Hypothesis,
    Request,
    RowEvent,
    Started,
)
from minigpt_repl.engine.texts import (
    RevisedText,
    Text,
    batches,
    crop,
    for_requests,
    reprimed,
)
from minigpt_repl.errors import EngineError, MiniGPTError
from minigpt_repl.formats import Timings
from minigpt_repl.models.text.codec import BOS_ID, RESERVED, UNKNOWN_ID, normalize_text
from minigpt_repl.models.text.wordpiece import WORD, WordPieceText
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import choose_sampler, find_sampler

_STORY = (
    ". , ! ? the a little old boy girl king queen dog cat house garden river was said "
    "went ran saw had and but to in of with her his away home ##ing ##ed"
)
VOCABULARY = (*RESERVED, *_STORY.split())
_IDS = {word: index for index, word in enumerate(VOCABULARY)}
# Row i: scores after token i. Spread, so that rules differ visibly.
_TABLE = np.random.default_rng(7).normal(0.0, 2.0, (len(_IDS), len(_IDS)))
_TABLE[:, : len(RESERVED)] = -np.inf
_TABLE = _TABLE.astype(np.float32)
SHA256 = "f" * 64


@dataclass(eq=False)
class FakeEngine(Engine):
    """Has the interface of `minigpt_repl.engine.remote.RemoteEngine`.

    Args:
        delay: seconds before each token; `stop()` ends the wait.
        fail_at: index of the token at which `generate` raises `EngineError`.
        context_length: positions, `[BOS]` included.
        broken: raised by every call, as by an engine that could not load.
        directory: name of the folder that `info` reports.
        not_finite_at: index of the token before which a seed's text meets scores
            that are no numbers, by seed.

    Attributes:
        requests: every request of which a text was made.
        warmed: names of the samplers that were warmed.
        warmed_rows: for how many rows each of them was.
        warmed_noise: and with which noise.
    """

    delay: float = 0.0
    fail_at: int | None = None
    context_length: int = 32
    broken: MiniGPTError | None = None
    directory: str = "/checkpoints/fake"
    has_draft: bool = True
    not_finite_at: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.requests: list[Request] = []
        self.warmed: list[str] = []
        self.warmed_rows: list[int] = []
        self.warmed_noise: list[str] = []
        self.closed = False
        self._stopping = threading.Event()
        self._draws = random.Random(11)  # so that a test's texts stay the same

    @property
    def info(self) -> EngineInfo:
        self._check()
        return EngineInfo(
            directory=self.directory,
            checkpoint_sha256=SHA256,
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
        words = WORD.findall(normalize_text(text).lower())
        return tuple(_IDS.get(word, UNKNOWN_ID) for word in words)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        self._check()
        return _TABLE[[BOS_ID, *token_ids]]  # (len + 1, vocabulary)

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
        for rows in batches(requests):
            if not self._stopping.is_set():
                events = self._make([requests[row[0]] for row in rows])
                yield from for_requests(events, rows, requests)

    def _make(self, requests: Sequence[Request]) -> Iterator[RowEvent]:
        """An event of each text in turn; the last ones come together at the end."""
        self.requests += requests
        texts = [self._begin(request) for request in requests]
        for row, text in enumerate(texts):
            yield row, text.started
        for events in zip_longest(*map(self._grow, texts)):
            yield from ((n, event) for n, event in enumerate(events) if event)
        counts = [len(text.token_ids) for text in texts]
        timings = Timings(0.5, 0.01, 0.002 * max(counts), len(texts), sum(counts))
        for row, text in enumerate(texts):
            made = text.generation(timings, SHA256)
            if text.request.with_scores:
                made = inspection.with_scores(made, self)
            yield row, Finished(made)

    def _begin(self, request: Request) -> Text:
        limits = {"vocabulary": len(VOCABULARY)}
        spec, _ = choose_sampler(request.sampler, request.parameters, limits)
        text, ids, unknown = self.info.text, request.prompt_ids, ()
        if ids is None:
            ids = self.encode(request.prompt)
            unknown = text.unknown_words(request.prompt, self.encode)
        kept = crop(ids, self.context_length, request.length if spec.search else 1)
        seed = request.seed
        if seed is None:
            seed = self._draws.randrange(SEEDS)
        started = Started(kept, seed, len(ids) - len(kept), unknown)
        return Text(replace(request, seed=seed), started, ids, text)

    def _grow(self, text: Text) -> Iterator[Event]:
        """What happens to a text until it ends."""
        seed, revised = text.started.seed, RevisedText(text.new_decoder)
        draws = np.random.default_rng(seed)
        while text.stop_reason is None:
            index = len(text.token_ids)
            if self._stopping.wait(self.delay):
                text.stop_reason = "interrupted"
            elif index == self.fail_at:
                raise EngineError("the engine's process ended; it will be started anew")
            elif index == self.not_finite_at.get(seed):
                text.stop_reason = "not_finite"
            else:
                yield from self._step(text, revised, draws)

    def _step(
        self, text: Text, revised: RevisedText, draws: np.random.Generator
    ) -> Iterator[Event]:
        """One more token, and what a search tells of it."""
        request, index = text.request, len(text.token_ids)
        spec, values = choose_sampler(request.sampler, request.parameters)
        shows = spec.search.shows if spec.search else ""
        if len(text.seen) + 1 >= self.context_length:
            text.seen = reprimed(text.seen, self.context_length)
            text.reprimed.append(index)
        scores = _TABLE[(BOS_ID, *text.seen)[-1]]
        chosen, details = int(scores.argmax()), None
        if spec.name == "contrastive":
            details = CandidatesWeighed(index, _weigh(scores, values, text.seen))
            chosen = details.rows[0][0]
        elif spec.is_random:
            where = inspection.next_place(text.seen, self)
            shares = inspection.kept_distribution(spec, values, scores, where)
            chosen = int(draws.choice(len(scores), p=shares))
        if shows == "drafts":
            details = DraftVerified(index, (chosen, 3), 1, chosen)
            text.count_drafts(details)
        if request.with_details and details is not None:
            yield details
        is_full = bool(shows) and len(text.seen) + 2 >= self.context_length
        event = text.push(chosen, is_full)
        ids = tuple(text.token_ids)
        if shows == "hypotheses":
            best = Hypothesis(ids, -1.0 * len(ids))
            event = HypothesesChanged((best,), revised.of(ids))
        yield event
        if is_full and text.stop_reason is None:
            text.stop_reason = "context"

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken
        if self.closed:
            raise EngineError("the engine is closed")


def _weigh(
    scores: np.ndarray, values: Mapping[str, Value], seen: Sequence[int]
) -> tuple[tuple[int, float, float, float], ...]:
    """Candidates of contrastive search: a token is like those that were seen."""
    alpha, rows = float(values["alpha"]), []
    shares = inspection.probabilities(scores)
    for candidate in inspection.top_ids(shares, int(values["k"])):
        share, similarity = float(shares[candidate]), 0.9 if candidate in seen else 0.1
        score = (1 - alpha) * share - alpha * similarity
        rows.append((candidate, share, similarity, score))
    return tuple(sorted(rows, key=lambda row: -row[3]))
