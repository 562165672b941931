"""A causal LM made ready for decoding: XLA steps, keys and values kept in place.

What the engine needs of a model is three things: to read a whole window in one
pass, to score new tokens after those it keeps the keys and values of, and to do
so for several texts side by side, of which some are dropped and some doubled.
Works with any KerasHub `CausalLM` that has a backbone with `empty_cache`, and a
`call_with_cache` that can be traced for unknown numbers of texts and tokens. Knows
no sampler and no words.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from minigpt_repl.engine.direct import Direct
from minigpt_repl.models.weights import Weight, fixed_weights

Cache = Any
"""Tensors in any structure, each with the texts as its first axis."""

ROW_COUNTS = (1, 5, 10, 20, 64)
"""Texts side by side that a step is compiled for; other numbers are filled up."""


class CachedModel:
    """The compiled passes of one model.

    The weights are copied for the compiled steps and must not change: passing
    variables would more than double the cost of a step.

    Args:
        causal_lm: a KerasHub `CausalLM`.
        masked_ids: ids that are never to be chosen; their logits are minus
            infinity, as are those of rows from `vocabulary_size` on.
        vocabulary_size: ids that have a word.
        on_trace: called whenever a graph is traced.
    """

    def __init__(
        self,
        causal_lm: Any,
        masked_ids: Sequence[int],
        vocabulary_size: int,
        on_trace: Callable[[], None],
    ) -> None:
        self._causal_lm = causal_lm
        self._on_trace = on_trace
        self.context_length = int(causal_lm.backbone.max_sequence_length)
        self.row_count = int(causal_lm.backbone.vocabulary_size)
        self.hidden_dim = int(causal_lm.backbone.hidden_dim)
        bias = np.zeros(self.row_count, np.float32)
        bias[list(masked_ids)] = -np.inf
        bias[vocabulary_size:] = -np.inf
        self._bias = bias
        self.allowed_count = int(np.isfinite(bias).sum())
        self._slots: dict[int, Slots] = {}
        self._traced: dict[bool, Any] = {}  # whether for one new token
        # As fast without XLA, and a compile would cost seconds and 100 MB.
        self.read = tf.function(self._read, autograph=False)

    @cached_property
    def _weights(self) -> list[Weight]:
        return fixed_weights(self._causal_lm.variables)

    def slots(self, count: int) -> "Slots":
        """Room for at least `count` texts side by side; made when first asked."""
        count = next((rows for rows in ROW_COUNTS if rows >= count), count)
        if count not in self._slots:
            self._slots[count] = Slots(self, count)
        return self._slots[count]

    def empty_cache(self, rows: int) -> Cache:
        """Keys and values of no tokens."""
        cache: Cache = self._causal_lm.backbone.empty_cache(rows, self.context_length)
        return cache

    def call_frozen(
        self, token_ids: tf.Tensor, cache: Cache, start: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, Cache]:
        """`call` with the weights as inputs of the graph that is traced."""
        traced = self._any_shape(token_ids.shape[1] == 1)
        logits, hidden_states, updated = traced(token_ids, cache, start)
        for made in (logits, hidden_states):
            made.set_shape((*token_ids.shape, *made.shape[2:]))
        for made, kept in _pairs(updated, cache):
            made.set_shape(kept.shape)
        return logits, hidden_states, updated

    def _any_shape(self, is_one: bool) -> Any:
        # To trace takes a quarter of the time of a first use. One trace serves every
        # number of rows, another all numbers of new tokens above one: XLA compiles for
        # each, and then knows the shapes.
        if is_one not in self._traced:
            specs = (
                tf.TensorSpec((None, 1 if is_one else None), tf.int32),
                tf.nest.map_structure(
                    lambda each: tf.TensorSpec((None, *each.shape[1:]), each.dtype),
                    self.empty_cache(1),
                ),
                tf.TensorSpec((), tf.int32),
            )
            function = tf.function(self._call_frozen, autograph=False)
            with tf.init_scope():  # outside of the graph that asks for it
                self._traced[is_one] = function.get_concrete_function(*specs)
        return self._traced[is_one]

    def _call_frozen(
        self, token_ids: tf.Tensor, cache: Cache, start: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, Cache]:
        with tf.init_scope():  # where variables have values
            weights = self._weights
        frozen = [(weight.variable, weight.turn(weight.given)) for weight in weights]
        with keras.StatelessScope(state_mapping=frozen):
            return self.call(token_ids, cache, start)

    def call(
        self, token_ids: tf.Tensor, cache: Cache, start: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, Cache]:
        """The model's own `call_with_cache`, with ids masked.

        Args:
            token_ids: int tensor `(rows, new)`.
            cache: keys and values of the earlier tokens.
            start: position of the first of the new tokens.

        Returns:
            Logits `(rows, new, vocabulary)` as float32, hidden states
            `(rows, new, hidden)` and the cache with the new tokens in it.
        """
        self._on_trace()
        logits, hidden_states, cache = self._causal_lm.call_with_cache(
            token_ids, cache, start
        )
        return tf.cast(logits, tf.float32) + self._bias, hidden_states, cache

    def _read(self, token_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Cache]:
        # One pass over a whole window `(1, context)`, padded at its end.
        return self.call(token_ids, self.empty_cache(1), tf.constant(0))


class Slots:
    """Keys and values of texts side by side, updated in place.

    A sampler that keeps several texts gathers what belongs to them. Here it gets
    a handle to gather, the number of a row, and the rows themselves are gathered
    by those numbers inside the compiled step: TensorFlow's gather of the full
    arrays takes longer than the model.
    """

    def __init__(self, model: CachedModel, rows: int) -> None:
        self._model = model
        self.rows = rows
        cache = model.empty_cache(rows)
        self._shapes = tf.nest.map_structure(lambda each: each.shape, cache)
        # Of each the first two axes are kept as one, see `_advance`.
        self._cache = tf.nest.map_structure(
            lambda each: tf.Variable(_flat(each), trainable=False), cache
        )
        self._numbers = tf.range(rows)[:, None]
        self._paddings: dict[int, tf.Tensor] = {}
        self._ask = _compiled(self._look_ahead)
        self._step = _compiled(self._advance)

    def fill(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Read a window `(1, context)` into every row.

        Returns its hidden states, `(1, context, hidden)`.
        """
        _, hidden_states, cache = self._model.read(token_ids)
        for kept, each in _pairs(self._cache, cache):
            kept.assign(_flat(tf.repeat(each, self.rows, axis=0)))
        return hidden_states

    def look_ahead(
        self, prompt: tf.Tensor, parents: tf.Tensor, index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Scores of the tokens at one position: `next`, as samplers know it.

        Args:
            prompt: int tensor `(texts, context)`.
            parents: int tensor `(texts, 1)`: the row that each text goes on from.
            index: the position; the token before it is read.

        Returns:
            Logits `(rows, vocabulary)`, hidden states `(rows, hidden)`, and the
            rows that the texts are in now, int `(rows, 1)`; what comes after the
            texts is of no use.
        """
        texts = prompt.shape[0]
        if texts < self.rows:
            missing = self._missing(texts)
            prompt, parents = tf.pad(prompt, missing), tf.pad(parents, missing)
        ask = self._direct if tf.executing_eagerly() else self._ask
        return (*ask(prompt, parents, index), self._numbers)

    def trace(self) -> None:
        """Trace what `look_ahead` runs, which else its first call does."""
        _ = self._direct

    def advance(
        self, token_ids: tf.Tensor, start: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Add several tokens at once to the text of the only row.

        Args:
            token_ids: int tensor `(1, new)`.
            start: position of the first of the new tokens.

        Returns:
            Logits `(1, new, vocabulary)` and hidden states `(1, new, hidden)`.
        """
        logits, hidden_states = self._step(token_ids, start)
        return logits, hidden_states

    def _missing(self, texts: int) -> tf.Tensor:
        if texts not in self._paddings:
            with tf.init_scope():
                self._paddings[texts] = tf.constant([[0, self.rows - texts], [0, 0]])
        return self._paddings[texts]

    @cached_property
    def _direct(self) -> Direct:
        prompts = (self.rows, self._model.context_length)
        concrete = self._ask.get_concrete_function(
            tf.TensorSpec(prompts, tf.int32),
            tf.TensorSpec((self.rows, 1), tf.int32),
            tf.TensorSpec((), tf.int32),
        )
        return Direct(concrete, is_compiled=True)

    def _look_ahead(
        self, prompt: tf.Tensor, parents: tf.Tensor, index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        last = tf.gather(prompt, [index - 1], axis=1)  # (rows, 1)
        logits, hidden_states = self._advance(last, index - 1, parents)
        return logits[:, 0], hidden_states[:, 0]

    def _advance(
        self, token_ids: tf.Tensor, start: tf.Tensor, parents: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # A model that works on all heads of all texts at once makes one axis of two.
        # Kept as one they can be updated in place; else all would be copied, twice.
        cache = tf.nest.map_structure(tf.reshape, self._cache, self._shapes)
        if self.rows > 1 and parents is not None:
            cache = tf.nest.map_structure(
                lambda each: tf.gather(each, parents[:, 0]), cache
            )
        logits, hidden_states, cache = self._model.call_frozen(token_ids, cache, start)
        for kept, each in _pairs(self._cache, cache):
            kept.assign(_flat(each))
        return logits, hidden_states


def _flat(tensor: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tensor, (-1, *tensor.shape[2:]))


def _pairs(left: Cache, right: Cache) -> Iterable[tuple[Any, Any]]:
    return zip(tf.nest.flatten(left), tf.nest.flatten(right), strict=True)


def _compiled(function: Callable[..., Any]) -> Any:
    # Without AutoGraph: there is nothing for it to do, and it writes files.
    return tf.function(function, jit_compile=True, autograph=False)
