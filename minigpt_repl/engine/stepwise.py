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

from minigpt_repl.engine.answers import Answers
from minigpt_repl.engine.cached_model import CachedModel
from minigpt_repl.engine.direct import finish_background, in_background
from minigpt_repl.engine.graphs import SamplerGraphs
from minigpt_repl.engine.one_step import State, Step, Stepwise
from minigpt_repl.errors import EngineError
from minigpt_repl.sampling.parameters import Parameter, Value
from minigpt_repl.sampling.registry import SamplerSpec


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
        self._target = target
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
        self._draft_slots = draft.slots(1) if draft and self._drafts else None
        self._answers = Answers(self._sampler, target, self._slots, self._draft_slots)
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
        self._graphs: SamplerGraphs | None = None
        self._ahead: Step | None = None
        self._ahead_from: State | None = None

    def reset(self, values: Mapping[str, Value], seed: int) -> None:
        """Set the numeric parameters and start the random numbers anew.

        The first time, all graphs are traced and compiled.
        """
        finish_background()  # a step of another text would go on with its numbers
        if self._graphs is None:
            self._graphs = SamplerGraphs(
                self._sampler,
                self._answers,
                (1, self._target.context_length, self._target.hidden_dim),
                self._asks_first,
                self._drafts,
                self._on_trace,
            )
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
        assert self._graphs is not None, "reset() comes first"
        return self._graphs.begin(token_ids, tf.constant(length), hidden_states)

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
        assert self._graphs is not None, "reset() comes first"
        answer = self._answers.ask(*state[:3]) if self._asks_first else ()
        return self._graphs.step(state, mask, answer)

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
