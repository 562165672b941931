"""KerasHub's samplers, one step at a time, with parameters that can change.

A step is one call of a graph: the caller sees every token, may stop after any,
and no thread is needed. What is chosen, and how, stays KerasHub's.

Numeric parameters are given to the sampler as `tf.Variable`s, because a graph
remembers a plain number for ever. Knows no prompts and no words.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras_hub
import numpy as np
import tensorflow as tf

from minigpt_repl.decoding.cached_model import CachedModel
from minigpt_repl.decoding.direct import finish_background, in_background
from minigpt_repl.decoding.one_step import Look, State, Step, StepGraph, Stepwise
from minigpt_repl.decoding.parameters import Parameter, Value
from minigpt_repl.decoding.registry import SamplerSpec
from minigpt_repl.errors import EngineError


class SteppedSampler:
    """A sampler and a model as two graphs: one to begin, one for each step.

    Args:
        spec: the sampler.
        values: its parameters; those that shape the graph are fixed from now on.
        target: the model.
        draft: the draft model, if there is one.
        on_trace: called whenever a graph is traced.

    Raises:
        EngineError: the sampler needs a draft model and there is none.
    """

    def __init__(
        self,
        spec: SamplerSpec,
        values: Mapping[str, Value],
        target: CachedModel,
        draft: CachedModel | None,
        on_trace: Callable[[], None],
    ) -> None:
        sampler_class = spec.load_class()
        accepted = inspect.signature(sampler_class.__call__).parameters
        self._drafts = "draft_next" in accepted
        if self._drafts and draft is None:
            raise EngineError(
                f"{spec.name} needs a draft model and this checkpoint has none: "
                "train it with minigpt-setup --draft"
            )
        self._spec = spec
        self._target, self._draft = target, draft if self._drafts else None
        self._on_trace = on_trace
        values = dict(values)
        for parameter in spec.parameters:
            if parameter.is_structural and parameter.maximum == "vocabulary":
                # Ids that are masked would be weighed too, and alpha 1 asks for no
                # probability.
                k = int(values[parameter.name] or 1)
                values[parameter.name] = min(k, target.allowed_count)
        self._variables = {
            parameter.name: tf.Variable(
                _number(values[parameter.name], target.row_count),
                dtype=tf.int32 if parameter.kind is int else tf.float32,
                trainable=False,
            )
            for parameter in spec.parameters
            if is_live(parameter)
        }
        stepped = type(sampler_class.__name__, (Stepwise, sampler_class), {})
        self._sampler: Any = stepped(**{**values, **self._variables})
        self._slots = target.slots(
            int(values[spec.parallel] or 1) if spec.parallel else 1
        )
        self._draft_slots = self._draft.slots(1) if self._draft else None
        self._looks: list[Look] = []
        # These loops begin by asking for the scores of the next position. So the
        # model can be called before the graph of the step and need not be in it:
        # a graph of its own for each sampler would be compiled for each.
        self._asks_first = sampler_class.__call__ in (
            keras_hub.samplers.Sampler.__call__,
            keras_hub.samplers.BeamSampler.__call__,
        )
        self._sampler.is_compiled = spec.is_compiled and self._asks_first
        # Not when drafting: only a step's result tells whether there is room for more.
        # And a single text by a compiled choice needs no thread but the caller's: to
        # hand over to another costs more than it gains, where cores are shared.
        is_alone = self._sampler.is_compiled and spec.parallel is None
        self._looks_ahead = not (self._drafts or is_alone)
        self._answer: Any = None
        self._begin = tf.function(self._trace_begin, autograph=False)
        self._step: StepGraph | None = None
        self._ahead: Step | None = None
        self._ahead_from: State | None = None

    def reset(self, values: Mapping[str, Value], seed: int) -> None:
        """Set the numeric parameters and start the random numbers anew."""
        finish_background()  # a step of another text would go on with its numbers
        for name, variable in self._variables.items():
            variable.assign(_number(values[name], self._target.row_count))
        for state in self._sampler.variables:
            state.assign([seed, 0])

    def begin(self, token_ids: tf.Tensor, length: int) -> State:
        """Read a prompt, after `reset`, or after a step that none was to follow.

        Args:
            token_ids: int tensor `(1, context)`, padded at its end.
            length: how many of them are the prompt.
        """
        if length == 1 and self._asks_first:
            # Nothing was before the token that the first step reads.
            hidden_states = tf.zeros((1, *token_ids.shape[1:], self._target.hidden_dim))
        else:
            hidden_states = self._slots.fill(token_ids)
        if self._draft_slots is not None:
            self._draft_slots.fill(token_ids)
        answer = None
        place = tf.constant(length)
        if not self._asks_first:
            first_row = tf.zeros((1, 1), tf.int32)
            answer = self._slots.look_ahead(token_ids, first_row, place)
        state: State = self._begin(token_ids, place, hidden_states, answer)
        return state

    def step(self, state: State, mask: tf.Tensor, go_on: bool = False) -> Step:
        """Choose once.

        Args:
            state: from `begin` or the last step.
            mask: bool `(1, context)`, true where the prompt is.
            go_on: whether the next step is likely wanted. It is begun at once, and
                done while the caller looks at this one, where that gains time.
        """
        step, self._ahead = self._ahead, None
        if step is not None and state is not self._ahead_from:
            finish_background()  # another step was wanted, and writes where it does
            step = None
        if not (go_on and self._looks_ahead):
            return step or self._take(state, mask)
        with in_background():
            step = step or self._take(state, mask)
            self._ahead_from = step.state
            self._ahead = self._take(step.state, mask)
        return step

    def _take(self, state: State, mask: tf.Tensor) -> Step:
        answer: tuple[tf.Tensor, ...] = ()
        if self._asks_first:
            answer = self._slots.look_ahead(*state[:3])
        if self._step is None:
            is_compiled = self._sampler.is_compiled
            self._step = StepGraph(self._trace_step, state, mask, answer, is_compiled)
        return self._step(state, mask, answer)

    @property
    def is_drafting(self) -> bool:
        """Whether a draft model guesses ahead."""
        return self._drafts

    def logits_behind(self, before: State, step: Step, count: int) -> np.ndarray | None:
        """Scores that the tokens of a step were chosen from.

        Args:
            before: the state before the step.
            step: the step.
            count: tokens that it chose.

        Returns:
            A float array `(count, vocabulary)`, or `None` where the sampler keeps
            them to itself.
        """
        if self._asks_first:
            scores = step.look.logits
        elif self._drafts:
            scores = step.look.logits[0, :count]
        else:  # a sampler that looks ahead carries the scores along
            shape = (1, self._target.row_count)
            carried = [tensor for tensor in before if tensor.shape == shape]
            if count > 1 or not carried:
                return None
            scores = carried[0]
        return np.asarray(scores)

    @staticmethod
    def hypotheses(state: State) -> tuple[np.ndarray, np.ndarray] | None:
        """The texts side by side, `(texts, context)`, and their log-probabilities.

        `None` for a sampler whose state has no score for each text.
        """
        for tensor in state:
            if tensor.dtype.is_floating and tensor.shape.rank == 1:
                return state[0].numpy(), tensor.numpy()
        return None

    def _trace_begin(
        self,
        token_ids: tf.Tensor,
        length: tf.Tensor,
        hidden_states: tf.Tensor,
        answer: Any,
    ) -> State:
        self._on_trace()
        mask = tf.range(self._target.context_length)[None] < length
        self._sampler.injected, self._answer = None, answer
        self._call(token_ids, length, mask, hidden_states)
        state: State = tf.nest.flatten(self._sampler.loop_vars)
        return state

    def _trace_step(
        self, state: State, mask: tf.Tensor, answer: tuple[tf.Tensor, ...]
    ) -> Step:
        self._on_trace()
        context = self._target.context_length
        self._sampler.injected, self._answer = state, answer or None
        self._looks.clear()
        # What is outside of the loop works on nothing, and is pruned.
        text = self._call(
            tf.zeros((1, context), tf.int32),
            tf.constant(0),
            mask,
            tf.zeros((1, context, self._target.hidden_dim)),
        )
        made = tf.nest.flatten(self._sampler.loop_vars)
        index = next(v for v in made if v.dtype == tf.int32 and v.shape.rank == 0)
        look = Look(state[0], *answer[:2]) if answer else self._looks[-1]
        return Step(made, index, text, look)

    def _call(
        self,
        token_ids: tf.Tensor,
        index: tf.Tensor,
        mask: tf.Tensor,
        hidden_states: tf.Tensor,
    ) -> tf.Tensor:
        first_row = tf.zeros((1, 1), tf.int32)
        more: dict[str, Any] = {}
        if self._drafts:
            more = {
                "draft_next": self._draft_next,
                "draft_cache": first_row,
                "verify_next": self._verify_next,
            }
        return self._sampler(
            next=self._next,
            prompt=token_ids,
            cache=first_row,
            index=index,
            mask=mask,
            hidden_states=hidden_states,
            **more,
        )

    def _next(
        self, prompt: tf.Tensor, rows: tf.Tensor, index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # The samplers' view of the model: scores for position `index`.
        answer = self._answer
        if answer is None and not self._sampler.is_inside:
            # Before the loop of a text that was begun long ago.
            logits = tf.zeros((1, self._target.row_count))
            return logits, tf.zeros((1, self._target.hidden_dim)), rows
        if answer is None:
            answer = self._slots.look_ahead(prompt, rows, index)
        logits, hidden_states, rows = answer
        self._looks.append(Look(prompt, logits, hidden_states))
        return logits, hidden_states, rows

    def _draft_next(
        self, prompt: tf.Tensor, rows: tf.Tensor, index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
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

    def _verify_next(
        self, prompt: tf.Tensor, rows: tf.Tensor, index: tf.Tensor, k: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # Scores for positions `index` to `index + k`. Near the end of the context
        # the window is moved left; places past the end get those of the last one,
        # and the sampler writes none of them.
        start = tf.minimum(index - 1, self._target.context_length - (k + 1))
        window = tf.gather(prompt, start + tf.range(k + 1), axis=1)  # (1, k + 1)
        logits, hidden_states = self._slots.advance(window, start)
        places = tf.minimum(index - 1 - start + tf.range(k + 1), k)
        logits = tf.gather(logits, places, axis=1)  # (1, k + 1, vocabulary)
        self._looks.append(Look(prompt, logits, hidden_states[:, -1]))
        return logits, rows


def is_live(parameter: Parameter) -> bool:
    """Whether a parameter can change without a new graph."""
    if parameter.is_structural or parameter.kind not in (int, float):
        return False
    return not parameter.optional or parameter.maximum == "vocabulary"


def structure_of(spec: SamplerSpec, values: Mapping[str, Value]) -> tuple[Value, ...]:
    """The values that shape a sampler's graph."""
    return tuple(values[p.name] for p in spec.parameters if not is_live(p))


def _number(value: Value, row_count: int) -> float | int:
    # "Off" for a number of tokens means all of them.
    if value is None:
        return row_count
    assert isinstance(value, (int, float))
    return value
