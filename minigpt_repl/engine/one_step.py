"""A sampler's loop, run one step at a time.

Every sampler of KerasHub hands its loop to `run_loop`. Here that method is
overridden to run the loop's body once, on variables that come from outside. Knows
neither models nor prompts.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt_repl.engine.direct import Direct

State = list[tf.Tensor]
"""A sampler's loop variables, flattened."""


class Look(NamedTuple):
    """What a sampler asked the model in a step, and what it was told.

    Attributes:
        prompt: the texts that it asked about, int `(texts, context)`.
        logits: the answer, `(texts, vocabulary)` or, for verification of a
            draft, `(texts, new, vocabulary)`.
        hidden_states: of the last token, `(texts, hidden)`.
    """

    prompt: tf.Tensor
    logits: tf.Tensor
    hidden_states: tf.Tensor


class Step(NamedTuple):
    """One step's outcome.

    Attributes:
        state: for the next step.
        index: the first position without a token.
        text: what the sampler would return now, int `(1, context)`.
        look: the last thing it asked the model.
    """

    state: State
    index: tf.Tensor
    text: tf.Tensor
    look: Look


class Stepwise:
    """Mixin for a `keras_hub.samplers.Sampler`: `run_loop` runs one step or none.

    Attributes:
        is_compiled: whether the step will be a program of XLA.
        injected: loop variables to run the body on; `None` to run nothing.
        loop_vars: the loop variables after it.
        is_inside: whether the body is running.
    """

    is_compiled = False
    injected: Any = None
    loop_vars: Any = None
    is_inside = False

    def run_loop(
        self,
        cond: Callable[..., Any],
        body: Callable[..., Any],
        model: Any = None,
        loop_vars: Any = None,
        maximum_iterations: Any = None,
    ) -> Any:
        if self.injected is not None:
            self.is_inside = True
            loop_vars = tf.nest.pack_sequence_as(loop_vars, self.injected)
            loop_vars = self._once(body, loop_vars)
            self.is_inside = False
        self.loop_vars = loop_vars
        return loop_vars

    def _once(self, body: Callable[..., Any], loop_vars: Any) -> Any:
        if not self.is_compiled:
            return body(*loop_vars)
        # KerasHub's loops slice at an index. Outside of a loop XLA takes the index
        # for a constant and compiles the step anew for each.
        return tf.while_loop(
            lambda *_: True,
            lambda *each: tuple(body(*each)),
            tuple(loop_vars),
            maximum_iterations=1,
        )


class StepGraph:
    """A step as a graph that is called for every token, with little around it.

    Only what the graph makes comes out of it; what it hands on unchanged, or
    twice, is put in place here. One trace is enough, as no shape ever changes.
    """

    def __init__(
        self,
        trace: Callable[[State, tf.Tensor, tuple[tf.Tensor, ...]], Step],
        state: State,
        mask: tf.Tensor,
        answer: tuple[tf.Tensor, ...],
        is_compiled: bool,
    ) -> None:
        count = len(state)
        self._order: list[int] = []  # of each result, its place in what is known
        self._count = 0  # tensors of the state

        def run(*inputs: tf.Tensor) -> list[tf.Tensor]:
            step = trace(list(inputs[:count]), inputs[count], inputs[count + 1 :])
            known = list(inputs)
            for tensor in tf.nest.flatten(step):
                places = [i for i, other in enumerate(known) if other is tensor]
                self._order.append(places[0] if places else len(known))
                known += [] if places else [tensor]
            self._count = len(step.state)
            return known[len(inputs) :]

        function = tf.function(run, autograph=False, jit_compile=is_compiled or None)
        concrete = function.get_concrete_function(*state, mask, *answer)
        self._call = Direct(concrete, is_compiled)

    def __call__(
        self, state: State, mask: tf.Tensor, answer: tuple[tf.Tensor, ...]
    ) -> Step:
        inputs = [*state, mask, *answer]
        known = inputs + self._call(*inputs)
        found = [known[place] for place in self._order]
        index, text, *look = found[self._count :]
        return Step(found[: self._count], index, text, Look(*look))
