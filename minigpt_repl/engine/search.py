"""Searches, some steps in each call.

Beam search, contrastive search and speculative decoding own their loops, which keep
more than the last token. Every sampler of KerasHub, and of ours, hands its loop to
`run_loop`. Here another function takes its place, which only keeps the loop's body:
some rounds of it are run on variables that come from outside and go out again under the
names that the sampler's registry entry gives them. What is chosen, and how, stays the
sampler's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt_repl.engine.decode import Graph, only
from minigpt_repl.models.language_model import LanguageModel, traces
from minigpt_repl.sampling.beam_samplers import DROPPED
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec, Search
from minigpt_repl.sampling.samplers import RowSeeds

State = dict[str, tf.Tensor]
"""The variables of a sampler's loop, by the names in its registry entry."""


@dataclass(frozen=True)
class Asked:
    """What a search last asked the model, and what it was told."""

    prompt: np.ndarray  # the texts that it asked about, int (rows, context)
    logits: np.ndarray  # (rows, vocabulary), or (1, new, vocabulary) for drafts
    hidden_states: np.ndarray  # of the last tokens, (rows, hidden)


class SearchLoop:
    """A search and a model as two programs: one to begin, one for some steps.

    Args:
        spec: the sampler.
        values: its parameters; those that shape the graph are fixed from now on.
        rows: texts that it can keep; it keeps as many as its parameter says.
        model: the model.
        draft: the draft model, for a sampler that needs one.

    Attributes:
        search: how the sampler searches, and what it shows.
        pace: how many steps a call is to take, learned by who calls.
    """

    def __init__(
        self,
        spec: SamplerSpec,
        values: Mapping[str, Value],
        rows: int,
        model: LanguageModel,
        draft: LanguageModel | None,
    ) -> None:
        assert spec.search is not None
        self.search: Search = spec.search
        self.pace = 1
        self._model = model
        self._draft = draft if spec.needs_draft else None
        self._cache = model.new_cache(rows)
        self._variables = {
            parameter.name: tf.Variable(
                1, dtype=tf.int32 if parameter.kind is int else tf.float32
            )
            for parameter in spec.parameters
            if parameter.is_live
        }
        self._kept = tf.Variable(rows, trainable=False)
        self._kept_later = rows  # from the second step on
        self._seed = tf.Variable(0, trainable=False)
        # What the first token may be, and its position.
        self._first = tf.Variable(tf.zeros(model.logits_size), dtype=tf.float32)
        self._first_at = tf.Variable(-1, dtype=tf.int32)
        if self.search.rows is not None:
            values = {**values, self.search.rows: rows}
        self._sampler = spec.make({**values, **self._variables})
        self._sampler.kept = self._kept
        self._sampler.seed_generator = RowSeeds()
        # While it is traced: whether the models are asked, what they were asked.
        self._is_asking = True
        self._asked: tuple[tf.Tensor, ...] = ()
        self._start = tf.function(self._run_start, autograph=False)
        self._advance = Graph(self._run_advance)
        self._draft_cache: Any = None
        if self._draft is not None:
            self._draft_cache = self._draft.new_cache(1)

    def begin(
        self,
        values: Mapping[str, Value],
        token_ids: np.ndarray,
        length: int,
        first_ids: frozenset[int] | None = None,
        seed: int = 0,
    ) -> State:
        """Read a prompt.

        Args:
            values: the sampler's parameters.
            token_ids: int32 `(1, context)`, padded at the end.
            length: how many of them are the prompt.
            first_ids: what the first token is one of, if not any.
            seed: of the draws.

        Returns:
            The state before the first step.
        """
        for name, variable in self._variables.items():
            variable.assign(values[name])
        self._seed.assign(seed)
        self._kept_later = self.search.kept(values, self._model.allowed_count)
        self._kept.assign(self._kept_later)
        self._first_at.assign(-1 if first_ids is None else length)
        if first_ids is not None:
            if self.search.shows == "candidates":
                # Of more candidates some would be tokens that the first can't be.
                self._kept.assign(min(self._kept_later, len(first_ids)))
            self._first.assign(only(first_ids, self._model.logits_size))
        prompt = tf.constant(token_ids)
        if length == 1 and "hidden_states" not in self.search.state:
            # Nothing comes before what the first step reads.
            self._cache.clear()
            hidden_states = tf.zeros((*prompt.shape, self._model.hidden_dim))
        else:
            _, hidden_states, cache = self._model.prefill(prompt)
            self._cache.fill(cache)
        if self._draft is not None:
            self._draft_cache.fill(self._draft.prefill(prompt)[2])
        self._mask = tf.constant(np.arange(token_ids.shape[1])[None] < length)
        return self._named(
            self._start(prompt, tf.constant(length), self._mask, hidden_states)
        )

    def advance(self, steps: int, state: State) -> tuple[State, Asked]:
        """Take some steps of the loop, fewer where the context ends.

        Args:
            steps: how many at most; the first of a text is taken alone.
            state: from `begin` or the last call.

        Returns:
            The state after them, and what was asked in the last of them.
        """
        ordered = [state[name] for name in self.search.state]
        made, asked = self._advance(ordered, self._mask, tf.constant(steps))
        self._kept.assign(self._kept_later)
        return self._named(made), Asked(*(each.numpy() for each in asked))

    def _named(self, variables: list[tf.Tensor]) -> State:
        return dict(zip(self.search.state, variables, strict=True))

    def _run_start(
        self,
        prompt: tf.Tensor,
        length: tf.Tensor,
        mask: tf.Tensor,
        hidden_states: tf.Tensor,
    ) -> list[tf.Tensor]:
        traces["start"] += 1
        _, _, variables = self._loop_of(prompt, length, mask, hidden_states)
        return [tf.convert_to_tensor(each) for each in variables]

    def _run_advance(
        self, state: list[tf.Tensor], mask: tf.Tensor, steps: tf.Tensor
    ) -> tuple[list[tf.Tensor], tuple[tf.Tensor, ...]]:
        traces["advance"] += 1
        # What is outside of the loop works on nothing, and is pruned.
        context, width = self._model.context_length, self._model.hidden_dim
        nothing = tf.zeros((1, context), tf.int32), tf.constant(0)
        self._is_asking = False
        cond, body, _ = self._loop_of(*nothing, mask, tf.zeros((1, context, width)))
        self._is_asking = True
        return self._rounds(cond, body, state, steps)

    def _rounds(
        self,
        cond: Callable[..., Any],
        body: Callable[..., Any],
        state: list[tf.Tensor],
        steps: tf.Tensor,
    ) -> tuple[list[tf.Tensor], tuple[tf.Tensor, ...]]:
        """The loop's variables after some rounds, and what was asked in the last."""
        names = self.search.state
        place = names.index("index")
        ranked = names.index(self.search.ranked) if self.search.ranked else None

        def go_on(step: Any, state: Any, asked: Any) -> Any:
            has_room = state[place] < self._model.context_length
            return (step < steps) & has_room & cond(*state)

        def advance(step: Any, state: Any, asked: Any) -> Any:
            state = list(body(*state))
            if ranked is not None:
                state[ranked] = _best(state[ranked], self._kept)
            return step + 1, state, self._asked

        _, state, asked = tf.while_loop(
            go_on, advance, (tf.constant(0), state, self._nothing_asked())
        )
        return state, asked

    def _nothing_asked(self) -> tuple[tf.Tensor, ...]:
        rows = self._cache.rows
        logits: tuple[int, ...] = (rows, self._model.logits_size)
        if self.search.shows == "drafts":
            drafted = self._sampler.num_speculative_tokens
            logits = (1, drafted + 1, self._model.logits_size)
        prompt = tf.zeros((rows, self._model.context_length), tf.int32)
        return prompt, tf.zeros(logits), tf.zeros((rows, self._model.hidden_dim))

    def _loop_of(
        self,
        prompt: tf.Tensor,
        index: tf.Tensor,
        mask: tf.Tensor,
        hidden_states: tf.Tensor,
    ) -> tuple[Any, ...]:
        """The condition, body and first variables of the sampler's loop."""
        loop: tuple[Any, ...] = ()

        def run_loop(cond: Any, body: Any, loop_vars: Any, **unused: Any) -> Any:
            nonlocal loop
            loop = cond, body, loop_vars
            return loop_vars

        self._sampler.run_loop = run_loop
        # Instead of keys and values, which stay where they are, a sampler gets the
        # number of the row that a text is in, to copy and select as it likes.
        row = tf.zeros((1, 1), tf.int32)
        more: dict[str, Any] = {}
        if self._draft is not None:
            more = {"draft_next": self._draft_next, "draft_cache": row}
        if self.search.shows == "drafts":
            more["verify_next"] = self._verify_next
        self._sampler.seed_generator.current = tf.stack([[self._seed, 0]])
        self._sampler(
            next=self._next,
            prompt=prompt,
            cache=row,
            index=index,
            mask=mask,
            hidden_states=hidden_states,
            **more,
        )
        return loop

    def _next(
        self, prompt: tf.Tensor, rows: tf.Tensor, index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Scores of the next token of each text, which go on from `rows`."""
        if not self._is_asking:
            return self._no_answer(rows)
        count, size = prompt.shape[0], self._cache.rows
        last = tf.gather(prompt, [index - 1], axis=1)  # (count, 1)
        if size > 1:
            parents = tf.pad(rows[:, 0], [[0, size - count]])
            last = tf.pad(last, [[0, size - count], [0, 0]])
            self._cache.select(parents)
        logits, hidden_states = self._model.decode_step(last, self._cache, index - 1)
        logits, hidden_states = logits[:count, 0], hidden_states[:count, 0]
        logits = self._bound(logits, index)
        self._asked = (prompt, logits, hidden_states)
        return logits, hidden_states, tf.range(count)[:, None]

    def _no_answer(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # Before the loop of a text that was begun long ago there is nothing to ask.
        logits = tf.zeros((1, self._model.logits_size))
        return logits, tf.zeros((1, self._model.hidden_dim)), rows

    def _draft_next(
        self, prompt: tf.Tensor, rows: tf.Tensor, index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The draft model's scores for position `index`."""
        if not self._is_asking:
            return self._no_answer(rows)
        # After a round whose drafts were all accepted, the last of them was never
        # seen by the draft model. So it always reads the last two tokens.
        start = tf.maximum(index - 2, 0)
        last = tf.gather(prompt, start + tf.range(2), axis=1)  # (1, 2)
        assert self._draft is not None
        logits, hidden_states = self._draft.decode_step(last, self._draft_cache, start)
        place = index - 1 - start
        return (
            self._bound(tf.gather(logits, place, axis=1), index),
            tf.gather(hidden_states, place, axis=1),
            rows,
        )

    def _verify_next(
        self, prompt: tf.Tensor, rows: tf.Tensor, index: tf.Tensor, k: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The model's scores for positions `index` to `index + k`."""
        # Near the end of the context the window is moved left; places past the end
        # get the scores of the last one, and the sampler writes none of them.
        start = tf.minimum(index - 1, self._model.context_length - (k + 1))
        window = tf.gather(prompt, start + tf.range(k + 1), axis=1)  # (1, k + 1)
        logits, hidden_states = self._model.decode_step(window, self._cache, start)
        places = tf.minimum(index - 1 - start + tf.range(k + 1), k)
        logits = tf.gather(logits, places, axis=1)  # (1, k + 1, vocabulary)
        logits = self._bound(logits, (index + tf.range(k + 1))[:, None])
        self._asked = (prompt, logits, hidden_states[:, -1])
        return logits, rows

    def _bound(self, logits: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """Logits of the tokens at `index`; of the first only what it may be."""
        return logits + tf.where(index == self._first_at, self._first, 0.0)


def _best(scores: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Scores `(rows,)` of which the best stay and the others are `DROPPED`."""
    ids = tf.range(scores.shape[0])
    ties = (scores[None] == scores[:, None]) & (ids[None] < ids[:, None])
    is_before = (scores[None] > scores[:, None]) | ties  # (rows, rows)
    rank = tf.reduce_sum(tf.cast(is_before, tf.int32), axis=1)
    return tf.where(rank < count, scores, DROPPED)
