"""The text of a search: made step by step, and what each step tells.

How a step is taken, the loop knows.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
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
    RowEvent,
)
from minigpt_repl.engine.rows import Pace, prompt_window
from minigpt_repl.engine.search import Asked, SearchLoop, State
from minigpt_repl.engine.texts import RevisedText, Text
from minigpt_repl.models.language_model import LanguageModel
from minigpt_repl.sampling.beam_samplers import DROPPED, normalized
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import Search
from minigpt_repl.sampling.search_samplers import contrast

MOST_CANDIDATES = 10
"""Candidates of contrastive decoding that are told, where more are plausible."""

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of candidates their ids, probabilities, what is against each, and scores."""


class Searching:
    """The one text that a search makes.

    Args:
        model: the model.
        loop: of the model and the sampler.
        values: its parameters.
        text: the text.
        pace: how many steps a call takes, kept from text to text.
        is_stopped: whether the text is to end now.
    """

    def __init__(
        self,
        model: LanguageModel,
        loop: SearchLoop,
        values: Mapping[str, Value],
        text: Text,
        pace: Pace,
        is_stopped: Callable[[], bool],
    ) -> None:
        self._loop, self._values, self._text = loop, values, text
        self._pace, self._is_stopped = pace, is_stopped
        self._prompt = prompt_window(model, text.seen)
        self._first = len(text.seen) + 1
        self._end = min(self._first + text.request.length, model.context_length)
        self._extended: tuple[Hypothesis, ...] = ()  # those that go on, best first
        self._ended: tuple[Hypothesis, ...] = ()
        self._revised = RevisedText(text.new_decoder)
        self._groups = int(values.get("num_groups") or 1)
        # A step at a time where something is looked at after each.
        self._is_watched = (
            text.request.with_details
            or text.request.stop != "none"
            or loop.search.shows == "drafts"
        )

    def events(self) -> Iterator[RowEvent]:
        """What happens to the text until it ends."""
        text, index = self._text, self._first
        state = self._loop.begin(
            self._values, self._prompt, index, text.first_ids, text.started.seed
        )
        while index < self._end and text.stop_reason is None:
            if self._is_stopped():
                text.stop_reason = "interrupted"
                break
            before, steps = state, self._steps(index)
            state, asked = self._pace.call(self._loop.advance, steps, before)
            if not np.isfinite(asked.logits.max(axis=-1)).all():
                text.stop_reason = "not_finite"
                break
            yield from ((0, event) for event in self._tell(index, before, state, asked))
            index = int(state["index"])
            if self._loop.search.shows == "hypotheses":
                state = self._without_ended(state)
        best = self._best()
        if text.stop_reason is None and best and best[0].has_ended:
            text.stop_reason = "stop"
        yield from ((0, event) for event in text.settle(best))

    def _steps(self, index: int) -> int:
        # The first step is not to wait for others.
        if self._is_watched or index == self._first:
            return 1
        return min(self._pace.count, self._end - index)

    def _tell(
        self, index: int, before: State, state: State, asked: Asked
    ) -> Iterator[Event]:
        """What the steps from position `index` on did."""
        text, shows = self._text, self._loop.search.shows
        if shows == "hypotheses":
            yield self._revise(state)
            return
        place, wants_details = len(text.token_ids), text.request.with_details
        if shows == "drafts":
            verified = draft_verified(place, index, state, asked)
            text.count_drafts(verified)
            if wants_details:
                yield verified
        elif wants_details:
            yield candidates_weighed(
                self._loop.search, place, before, asked, self._values
            )
        made = state["prompt"].numpy()[0, index : int(state["index"])].tolist()
        for after, token_id in enumerate(made, index + 1):
            if text.stop_reason is None:
                yield text.push(token_id, after >= self._end)

    def _revise(self, state: State) -> HypothesesChanged:
        """Other hypotheses than before; when as many have ended the search does.

        Each group of diverse beam search is a search of its own in that.
        """
        kept = hypotheses(state, self._first, self._groups)
        found = tuple(map(self._ranked, kept))
        self._ended += tuple(each for each in found if each.has_ended)
        sizes = Counter(each.group for each in found)
        ended = Counter(each.group for each in self._ended)
        self._extended = tuple(
            each
            for each in found
            if not each.has_ended and ended[each.group] < sizes[each.group]
        )
        if not self._extended:
            self._text.stop_reason = "stop"
        best = self._best()
        return HypothesesChanged(best, self._revised.of(best[0].token_ids))

    def _ranked(self, found: Hypothesis) -> Hypothesis:
        length_penalty = self._values.get("length_penalty", 0.0)
        assert isinstance(length_penalty, float)
        score = normalized(found.total, len(found.token_ids), length_penalty)
        has_ended = self._text.ends_with(found.token_ids)
        return replace(found, score=score, has_ended=has_ended)

    def _best(self) -> tuple[Hypothesis, ...]:
        """All hypotheses, ended or not, best first."""
        # A stable sort: of equals the one that was first, as in KerasHub.
        found = (*self._ended, *self._extended)
        return tuple(sorted(found, key=lambda each: -each.score))

    def _without_ended(self, state: State) -> State:
        """The loop's variables with those hypotheses given up that go on no more."""
        if not self._ended:
            return state
        extended = {(each.group, each.token_ids) for each in self._extended}
        texts = state["prompt"].numpy()[:, self._first : int(state["index"])].tolist()
        goes_on = [
            (n % self._groups, tuple(text)) in extended for n, text in enumerate(texts)
        ]
        logprobs = tf.where(goes_on, state["log_probs"], DROPPED)
        return {**state, "log_probs": logprobs}


