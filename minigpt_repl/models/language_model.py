"""What a language model is to the rest, and every KerasHub `CausalLM` as one.

The engine knows `LanguageModel` only. `KerasLanguageModel` makes one of any
KerasHub `CausalLM` with a `call_with_cache`, whatever the shape of its cache.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import cached_property
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from minigpt_repl.models.text.codec import TextCodec

Tensors = Any
"""Tensors in any structure, each with the rows as its first axis."""

traces: Counter[str] = Counter()
"""Graphs traced so far in this process, by what was traced: nothing but a sampler, a
number of rows or a value that shapes a graph, that was not used before, may add one."""


class LanguageModel(Protocol):
    """Scores of the next token, for texts that are the rows of a batch.

    Attributes:
        text: the model's tokens as text; needs no TensorFlow.
        context_length: positions of the model.
        vocabulary_size: ids that have a token.
        logits_size: logits of a position; those beyond the vocabulary and those of
            special ids are minus infinity.
        allowed_count: ids that may be chosen.
        hidden_dim: width of the hidden states.
    """

    text: TextCodec
    context_length: int
    vocabulary_size: int
    logits_size: int
    allowed_count: int
    hidden_dim: int

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, without the start token."""

    def new_cache(self, rows: int) -> "KVCache":
        """Room for the keys and values of `rows` texts."""

    def prefill(self, token_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Tensors]:
        """One pass over whole texts, int `(rows, length)`.

        Returns:
            Logits `(rows, length, logits_size)`, hidden states
            `(rows, length, hidden_dim)`, and keys and values for `KVCache.fill`.
        """

    def decode_step(
        self, token_ids: tf.Tensor, cache: "KVCache", index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Add tokens, int `(rows, new)`, to the texts of a cache; to be traced.

        Args:
            token_ids: the tokens.
            cache: where their keys and values are written.
            index: position of the first of them.

        Returns:
            Logits `(rows, new, logits_size)` and hidden states
            `(rows, new, hidden_dim)`.
        """


class KVCache:
    """Keys and values of the rows of a batch, in variables updated in place.

    Args:
        empty: zeros, in the structure and shape of one row.
        rows: how many texts.
    """

    def __init__(self, empty: Tensors, rows: int) -> None:
        self.rows, self._empty = rows, empty
        # The first two axes are kept as one: where a model works on all heads of all
        # rows at once it makes one axis of them, and XLA can then write in place.
        self.variables = [
            tf.Variable(_flat(tf.repeat(each, rows, axis=0)), trainable=False)
            for each in tf.nest.flatten(empty)
        ]

    def fill(self, values: Tensors) -> None:
        """Take over keys and values of as many rows, or of one for all rows."""
        for variable, value in zip(
            self.variables, tf.nest.flatten(values), strict=True
        ):
            if value.shape[0] == 1 < self.rows:
                value = tf.repeat(value, self.rows, axis=0)
            variable.assign(_flat(value))

    def clear(self) -> None:
        """Set all to zero: a NaN of the last texts would reach masked positions too."""
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))

    def select(self, rows: tf.Tensor) -> None:
        """Row i goes on from what row `rows[i]` holds; `rows` is int `(rows,)`."""
        self.fill(
            tf.nest.map_structure(lambda each: tf.gather(each, rows), self.values())
        )

    def over(self, variables: Sequence[tf.Variable]) -> "KVCache":
        """A cache of the same shape in other variables."""
        cache = copy(self)
        cache.variables = list(variables)
        return cache

    def values(self) -> Tensors:
        """The keys and values, in the model's own structure."""
        values = [
            tf.reshape(variable, (self.rows, *each.shape[1:]))
            for variable, each in zip(
                self.variables, tf.nest.flatten(self._empty), strict=True
            )
        ]
        return tf.nest.pack_sequence_as(self._empty, values)


class KerasLanguageModel(LanguageModel):
    """A KerasHub `CausalLM` as a `LanguageModel`.

    The weights are copied for the compiled steps and must not change: passing
    forty variables to each call would double its cost, and as constants they would
    be kept ten times over.

    Args:
        causal_lm: a KerasHub `CausalLM` with `call_with_cache(token_ids, cache,
            index)` and `_build_cache(token_ids)`.
        text: its tokens as text.
        encode: from text to token ids.
        context_length: positions to decode in; many models set no bound themselves.
    """

    def __init__(
        self,
        causal_lm: Any,
        text: TextCodec,
        encode: Callable[[str], Iterable[int]],
        context_length: int,
    ) -> None:
        self._causal_lm = causal_lm
        self._encode = encode
        self.text = text
        self.context_length = context_length
        self.vocabulary_size = len(text.pieces)
        self.logits_size = int(causal_lm.backbone.vocabulary_size)
        self.hidden_dim = int(causal_lm.backbone.hidden_dim)
        self._bias = np.zeros(self.logits_size, np.float32)
        self._bias[sorted(text.special_ids)] = -np.inf
        self._bias[self.vocabulary_size :] = -np.inf
        self.allowed_count = int(np.isfinite(self._bias).sum())

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._encode(text))

    def new_cache(self, rows: int) -> KVCache:
        return KVCache(self._empty_row, rows)

    # As fast without XLA, and a compile would cost seconds and 100 MB.
    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def prefill(self, token_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Tensors]:
        traces["prefill"] += 1
        rows = tf.shape(token_ids)[0]
        cache = tf.nest.map_structure(
            lambda each: tf.zeros((rows, *each.shape[1:]), each.dtype), self._empty_row
        )
        return self._run(token_ids, cache, 0)

    def decode_step(
        self, token_ids: tf.Tensor, cache: KVCache, index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        traces["decode_step"] += 1
        with tf.init_scope():  # where variables have values
            weights = self._weights
        frozen = [(variable, turn(kept)) for variable, kept, turn in weights]
        with keras.StatelessScope(state_mapping=frozen):
            logits, hidden_states, updated = self._run(token_ids, cache.values(), index)
        cache.fill(updated)
        return logits, hidden_states

    def _run(self, token_ids: tf.Tensor, cache: Tensors, index: Any) -> tuple[Any, ...]:
        logits, *rest = self._causal_lm.call_with_cache(token_ids, cache, index)
        return tf.cast(logits, tf.float32) + self._bias, *rest

    @cached_property
    def _empty_row(self) -> Tensors:
        # Only the model knows the structure of its cache.
        with tf.init_scope():
            token_ids = tf.zeros((1, self.context_length), tf.int32)
            _, cache = self._causal_lm._build_cache(token_ids)
            return tf.nest.map_structure(tf.zeros_like, cache)

    @cached_property
    def _weights(self) -> list[tuple[Any, tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]]:
        return [_laid_out(variable) for variable in self._causal_lm.variables]


def _flat(tensor: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tensor, (-1, *tensor.shape[2:]))


def _laid_out(variable: Any) -> tuple[Any, tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """A variable, its value as a product reads it, and the way back to its shape.

    Inside a compiled step XLA sees that nothing is to be done for the way back.
    """
    value = np.asarray(variable)
    if variable.name == "embeddings" and value.ndim == 2:
        # A head that shares it multiplies by its transpose. A look-up reads one
        # row, which may as well be a column.
        return variable, tf.constant(value.T.copy()), tf.transpose
    if value.ndim > 2:
        # A projection to heads or from heads: heads and their width are one axis.
        shape = value.shape
        is_to_heads = shape[0] >= shape[-1]
        matrix = (shape[0], -1) if is_to_heads else (-1, shape[-1])
        flat = tf.constant(value.reshape(matrix))
        return variable, flat, lambda kept: tf.reshape(kept, shape)
    return variable, tf.constant(value), tf.identity
