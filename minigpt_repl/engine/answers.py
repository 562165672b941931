"""The samplers' view of the models: what they call `next`, and the like.

Knows slots of keys and values, and nothing of how a sampler chooses.
"""

from typing import Any

import tensorflow as tf

from minigpt_repl.engine.cached_model import CachedModel, Slots
from minigpt_repl.engine.one_step import Look

Answer = tuple[tf.Tensor, ...]
"""Logits `(rows, vocabulary)`, hidden states `(rows, hidden)` and the rows that the
texts are in, int `(rows, 1)`; or nothing. There may be more rows than texts."""


class Answers:
    """What a sampler asks while one of its steps is traced.

    Args:
        sampler: a `Stepwise` sampler.
        target: the model.
        slots: of the model, as many as the sampler has texts.
        draft_slots: of the draft model, if the sampler has one.

    Attributes:
        known: the answer to the first question, if the model was asked before.
        looks: what was asked and answered.
    """

    def __init__(
        self, sampler: Any, target: CachedModel, slots: Slots, draft_slots: Slots | None
    ) -> None:
        self._sampler, self._target = sampler, target
        self._slots, self._draft_slots = slots, draft_slots
        self.known: Answer = ()
        self.looks: list[Look] = []

    def ask(self, prompt: tf.Tensor, rows: tf.Tensor, index: tf.Tensor) -> Answer:
        """Scores for position `index` of `prompt`; see `Slots.look_ahead`."""
        return self._slots.look_ahead(prompt, rows, index)

    def nothing(self) -> Answer:
        """Zeros of the shapes that `ask` returns."""
        rows = self._slots.rows
        logits = tf.zeros((rows, self._target.row_count))
        hidden_states = tf.zeros((rows, self._target.hidden_dim))
        return logits, hidden_states, tf.zeros((rows, 1), tf.int32)

    def trace(self) -> None:
        """Trace what `ask` runs, which else its first call does."""
        self._slots.trace()

    def next(
        self, prompt: tf.Tensor, rows: tf.Tensor, index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """`ask` in a graph that is being traced, or the answer that is known."""
        is_begun = self._sampler.injected is not None
        if is_begun and not self._sampler.is_inside:
            # Before the loop of a text that was begun long ago.
            logits = tf.zeros((1, self._target.row_count))
            return logits, tf.zeros((1, self._target.hidden_dim)), rows
        answer = self.known or of_texts(self.ask(prompt, rows, index), prompt.shape[0])
        logits, hidden_states, rows = answer
        self.looks.append(Look(prompt, logits, hidden_states))
        return logits, hidden_states, rows

    def draft_next(
        self, prompt: tf.Tensor, rows: tf.Tensor, index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The draft model's scores for position `index`."""
        # After a round whose drafts were all accepted, the last of them was never
        # seen by the draft model. So it always reads the last two tokens.
        assert self._draft_slots is not None
        start = tf.maximum(index - 2, 0)
        last = tf.gather(prompt, start + tf.range(2), axis=1)  # (1, 2)
        logits, hidden_states = self._draft_slots.advance(last, start)
        place = index - 1 - start
        return (
            tf.gather(logits, place, axis=1),
            tf.gather(hidden_states, place, axis=1),
            rows,
        )

    def verify_next(
        self, prompt: tf.Tensor, rows: tf.Tensor, index: tf.Tensor, k: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The model's scores for positions `index` to `index + k`."""
        # Near the end of the context the window is moved left; places past the end
        # get the scores of the last one, and the sampler writes none of them.
        start = tf.minimum(index - 1, self._target.context_length - (k + 1))
        window = tf.gather(prompt, start + tf.range(k + 1), axis=1)  # (1, k + 1)
        logits, hidden_states = self._slots.advance(window, start)
        places = tf.minimum(index - 1 - start + tf.range(k + 1), k)
        logits = tf.gather(logits, places, axis=1)  # (1, k + 1, vocabulary)
        self.looks.append(Look(prompt, logits, hidden_states[:, -1]))
        return logits, rows


def of_texts(answer: Answer, count: int) -> Answer:
    """An answer for so many texts: without the rows that none is in."""
    return tuple(each if each.shape[0] == count else each[:count] for each in answer)
