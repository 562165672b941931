"""The decode loop: several tokens of several texts in each call.

A call is one compiled program: the model's step, the sampler's choice, and the next
token's step, as many times as it is told. What is chosen, and how, is the sampler's:
`compute_probabilities(logits)` and `get_next_token(probabilities)`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from minigpt_repl.models.language_model import KVCache, LanguageModel, traces
from minigpt_repl.sampling.parameters import Parameter
from minigpt_repl.sampling.registry import SamplerSpec
from minigpt_repl.sampling.samplers import MOST, DrawOneToken, RowSeeds

MOST_TOKENS = 64
"""Tokens of a text that a call makes at most."""

CORES = min(4, os.cpu_count() or 1)
"""Parts of a batch that are made side by side."""

ROW_COUNTS = (1, 8, 16, 32)
"""Numbers of rows that a program is compiled for."""

NOT_FINITE = -1
"""In place of a token where the model's logits are not finite numbers."""

_cores = ThreadPoolExecutor(CORES)


def rows_of_part(texts: int) -> int:
    """The rows of the program that makes so many texts, a part on each core."""
    most = ROW_COUNTS[-1]
    return next((rows for rows in ROW_COUNTS if rows * CORES >= texts), most)


def only(token_ids: frozenset[int], size: int) -> np.ndarray:
    """What leaves these ids alone when it is added to logits, float32 `(size,)`."""
    never = np.full(size, -np.inf, np.float32)
    never[sorted(token_ids)] = 0
    return never


class Graph:
    """A function of tensors as a graph, traced by its first call; the inputs of later
    ones are alike. XLA compiles it, or only what it calls."""

    def __init__(self, function: Callable[..., Any], is_compiled: bool = True) -> None:
        # Without AutoGraph: there is nothing for it to do, and it writes files.
        self._function = tf.function(
            function, autograph=False, jit_compile=is_compiled or None
        )
        self._traced: Any = None

    def __call__(self, *inputs: Any) -> Any:
        if self._traced is None:
            # Called by itself a traced function is checked less, which saves 0.4 ms.
            self._traced = self._function.get_concrete_function(*inputs)
        return self._traced(*inputs)


class State(NamedTuple):
    """What a call begins with and leaves for the next one, of each row of a part."""

    seeds: tf.Tensor  # int32 (rows,)
    last: tf.Tensor  # the last tokens, int32 (rows,)
    # The tokens so far, at the end, before them -1, int32 (rows, length).
    seen: tf.Tensor
    learned: tf.Tensor  # what a chain learned from its choices, float32 (rows, 1)


@dataclass
class _Part:
    """Some of the texts: as many as the program has rows."""

    cache: KVCache
    parameters: list[dict[str, tf.Tensor]]  # of each of the loop's samplers
    state: State  # after the last call