def hypotheses(state: State, first: int, groups: int) -> tuple[Hypothesis, ...]:
    """The texts that beam search keeps, best first.

    Args:
        state: the loop's variables.
        first: the position from which on they are new.
        groups: how many there are; text n is of group n % groups.
    """
    texts, logprobs = state["prompt"].numpy(), state["log_probs"].numpy()
    texts = texts[:, first : int(state["index"])].tolist()
    penalties = np.zeros_like(logprobs)
    if "penalties" in state:
        penalties = state["penalties"].numpy()
    found = [
        Hypothesis(
            tuple(text), float(logprob), group=n % groups, penalty=float(penalty)
        )
        for n, (text, logprob, penalty) in enumerate(
            zip(texts, logprobs, penalties, strict=True)
        )
        if logprob > DROPPED / 2
    ]
    # A stable sort: of equals KerasHub takes the first, too.
    return tuple(sorted(found, key=lambda each: -each.total))


def candidates_weighed(
    search: Search, number: int, before: State, asked: Asked, values: Mapping[str, Any]
) -> CandidatesWeighed:
    """The candidates of one step, best first.

    Args:
        search: which of them.
        number: of the new token, from 0.
        before: the loop's variables before the step.
        asked: what the step asked.
        values: the sampler's parameters.
    """
    weigh = _similarities if search.against == "similarity" else _contrasts
    ids, shares, against, scores = weigh(before, asked, values)
    order = (-scores).argsort(kind="stable")
    columns = (each[order].tolist() for each in (ids, shares, against, scores))
    return CandidatesWeighed(number, tuple(zip(*columns, strict=True)))


def _similarities(before: State, asked: Asked, values: Mapping[str, Any]) -> Columns:
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
    return ids, shares, similarity, (1 - alpha) * shares - alpha * similarity


def _contrasts(before: State, asked: Asked, values: Mapping[str, Any]) -> Columns:
    """Of contrastive decoding; what is against a candidate is the draft's share."""
    logits, draft_logits = asked.logits[0], before["draft_logits"].numpy()[0]
    scores = contrast(np, logits, draft_logits, **values)
    ids = (-scores).argsort(kind="stable")[:MOST_CANDIDATES]
    ids = ids[scores[ids] > -np.inf]
    against = probabilities(draft_logits, values["draft_temperature"])
    return ids, probabilities(logits)[ids], against[ids], scores[ids]


def draft_verified(
    number: int, index: int, state: State, asked: Asked
) -> DraftVerified:
    """One round of speculative decoding.

    Args:
        number: of the round's first token, from 0.
        index: its position.
        state: the loop's variables after the round.
        asked: what the round asked: the drafts behind the text.
    """
    drafts = asked.logits.shape[1] - 1
    drafted = [
        each for each in asked.prompt[0, index : index + drafts].tolist() if each
    ]
    chosen = state["prompt"].numpy()[0, index : int(state["index"])].tolist()
    accepted = 0
    for draft, own in zip(drafted, chosen, strict=False):
        if draft != own:
            break
        accepted += 1
    return DraftVerified(number, tuple(drafted), accepted, chosen[-1])
