"""The text of a search: made step by step, and what each step tells.

How a step is taken, the loop knows.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt_repl.engine.inspection import probabilities, temperature_of
from minigpt_repl.engine.request import (
    CandidatesWeighed,
    DraftVerified,
    Event,
    HypothesesChanged,
    Hypothesis,
)
from minigpt_repl.engine.rows import prompt_window, timed_call
from minigpt_repl.engine.search import Asked, SearchLoop, State
from minigpt_repl.engine.texts import RevisedText, Text
from minigpt_repl.models.language_model import LanguageModel
from minigpt_repl.sampling.beam_samplers import DROPPED, normalized
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.search_samplers import contrast

MOST_CANDIDATES = 10
"""Candidates of contrastive decoding that are told, where more are plausible."""

Candidates = tuple[tuple[int, float, float, float], ...]
"""Ids, probabilities, what is against each, and scores; the best first."""


@dataclass
class Searching:
    """The one text that a search makes."""

    model: LanguageModel
    loop: SearchLoop
    values: Mapping[str, Any]  # the sampler's parameters
    text: Text
    is_stopped: Callable[[], bool]  # whether the text is to end now

    def events(self) -> Iterator[Event]:
        """What happens to the text until it ends."""
        text, shows = self.text, self.loop.search.shows
        beams = Beams(text, self.values)
        first = index = len(text.seen) + 1
        end = min(first + text.request.length, self.model.context_length)
        # A step at a time where something is looked at after each.
        with_details, stop = text.request.with_details, text.request.stop
        is_watched = with_details or stop != "none" or shows == "drafts"
        prompt, seed = prompt_window(self.model, text.seen), text.started.seed
        state = self.loop.begin(self.values, prompt, index, text.first_ids, seed)
        while index < end and text.stop_reason is None:
            if self.is_stopped():
                text.stop_reason = "interrupted"
                break
            # The first step is not to wait for others.
            is_single = is_watched or index == first
            steps = 1 if is_single else min(self.loop.pace, end - index)
            before = state
            state, asked = timed_call(self.loop, self.loop.advance, steps, before)
            if not _are_finite(asked, before, state):
                text.stop_reason = "not_finite"
                break
            if shows == "hypotheses":
                state, changed = beams.follow(state)
                yield changed
            else:
                yield from self._push(index, end, before, state, asked)
            index = int(state["index"])
        best = beams.best()
        if text.stop_reason is None and best and best[0].has_ended:
            text.stop_reason = "stop"
        yield from text.settle(best)

    def _push(
        self, index: int, end: int, before: State, state: State, asked: Asked
    ) -> Iterator[Event]:
        """What the steps from position `index` on chose, and what they weighed."""
        text, place = self.text, len(self.text.token_ids)
        made = state["prompt"].numpy()[0, index : int(state["index"])].tolist()
        if self.loop.search.shows == "drafts":
            verified = draft_verified(place, index, made, asked)
            text.count_drafts(verified)
            if text.request.with_details:
                yield verified
        elif text.request.with_details:
            is_draft = self.loop.search.against == "draft"
            weigh = _contrasts if is_draft else _similarities
            yield CandidatesWeighed(place, weigh(before, asked, self.values))
        for after, token_id in enumerate(made, index + 1):
            if text.stop_reason is None:
                yield text.push(token_id, after >= end)


class Beams:
    """The hypotheses of a beam search: those that go on, and those that have ended."""

    def __init__(self, text: Text, values: Mapping[str, Value]) -> None:
        self._text = text
        self._first = len(text.seen) + 1
        self._groups = int(values.get("num_groups") or 1)
        self._length_penalty = float(values.get("length_penalty") or 0.0)
        self._extended: tuple[Hypothesis, ...] = ()  # those that go on, best first
        self._ended: tuple[Hypothesis, ...] = ()
        self._revised = RevisedText(text.new_decoder)

    def best(self) -> tuple[Hypothesis, ...]:
        """All hypotheses, ended or not, best first."""
        # A stable sort: of equals the one that was first, as in KerasHub.
        found = (*self._ended, *self._extended)
        return tuple(sorted(found, key=lambda each: -each.score))

    def follow(self, state: State) -> tuple[State, HypothesesChanged]:
        """Other hypotheses than before; when as many have ended the search does.

        Each group of diverse beam search is a search of its own in that.

        Args:
            state: the loop's variables after a step.

        Returns:
            The variables without the hypotheses that go on no more, and what changed.
        """
        kept = self._hypotheses(state)
        # A stable sort, as above.
        found = sorted(kept.items(), key=lambda each: -each[1].total)
        self._ended += tuple(each for _, each in found if each.has_ended)
        sizes = Counter(each.group for each in kept.values())
        ended = Counter(each.group for each in self._ended)
        extended = {
            row: each
            for row, each in found
            if not each.has_ended and ended[each.group] < sizes[each.group]
        }
        self._extended = tuple(extended.values())
        if not extended:
            self._text.stop_reason = "stop"
        if self._ended:
            logprobs = state["log_probs"]
            goes_on = [row in extended for row in range(len(logprobs))]
            state = {**state, "log_probs": tf.where(goes_on, logprobs, DROPPED)}
        best = self.best()
        return state, HypothesesChanged(best, self._revised.of(best[0].token_ids))

    def _hypotheses(self, state: State) -> dict[int, Hypothesis]:
        """Those that are kept, by their rows."""
        ids = state["prompt"].numpy()[:, self._first : int(state["index"])].tolist()
        logprobs = state["log_probs"].numpy().tolist()
        penalties = [0.0] * len(logprobs)
        if "penalties" in state:
            penalties = state["penalties"].numpy().tolist()
        return {
            row: self._hypothesis(row, tuple(ids[row]), logprob, penalties[row])
            for row, logprob in enumerate(logprobs)
            if logprob > DROPPED / 2
        }

    def _hypothesis(
        self, row: int, ids: tuple[int, ...], logprob: float, penalty: float
    ) -> Hypothesis:
        total = logprob - penalty
        return Hypothesis(
            token_ids=ids,
            logprob=logprob,
            score=normalized(total, len(ids), self._length_penalty),
            has_ended=self._text.ends_with(ids),
            group=row % self._groups,  # as the sampler puts them there
            penalty=penalty,
        )


def _are_finite(asked: Asked, *states: State) -> bool:
    """Whether what a step was told are numbers, and what the draft model said too."""
    told = [asked.logits]
    told += [each["draft_logits"].numpy() for each in states if "draft_logits" in each]
    # Minus infinity is what ids have that are never chosen.
    return all(np.isfinite(logits.max(axis=-1)).all() for logits in told)


def _similarities(before: State, asked: Asked, values: Mapping[str, Any]) -> Candidates:
    """Of contrastive search; what is against a candidate is its similarity.

    Score = (1 - alpha) * probability - alpha * the largest cosine similarity of
    the candidate's hidden state with an earlier one (Su et al. 2022, "A
    Contrastive Framework for Neural Text Generation", arXiv:2202.06417,
    equation 5).
    """
    index = int(before["index"])
    logits = before["logits"].numpy()[0]
    earlier = before["hidden_states"].numpy()[0, :index]  # (index, hidden)
    candidates = asked.hidden_states  # (k, hidden), each behind the text
    ids = asked.prompt[:, index]
    shares = probabilities(logits, temperature_of(values))[ids]
    # A program for more candidates weighs others, which can't win, and those that the
    # first token can't be.
    count = min(values["k"], int(np.isfinite(logits).sum()))
    weighed = np.lexsort((ids, ~np.isfinite(logits[ids]), -shares))[:count]
    ids, shares, candidates = ids[weighed], shares[weighed], candidates[weighed]
    lengths = np.linalg.norm(candidates, axis=1)[:, None]
    lengths = lengths * np.linalg.norm(earlier, axis=1)[None]
    similarity = (candidates @ earlier.T / lengths).max(axis=1)
    alpha = values["alpha"]
    scores = (1 - alpha) * shares - alpha * similarity
    return _best_first(ids, shares, similarity, scores)


def _contrasts(before: State, asked: Asked, values: Mapping[str, Any]) -> Candidates:
    """Of contrastive decoding; what is against a candidate is the draft's share."""
    logits, draft_logits = asked.logits[0], before["draft_logits"].numpy()[0]
    scores = contrast(np, logits, draft_logits, **values)
    ids = (-scores).argsort(kind="stable")[:MOST_CANDIDATES]
    ids = ids[scores[ids] > -np.inf]
    against = probabilities(draft_logits, values["draft_temperature"])
    return _best_first(ids, probabilities(logits)[ids], against[ids], scores[ids])


def _best_first(*columns: np.ndarray) -> Candidates:
    order = (-columns[-1]).argsort(kind="stable")
    return tuple(zip(*(each[order].tolist() for each in columns), strict=True))


def draft_verified(
    number: int, index: int, made: list[int], asked: Asked
) -> DraftVerified:
    """One round of speculative decoding.

    Args:
        number: of the round's first token, from 0.
        index: its position.
        made: the round's tokens.
        asked: what the round asked: the drafts behind the text.
    """
    drafts = asked.logits.shape[1] - 1
    behind = asked.prompt[0, index : index + drafts].tolist()
    drafted = tuple(each for each in behind if each)
    pairs = zip(drafted, made, strict=False)
    accepted = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return DraftVerified(number, drafted, accepted, made[-1])