class DecodeLoop:
    """Samplers that choose token by token, and a model, as one program.

    The samplers of a loop share the program, which is most of the work of compiling
    one: a text that uses another of them waits for nothing. XLA keeps one core busy
    with it, so more texts than it has rows are parts that are made side by side.

    Args:
        model: the model.
        samplers: the samplers, each with its parameters, words as token ids; those
            that are not live are fixed from now on.
        rows: of the program.
        noise: how chance is drawn; see `Request`.

    Attributes:
        pace: how many tokens a call is to make, learned by who calls.
    """

    def __init__(
        self,
        model: LanguageModel,
        samplers: Sequence[tuple[SamplerSpec, Mapping[str, Any]]],
        rows: int,
        noise: str = "own",
    ) -> None:
        self._model, self._rows, self.pace = model, rows, 1
        self._caches = [model.new_cache(rows)]
        self._parts: list[_Part] = []
        self._choosers = {
            spec.name: _Chooser(spec, values, rows, model, noise == "shared")
            for spec, values in samplers
        }
        # Added to the logits of the first token: what a prompt's end demands of it.
        self._first = self._nothing = tf.zeros(model.logits_size)
        needs_history = any(spec.needs_history for spec, _ in samplers)
        # What rules of the history look at: what the model sees, but the start token.
        self._seen_size = model.context_length if needs_history else 0
        # XLA makes the random numbers of other samplers slowly, and can't compile all.
        is_compiled = all(spec.takes_rows for spec, _ in samplers)
        self._call = Graph(self._decode, is_compiled)
        self._step: Any = model.decode_step
        if not is_compiled:
            self._step = tf.function(self._step, autograph=False, jit_compile=True)

    def begin(
        self,
        sampler: str,
        values: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        token_ids: np.ndarray,
        length: int,
        first_ids: frozenset[int] | None = None,
    ) -> None:
        """Read the prompts.

        Args:
            sampler: name of one of the loop's samplers.
            values: its parameters, for each text.
            seeds: one for each text.
            token_ids: int32 `(texts, context)`, or `(1, context)` where all texts
                have the same prompt; padded at the end.
            length: how many of them are the prompt.
            first_ids: what the first token is one of, if not any. It is then a call
                of its own.
        """
        self._which, self._index = list(self._choosers).index(sampler), length - 1
        self._first = self._nothing
        if first_ids is not None:
            self._first = tf.constant(only(first_ids, self._model.logits_size))
        self._parts = []
        for start in range(0, len(values), self._rows):
            # The last part is filled up with copies of the last text.
            rows = range(start, start + self._rows)
            mine = [min(row, len(values) - 1) for row in rows]
            prompts = token_ids[mine] if len(token_ids) > 1 else token_ids
            if len(self._parts) == len(self._caches):
                self._caches.append(self._model.new_cache(self._rows))
            cache = self._caches[len(self._parts)]
            if length == 1:  # nothing comes before what the first step reads
                cache.clear()
            else:
                _, _, keys_and_values = self._model.prefill(tf.constant(prompts))
                cache.fill(keys_and_values)
            parameters = [chooser.idle for chooser in self._choosers.values()]
            own = self._choosers[sampler].parameters([values[n] for n in mine])
            parameters[self._which] = own
            state = self._state([seeds[n] for n in mine], prompts, length)
            self._parts.append(_Part(cache, parameters, state))

    def decode(self, count: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Make the next `count` tokens of every text, at most `MOST_TOKENS`.

        Args:
            count: how many; there must be room for them in the context.
            step: number of the first of them in its text.

        Returns:
            Token ids, int32 `(count, rows)`, `NOT_FINITE` where the logits were no
            numbers; and the stages of a chain that would have left nothing, by their
            numbers from 1, 0 where none. Rows beyond the texts are copies.
        """

        numbers = [tf.constant(n) for n in (self._which, self._index, count, step)]

        def call(part: _Part) -> np.ndarray:
            given = part.cache.variables, part.parameters, part.state, self._first
            made, part.state = self._call(*given, *numbers)
            ids_and_stages: np.ndarray = made.numpy()
            return ids_and_stages

        side_by_side = _cores.map if len(self._parts) > 1 else map
        made = np.concatenate(list(side_by_side(call, self._parts)), axis=-1)
        token_ids, rescued = made[:, :count]
        self._index += count
        self._first = self._nothing
        return token_ids, rescued

    def _state(self, seeds: Sequence[int], prompts: np.ndarray, length: int) -> State:
        prompts = np.broadcast_to(prompts, (self._rows, prompts.shape[1]))
        seen = np.full((self._rows, self._seen_size), -1, np.int32)
        if self._seen_size:
            seen[:, self._seen_size - length + 1 :] = prompts[:, 1:length]
        return State(
            tf.constant(seeds),
            tf.constant(prompts[:, length - 1]),
            tf.constant(seen),
            tf.zeros((self._rows, 1)),
        )

    def _decode(
        self,
        variables: list[tf.Variable],
        parameters: list[dict[str, tf.Tensor]],
        state: State,
        first: tf.Tensor,
        which: tf.Tensor,
        index: tf.Tensor,
        count: tf.Tensor,
        step: tf.Tensor,
    ) -> tuple[tf.Tensor, State]:
        traces["decode"] += 1
        cache = self._caches[0].over(variables)
        made = tf.fill((2, MOST_TOKENS, self._rows), NOT_FINITE)

        def body(n: tf.Tensor, made: tf.Tensor, state: State) -> tuple[Any, ...]:
            logits, _ = self._step(state.last[:, None], cache, index + n)
            logits = logits[:, 0] + first  # (rows, vocabulary)
            chosen, rescued, learned = self._choose(
                which, parameters, logits, state, step + n
            )
            # Minus infinity is what ids have that are never chosen.
            is_finite = tf.math.is_finite(tf.reduce_max(logits, axis=-1))
            is_number = ~tf.reduce_any(tf.math.is_nan(logits), axis=-1)
            chosen = tf.where(is_finite & is_number, chosen, NOT_FINITE)
            both = tf.stack([chosen, rescued])
            made = tf.tensor_scatter_nd_update(made, [[0, n], [1, n]], both)
            last = tf.maximum(chosen, 0)
            seen = tf.concat([state.seen, last[:, None]], axis=1)[:, 1:]
            seen = seen[:, : self._seen_size]
            return n + 1, made, State(state.seeds, last, seen, learned)

        _, made, state = tf.while_loop(
            lambda n, *_: n < count,
            body,
            (tf.constant(0), made, state),
            maximum_iterations=MOST_TOKENS,
            parallel_iterations=1,
        )
        return made, state

    def _choose(
        self, which: tf.Tensor, parameters: list[dict[str, tf.Tensor]], *arguments: Any
    ) -> tuple[tf.Tensor, ...]:
        choosers = self._choosers.values()
        branches = [
            partial(chooser.choose, given, *arguments)
            for chooser, given in zip(choosers, parameters, strict=True)
        ]
        return branches[0]() if len(branches) == 1 else tf.switch_case(which, branches)


class _Chooser:
    """A sampler object whose parameters each call gives anew.

    One that takes rows chooses for all at once and has a value for each row; any
    other chooses for one row at a time, with the same values for all.
    """

    def __init__(
        self,
        spec: SamplerSpec,
        values: Mapping[str, Any],
        rows: int,
        model: LanguageModel,
        is_shared: bool,
    ) -> None:
        self._spec, self._rows = spec, rows
        # What its parameters are while another sampler of the loop is in use.
        self.idle = self.parameters([values] * rows)
        self._variables = {
            name: keras.Variable(value, trainable=False, dtype=value.dtype)
            for name, value in self.idle.items()
        }
        self._sampler: Any = spec.make({**values, **self._variables})
        if isinstance(self._sampler, DrawOneToken):
            self._sampler.is_shared = is_shared
        if spec.stages:
            self._sampler.end_id = model.text.end_id
        self._seeds = RowSeeds()
        if hasattr(self._sampler, "seed_generator"):
            self._sampler.seed_generator = self._seeds

    def parameters(self, values: Sequence[Mapping[str, Any]]) -> dict[str, tf.Tensor]:
        """The live parameters, of the values of each row."""
        live = [each for each in self._spec.parameters if each.is_live]
        return {p.name: self._tensor(p, [row[p.name] for row in values]) for p in live}

    def _tensor(self, parameter: Parameter, values: list[Any]) -> tf.Tensor:
        if parameter.tokens:
            return tf.constant(np.concatenate(values))
        # "Off" for a number of tokens means all of them.
        numbers = [[MOST if value is None else value] for value in values]
        dtype = tf.int32 if parameter.kind is int else tf.float32
        return tf.constant(numbers if self._spec.takes_rows else numbers[0][0], dtype)

    def choose(
        self,
        parameters: dict[str, tf.Tensor],
        logits: tf.Tensor,
        state: State,
        step: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Choose a token for each row; to be traced.

        Returns:
            The tokens, int32 `(rows,)`; the stage that would have left nothing, from
            1, or 0, int32 `(rows,)`; and what the sampler has learned by now.
        """
        sampler, learned = self._sampler, state.learned
        rescued = tf.zeros((self._rows,), tf.int32)
        if self._spec.stages:
            sampler.seen = state.seen
        if self._spec.learns:
            sampler.learned = learned
        seeds = tf.stack([state.seeds, tf.fill((self._rows,), step)], axis=1)
        given = [(self._variables[name], each) for name, each in parameters.items()]
        with keras.StatelessScope(state_mapping=given):
            if self._spec.takes_rows:
                chosen = self._token(logits, seeds)
            else:
                chosen = tf.map_fn(
                    lambda row: self._token(row[0][None], row[1])[0],
                    (logits, seeds),
                    fn_output_signature=tf.int32,
                )
        if self._spec.stages:
            rescued = sampler.rescued
        if self._spec.learns:
            learned = sampler.learned
        return chosen, rescued, learned

    def _token(self, logits: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        self._seeds.current = seeds
        probabilities = self._sampler.compute_probabilities(logits)
        return tf.cast(self._sampler.get_next_token(probabilities), tf.int32)
