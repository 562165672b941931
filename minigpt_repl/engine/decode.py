"""The decode loop: several tokens of several texts in each call.

A call is one compiled program: the model's step, the sampler's choice, and the next
token's step, as many times as it is told. What is chosen, and how, is the sampler's:
`compute_probabilities(logits)` and `get_next_token(probabilities)`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt_repl.engine.batches import MOST_ROWS
from minigpt_repl.engine.wording import Wording
from minigpt_repl.models.language_model import LanguageModel, traces
from minigpt_repl.sampling.parameters import Parameter, Value
from minigpt_repl.sampling.registry import SamplerSpec
from minigpt_repl.sampling.samplers import MOST, DrawOneToken, RowSeeds

MOST_TOKENS = 64
"""Tokens of a text that a call makes at most."""

ROW_COUNTS = (1, 8, 32, MOST_ROWS)
"""Numbers of rows that a program is compiled for; other numbers are filled up."""

NOT_FINITE = -1
"""In place of a token where the model's logits are not finite numbers."""


def filled_up(rows: int) -> int:
    """The number of rows of the program that makes so many texts."""
    return next(count for count in ROW_COUNTS if count >= rows)


class DecodeLoop:
    """Samplers that choose token by token, and a model, as one program.

    The samplers of a loop share the program, which is most of the work of compiling
    one: a text that uses another of them waits for nothing.

    Args:
        model: the model.
        samplers: the samplers, each with its parameters; those that are not live
            are fixed from now on.
        rows: texts made together.
        noise: how chance is drawn; see `Request`.
    """

    def __init__(
        self,
        model: LanguageModel,
        samplers: Sequence[tuple[SamplerSpec, Mapping[str, Value]]],
        rows: int,
        noise: str = "own",
    ) -> None:
        self.rows = rows
        self._model = model
        self._cache = model.new_cache(rows)
        # Added to the logits of the first token: what a prompt's end demands of it.
        self._first = tf.Variable(tf.zeros(model.logits_size), trainable=False)
        self._is_bound = False
        names = [spec.name for spec, _ in samplers]
        self._places = {name: place for place, name in enumerate(names)}
        self._choosers = [
            _Chooser(spec, values, rows, model, noise == "shared")
            for spec, values in samplers
        ]
        needs_history = any(spec.needs_history for spec, _ in samplers)
        # What rules of the history look at: what the model sees, but the start token.
        self._seen_size = model.context_length if needs_history else 0
        # XLA makes the random numbers of other samplers slowly, and can't compile all.
        is_compiled = all(spec.takes_rows for spec, _ in samplers)
        # Without AutoGraph: there is nothing for it to do, and it writes files.
        self._traced = tf.function(
            self._decode, autograph=False, jit_compile=is_compiled or None
        )
        self._step: Any = model.decode_step
        if not is_compiled:
            self._step = tf.function(self._step, autograph=False, jit_compile=True)

    def begin(
        self,
        sampler: str,
        values: Sequence[Mapping[str, Value]],
        token_ids: np.ndarray,
        length: int,
        first_ids: frozenset[int] | None = None,
    ) -> None:
        """Read the prompts.

        Args:
            sampler: name of one of the loop's samplers.
            values: its parameters, for each row.
            token_ids: int32 `(rows, context)`, or `(1, context)` where all rows have
                the same prompt; padded at the end.
            length: how many of them are the prompt.
            first_ids: what the first token is one of, if not any. It is then a call
                of its own.
        """
        if first_ids is not None or self._is_bound:
            self._bind(first_ids)
        self._which = self._places[sampler]
        self._choosers[self._which].set(values)
        if length == 1:  # nothing comes before what the first step reads
            self._cache.clear()
        else:
            _, _, cache = self._model.prefill(tf.constant(token_ids))
            self._cache.fill(cache)
        self._last = np.broadcast_to(token_ids[:, length - 1], (self.rows,))
        self._index = length - 1
        self._seen = np.full((self.rows, self._seen_size), -1, np.int32)
        if self._seen_size:
            self._seen[:, self._seen_size - length + 1 :] = token_ids[:, 1:length]

    def decode(
        self, count: int, seeds: np.ndarray, step: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Make the next `count` tokens of every row, at most `MOST_TOKENS`.

        Args:
            count: how many; there must be room for them in the context.
            seeds: int32 `(rows,)`.
            step: number of the first of them in its text.

        Returns:
            Token ids, int32 `(count, rows)`, `NOT_FINITE` where the logits were no
            numbers; and the stages of a chain that would have left nothing, by their
            numbers from 1, 0 where none.
        """
        made = self._call(
            tf.constant(self._last),
            tf.constant(self._index),
            tf.constant(count),
            tf.constant(seeds),
            tf.constant(step),
            tf.constant(self._which),
            tf.constant(self._seen),
        )
        token_ids, rescued = made.numpy()[:, :count]
        seen = np.concatenate([self._seen, token_ids.T], axis=1)
        self._seen = seen[:, seen.shape[1] - self._seen_size :]
        self._last = np.maximum(token_ids[-1], 0)
        self._index += count
        if self._is_bound:
            self._bind(None)
        return token_ids, rescued

    def _bind(self, first_ids: frozenset[int] | None) -> None:
        """Restrict the next token to these ids; `None` allows all again."""
        self._is_bound = first_ids is not None
        never = np.zeros(self._first.shape, np.float32)
        if first_ids is not None:
            never[:] = -np.inf
            never[sorted(first_ids)] = 0
        self._first.assign(never)

    @cached_property
    def _call(self) -> Any:
        # Called by itself a traced function is checked less, which saves 0.4 ms.
        rows, number = (
            tf.TensorSpec((self.rows,), tf.int32),
            tf.TensorSpec((), tf.int32),
        )
        seen = tf.TensorSpec((self.rows, self._seen_size), tf.int32)
        return self._traced.get_concrete_function(
            rows, number, number, rows, number, number, seen
        )

    def _decode(
        self,
        last: tf.Tensor,
        index: tf.Tensor,
        count: tf.Tensor,
        seeds: tf.Tensor,
        step: tf.Tensor,
        which: tf.Tensor,
        seen: tf.Tensor,
    ) -> tf.Tensor:
        traces["decode"] += 1
        made = tf.fill((2, MOST_TOKENS, self.rows), NOT_FINITE)

        def body(
            n: tf.Tensor, last: tf.Tensor, made: tf.Tensor, seen: tf.Tensor
        ) -> tuple[Any, ...]:
            logits, _ = self._step(last[:, None], self._cache, index + n)
            logits = logits[:, 0] + self._first  # (rows, vocabulary)
            chosen = self._choose(which, logits, seeds, step + n, seen)
            # Minus infinity is what ids have that are never chosen.
            is_finite = tf.math.is_finite(tf.reduce_max(logits, axis=-1))
            is_number = ~tf.reduce_any(tf.math.is_nan(logits), axis=-1)
            chosen = tf.where(is_finite & is_number, chosen, NOT_FINITE)
            both = tf.stack([chosen, self._rescued])
            made = tf.tensor_scatter_nd_update(made, [[0, n], [1, n]], both)
            last = tf.maximum(chosen, 0)
            seen = tf.concat([seen, last[:, None]], axis=1)[:, 1:]
            return n + 1, last, made, seen[:, : self._seen_size]

        _, _, made, _ = tf.while_loop(
            lambda n, *_: n < count,
            body,
            (tf.constant(0), last, made, seen),
            maximum_iterations=MOST_TOKENS,
            parallel_iterations=1,
        )
        return made

    def _choose(
        self,
        which: tf.Tensor,
        logits: tf.Tensor,
        seeds: tf.Tensor,
        step: tf.Tensor,
        seen: tf.Tensor,
    ) -> tf.Tensor:
        if len(self._choosers) == 1:
            return self._choosers[0].choose(logits, seeds, step, seen)
        return tf.switch_case(
            which,
            [
                lambda chooser=chooser: chooser.choose(logits, seeds, step, seen)
                for chooser in self._choosers
            ],
        )

    @property
    def _rescued(self) -> tf.Tensor:
        # A chain has a program of its own.
        if len(self._choosers) == 1 and self._choosers[0].rescued is not None:
            return self._choosers[0].rescued
        return tf.zeros((self.rows,), tf.int32)


class _Chooser:
    """A sampler object whose parameters are variables.

    One that takes rows chooses for all at once and has a value for each row; any
    other chooses for one row at a time, with the same values for all.
    """

    def __init__(
        self,
        spec: SamplerSpec,
        values: Mapping[str, Value],
        rows: int,
        model: LanguageModel,
        is_shared: bool,
    ) -> None:
        self._spec, self._rows = spec, rows
        self._wording, self._size = Wording(model.text, model.encode), model.logits_size
        self._variables = {
            parameter.name: self._variable(parameter)
            for parameter in spec.parameters
            if parameter.is_live
        }
        self._sampler: Any = spec.make({**values, **self._variables})
        if isinstance(self._sampler, DrawOneToken):
            self._sampler.is_shared = is_shared
        if spec.stages:
            self._sampler.end_id = model.text.end_id
        if spec.learns:
            self._sampler.learned = tf.Variable(tf.zeros((rows, 1)), trainable=False)
        self._seeds = RowSeeds()
        if hasattr(self._sampler, "seed_generator"):
            self._sampler.seed_generator = self._seeds

    def set(self, values: Sequence[Mapping[str, Value]]) -> None:
        """Set the parameters: of each row, of the last one for those beyond."""
        for parameter in self._spec.parameters:
            if not parameter.is_live:
                continue
            variable = self._variables[parameter.name]
            typed = [row[parameter.name] for row in values]
            typed += typed[-1:] * (self._rows - len(typed))
            if parameter.tokens:
                wording, size = self._wording, self._size
                made = {v: wording.array(parameter, v, size) for v in set(typed)}
                variable.assign(np.stack([made[value] for value in typed]))
            elif self._spec.takes_rows:
                variable.assign(np.array([[self._number(value)] for value in typed]))
            else:
                variable.assign(self._number(typed[0]))

    def _variable(self, parameter: Parameter) -> tf.Variable:
        if parameter.tokens:
            one = self._wording.array(parameter, None, self._size)
            return tf.Variable(np.stack([one] * self._rows), trainable=False)
        shape = (self._rows, 1) if self._spec.takes_rows else ()
        dtype = tf.int32 if parameter.kind is int else tf.float32
        return tf.Variable(tf.ones(shape, dtype), trainable=False)

    @property
    def rescued(self) -> Any:
        """Of a chain what its last choice says; see `Chain`. Otherwise `None`."""
        return getattr(self._sampler, "rescued", None)

    def choose(
        self, logits: tf.Tensor, seeds: tf.Tensor, step: tf.Tensor, seen: tf.Tensor
    ) -> tf.Tensor:
        """A token for each row, int32 `(rows,)`; to be traced."""
        if self._spec.stages:
            self._sampler.seen = seen
        seeds = tf.stack([seeds, tf.fill((self._rows,), step)], axis=1)  # (rows, 2)
        if self._spec.takes_rows:
            return self._choose(logits, seeds)
        return tf.map_fn(
            lambda row: self._choose(row[0][None], row[1])[0],
            (logits, seeds),
            fn_output_signature=tf.int32,
        )

    def _choose(self, logits: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        self._seeds.current = seeds
        probabilities = self._sampler.compute_probabilities(logits)
        return tf.cast(self._sampler.get_next_token(probabilities), tf.int32)

    def _number(self, value: Value) -> float | int:
        # "Off" for a number of tokens means all of them.
        if value is None:
            return MOST
        assert isinstance(value, (int, float))
        return value
