"""A sampler's graphs, traced and compiled: one begins a text, one takes a step.

All is done at once, so that a first use is short: XLA compiles the model's part in
another thread, while this one traces the sampler's.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import tensorflow as tf

from minigpt_repl.engine.answers import Answer, Answers, of_texts
from minigpt_repl.engine.direct import Direct
from minigpt_repl.engine.one_step import Look, State, Step, StepGraph


class SamplerGraphs:
    """The calls of one sampler on one model.

    Args:
        sampler: a `Stepwise` sampler of KerasHub's kind.
        answers: what it asks.
        shape: of the hidden states of a text, `(1, context, hidden)`.
        asks_first: whether it is to be told the answer to its first question.
        drafts: whether it asks for drafts and their verification.
        on_trace: called whenever a graph is traced.
    """

    def __init__(
        self,
        sampler: Any,
        answers: Answers,
        shape: tuple[int, int, int],
        asks_first: bool,
        drafts: bool,
        on_trace: Callable[[], None],
    ) -> None:
        self._sampler, self._answers, self._shape = sampler, answers, shape
        self._drafts, self._on_trace = drafts, on_trace
        # On a text of nothing, whose position is 1: it is never 0.
        index, mask = tf.constant(1), tf.zeros(shape[:2], tf.bool)
        text = (tf.zeros(shape[:2], tf.int32), index)
        hidden_states = tf.zeros(shape)
        begin = _traced(self._trace_begin, *text, hidden_states)
        self._begin = Direct(begin, is_compiled=False)
        state = [tf.zeros(each.shape, each.dtype) for each in begin.outputs]
        state = [each if each.shape.rank else tf.ones_like(each) for each in state]
        answer: Answer = ()
        ask: Callable[[], Any] = partial(self._begin, *text, hidden_states)
        if drafts:
            verify = Direct(_traced(self._trace_verify, *text), is_compiled=False)
            ask = partial(verify, *text)
        elif asks_first:
            answers.trace()
            answer = answers.nothing()
            ask = partial(answers.ask, state[0], state[1], index)
        with ThreadPoolExecutor(1) as beside:
            beside.submit(ask)  # compiles the model
            is_compiled = sampler.is_compiled
            self._step = StepGraph(self._trace_step, state, mask, answer, is_compiled)
            # What fails on nothing may be right on a text, and else will tell then.
            with suppress(tf.errors.OpError):
                self._step(state, mask, answer)

    def begin(
        self, token_ids: tf.Tensor, length: tf.Tensor, hidden_states: tf.Tensor
    ) -> State:
        """The state before the first step.

        Args:
            token_ids: int tensor `(1, context)`.
            length: how many of them are the prompt.
            hidden_states: of the prompt, `(1, context, hidden)`.
        """
        return self._begin(token_ids, length, hidden_states)

    def step(self, state: State, mask: tf.Tensor, answer: Answer) -> Step:
        """The next step.

        Args:
            state: from `begin` or the last step.
            mask: bool `(1, context)`, true where the prompt is.
            answer: to what the sampler asks first, or nothing.
        """
        return self._step(state, mask, answer)

    def _trace_begin(
        self, token_ids: tf.Tensor, length: tf.Tensor, hidden_states: tf.Tensor
    ) -> State:
        self._on_trace()
        mask = tf.range(self._shape[1])[None] < length
        self._sampler.injected, self._answers.known = None, ()
        self._call(token_ids, length, mask, hidden_states)
        state: State = tf.nest.flatten(self._sampler.loop_vars)
        return state

    def _trace_verify(self, token_ids: tf.Tensor, index: tf.Tensor) -> Any:
        # The longer of the two things that a drafting sampler asks in each round.
        k = self._sampler.num_speculative_tokens
        return self._answers.verify_next(
            token_ids, tf.zeros((1, 1), tf.int32), index, k
        )

    def _trace_step(self, state: State, mask: tf.Tensor, answer: Answer) -> Step:
        self._on_trace()
        looks = self._answers.looks
        looks.clear()
        known = of_texts(answer, state[0].shape[0])
        self._sampler.injected, self._answers.known = state, known
        # What is outside of the loop works on nothing, and is pruned.
        nothing = tf.zeros(self._shape[:2], tf.int32), tf.constant(0)
        text = self._call(*nothing, mask, tf.zeros(self._shape))
        made = tf.nest.flatten(self._sampler.loop_vars)
        index = next(v for v in made if v.dtype == tf.int32 and v.shape.rank == 0)
        look = Look(state[0], *known[:2]) if known else looks[-1]
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
                "draft_next": self._answers.draft_next,
                "draft_cache": first_row,
                "verify_next": self._answers.verify_next,
            }
        return self._sampler(
            next=self._answers.next,
            prompt=token_ids,
            cache=first_row,
            index=index,
            mask=mask,
            hidden_states=hidden_states,
            **more,
        )


def _traced(function: Callable[..., Any], *arguments: tf.Tensor) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(*arguments)
