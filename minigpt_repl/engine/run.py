"""One text being made: sampler steps taken, events given out.

A `Run` drives a `SteppedSampler` for the engine. Samplers that go token by token
are begun anew when the context is full; those that revise their text give
`HypothesesChanged`, and their tokens at the end. Knows words as pieces of text,
and nothing of how a sampler chooses.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from minigpt_repl.engine.details import candidates_weighed, draft_verified
from minigpt_repl.engine.inspection import kept_mask, score_tokens, text_logits
from minigpt_repl.engine.one_step import State, Step
from minigpt_repl.engine.request import (
    Event,
    Finished,
    Generation,
    HypothesesChanged,
    Hypothesis,
    Reprimed,
    Request,
    Started,
    StopReason,
    Timings,
    Token,
    TokenChosen,
    TokenScore,
)
from minigpt_repl.engine.stepwise import SteppedSampler
from minigpt_repl.models import packing
from minigpt_repl.models.text.sentence import SentenceEnds, ends_sentence
from minigpt_repl.models.text.stream import RevisedText, TextStream
from minigpt_repl.models.text.vocabulary import Vocabulary
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec

Events = Generator[Event, None, StopReason]
Scores = list[TokenScore | None]


@dataclass(frozen=True)
class Surroundings:
    """What a run needs of the engine.

    Attributes:
        vocabulary: the model's words.
        context: positions of the model.
        lowercase: whether the tokenizer folds case.
        logits: `Engine.logits`.
        is_stopped: whether the text is to end now.
        checkpoint_sha256: identifies the model.
        load_s: seconds of loading to report.
    """

    vocabulary: Vocabulary
    context: int
    lowercase: bool
    logits: Callable[[tuple[int, ...]], np.ndarray]
    is_stopped: Callable[[], bool]
    checkpoint_sha256: str
    load_s: float


class Run:
    """One request on its way.

    Args:
        request: with its seed filled in.
        spec: the sampler that chooses; greedy where the temperature is 0.
        values: its parameters.
        sampler: the same, ready to run.
        started: what became of the prompt.
        prompt_ids: all tokens of the prompt, before it was cropped.
        around: the engine.
    """

    def __init__(
        self,
        request: Request,
        spec: SamplerSpec,
        values: Mapping[str, Value],
        sampler: SteppedSampler,
        started: Started,
        prompt_ids: tuple[int, ...],
        around: Surroundings,
    ) -> None:
        self._request, self._spec, self._values = request, spec, values
        self._sampler, self._started, self._around = sampler, started, around
        self._prompt_words = around.vocabulary.pieces(prompt_ids)
        self._seen = started.prompt_ids  # what the model reads, without [BOS]
        self._mask: tf.Tensor
        self._tokens: list[Token] = []
        self._text = ""
        self._stream = self._new_stream()
        self._sentences: SentenceEnds | None = None
        if request.stop == "sentence":
            self._sentences = SentenceEnds()
            for word in self._prompt_words:
                self._sentences.push(word)
        self._reprimed: list[int] = []
        self._accepted = self._drafted = 0
        self._clock = time.perf_counter()
        self._first_token_s = 0.0

    def events(self) -> Iterator[Event]:
        """All events after `Started`."""
        self._clock = time.perf_counter()
        self._sampler.reset(self._values, self._started.seed)
        state = self._begin()
        is_revising = self._sampler.hypotheses(state) is not None
        reason = yield from (self._revise(state) if is_revising else self._go(state))
        self._text += self._stream.flush()
        yield Finished(self._generation(reason))

    def _begin(self) -> State:
        ids = packing.window(self._seen, self._around.context)
        length = len(self._seen) + 1
        self._mask = tf.constant(np.arange(self._around.context)[None] < length)
        return self._sampler.begin(tf.constant(ids), length)

    def _go(self, state: State) -> Events:
        """Token by token, or some tokens at a time; none of them is revised."""
        context = self._around.context
        index = len(self._seen) + 1
        while len(self._tokens) < self._request.length:
            if self._around.is_stopped():
                return "interrupted"
            if index >= context:
                if self._spec.is_whole_sequence:
                    return "context"
                self._seen = packing.reprimed(self._seen, context)
                self._reprimed.append(len(self._tokens))
                yield Reprimed(len(self._tokens), len(self._seen))
                state, index = self._begin(), len(self._seen) + 1
            # The first token is given out before the second is begun.
            is_last = len(self._tokens) + 1 == self._request.length
            go_on = bool(self._tokens) and not is_last and index + 1 < context
            step = self._sampler.step(state, self._mask, go_on)
            after = int(step.index)
            ids = tuple(step.text.numpy()[0, index:after].tolist())
            self._seen = (*self._seen, *ids)
            yield from self._detail(state, step, index)
            for id_, score in zip(ids, self._scores(state, step, ids), strict=True):
                is_full = self._spec.is_whole_sequence and after >= context
                ends = self._ends(id_)
                yield self._choose(id_, score, ends or (is_full and id_ is ids[-1]))
                if ends:
                    return "stop"
                if len(self._tokens) == self._request.length:
                    break
            state, index = step.state, after
        return "length"

    def _revise(self, state: State) -> Events:
        """Several texts side by side; the best is given out at the end."""
        first = index = len(self._seen) + 1
        end = first + self._request.length
        reason: StopReason = "length" if end <= self._around.context else "context"
        survivors: tuple[Hypothesis, ...] = ()
        revised = RevisedText(self._new_stream)
        end = min(end, self._around.context)
        while index < end:
            if self._around.is_stopped():
                reason = "interrupted"
                break
            go_on = first < index < end - 1
            state = self._sampler.step(state, self._mask, go_on).state
            index += 1
            before, survivors = survivors, self._survivors(state, first, index)
            self._note_first_token()
            words = self._around.vocabulary.pieces(survivors[0].token_ids)
            pruned = _pruned(before, survivors)
            yield HypothesesChanged(survivors, revised.of(words), pruned)
            is_late = 2 * len(words) >= self._request.length
            text_words = (*self._prompt_words, *words)
            if self._sentences and is_late and ends_sentence(text_words):
                reason = "stop"
                break
        ids = survivors[0].token_ids if survivors else ()
        self._seen = (*self._seen, *ids)
        scores = self._scores_in_text(ids)
        for id_, score in zip(ids, scores, strict=True):
            yield self._choose(id_, score, len(self._tokens) == len(ids) - 1)
        return reason

    def _ends(self, id_: int) -> bool:
        """Whether a token ends the text, by the stop rule."""
        if self._sentences is None:
            return False
        is_end = self._sentences.push(self._around.vocabulary.word(id_))
        return is_end and 2 * (len(self._tokens) + 1) >= self._request.length

    def _choose(self, id_: int, score: TokenScore | None, is_last: bool) -> TokenChosen:
        self._note_first_token()
        word = self._around.vocabulary.word(id_)
        index = len(self._tokens)
        self._tokens.append(Token(id_, word, score))
        delta = self._stream.push(word)
        if is_last or index + 1 == self._request.length:
            delta += self._stream.flush()
        self._text += delta
        return TokenChosen(index, self._tokens[-1], delta)

    def _detail(self, before: State, step: Step, index: int) -> Iterator[Event]:
        number = len(self._tokens)
        if self._sampler.is_drafting:
            verified = draft_verified(number, index, step)
            self._accepted += verified.accepted
            self._drafted += len(verified.drafted)
            if self._request.with_details:
                yield verified
        elif self._request.with_details and step.look.logits.shape[0] > 1:
            yield candidates_weighed(number, index, before, step, self._values)

    def _scores(self, before: State, step: Step, ids: tuple[int, ...]) -> Scores:
        """Scores of the tokens of one step; `self._seen` ends with them."""
        if not self._request.with_scores:
            return [None] * len(ids)
        rows = self._sampler.logits_behind(before, step, len(ids))
        if rows is None:
            return self._scores_in_text(ids)
        return self._rated(rows[:, : len(self._around.vocabulary)], ids)

    def _scores_in_text(self, ids: tuple[int, ...]) -> Scores:
        if not self._request.with_scores:
            return [None] * len(ids)
        return self._rated(text_logits(self._around.logits(self._seen), len(ids)), ids)

    def _rated(self, rows: np.ndarray, ids: tuple[int, ...]) -> Scores:
        kept = [kept_mask(self._spec, self._values, row) for row in rows]
        return list(score_tokens(rows, ids, kept))

    def _survivors(
        self, state: State, first: int, index: int
    ) -> tuple[Hypothesis, ...]:
        texts, logprobs = self._sampler.hypotheses(state) or ((), ())
        found = [
            Hypothesis(tuple(text[first:index].tolist()), float(logprob))
            for text, logprob in zip(texts, logprobs, strict=True)
        ]
        # A stable sort: of equals KerasHub takes the first, too.
        return tuple(sorted(found, key=lambda each: -each.logprob))

    def _new_stream(self) -> TextStream:
        prompt, words = self._request.prompt, self._prompt_words
        return TextStream.after(prompt, words, self._around.lowercase)

    def _note_first_token(self) -> None:
        if not self._first_token_s:
            self._first_token_s = time.perf_counter() - self._clock

    def _generation(self, reason: StopReason) -> Generation:
        decode_s = time.perf_counter() - self._clock
        is_drafting = self._sampler.is_drafting
        return Generation(
            request=self._request,
            started=self._started,
            tokens=tuple(self._tokens),
            text=self._text,
            raw_text=" ".join(t.text for t in self._tokens).replace(" ##", ""),
            stop_reason=reason,
            timings=Timings(self._around.load_s, self._first_token_s, decode_s),
            reprimed=tuple(self._reprimed),
            accepted=(self._accepted, self._drafted) if is_drafting else None,
            checkpoint_sha256=self._around.checkpoint_sha256,
        )


def _pruned(
    before: tuple[Hypothesis, ...], survivors: tuple[Hypothesis, ...]
) -> tuple[Hypothesis, ...]:
    """The hypotheses of which no extension survived, best first."""
    parents = {each.token_ids[:-1] for each in survivors}
    return tuple(each for each in before if each.token_ids not in parents)
