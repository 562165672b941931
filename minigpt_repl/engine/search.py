"""KerasHub's searches, some steps in each call.

Beam search, contrastive search and speculative decoding own their loops, which keep
more than the last token. Every sampler of KerasHub hands its loop to `run_loop`. Here
that method runs some rounds of the loop's body on variables that come from outside
and go out again under the names that the sampler's registry entry gives them. What is
chosen, and how, stays KerasHub's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt_repl.engine.inspection import probabilities, temperature_of
from minigpt_repl.engine.request import (
    CandidatesWeighed,
    DraftVerified,
    Hypothesis,
)
from minigpt_repl.errors import EngineError
from minigpt_repl.models.language_model import LanguageModel
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec, Search

ROW_COUNTS = (1, 2, 3, 5, 10, 16, 24, 32, 48, 64)
"""Numbers of texts that a program is compiled for, then each 64; the rows beyond those
that were asked for are left out of the search. XLA never gives a program back."""

State = dict[str, tf.Tensor]
"""The variables of a sampler's loop, by the names in its registry entry."""


@dataclass(frozen=True)
class Asked:
    """What a search last asked the model, and what it was told.

    Attributes:
        prompt: the texts that it asked about, int `(rows, context)`.
        logits: `(rows, vocabulary)`, or `(1, new, vocabulary)` for drafts.
        hidden_states: of the last tokens, `(rows, hidden)`.
    """

    prompt: np.ndarray
    logits: np.ndarray
    hidden_states: np.ndarray


def shape_of(
    spec: SamplerSpec, values: Mapping[str, Value], most: int
) -> dict[str, Value]:
    """The values of the program that makes a text.

    Args:
        spec: the sampler.
        values: its parameters.
        most: ids that may be chosen. More candidates would weigh masked ones.
    """
    assert spec.search is not None
    shape = {p.name: values[p.name] for p in spec.parameters if not p.is_live}
    if (name := spec.search.rows) is not None:
        wanted = int(shape[name] or 1)
        filled_up = next((n for n in ROW_COUNTS if n >= wanted), -(-wanted // 64) * 64)
        shape[name] = min(filled_up, most)
    return shape


class SearchLoop:
    """A search and a model as two programs: one to begin, one for some steps.

    Args:
        spec: the sampler.
        shape: its parameters that shape the graph, from `shape_of`.
        model: the model.
        draft: the draft model, if there is one.
        on_trace: called whenever a graph is traced.

    Raises:
        EngineError: if the sampler needs a draft model and there is none.
    """

    def __init__(
        self,
        spec: SamplerSpec,
        shape: Mapping[str, Value],
        model: LanguageModel,
        draft: LanguageModel | None,
        on_trace: Callable[[], None],
    ) -> None:
        assert spec.search is not None
        self._search: Search = spec.search
        self._drafts = "draft_cache" in spec.search.state
        if self._drafts and draft is None:
            raise EngineError(
                f"{spec.name} needs a draft model and this checkpoint has none: "
                "train it with minigpt-setup --draft"
            )
        self._model, self._draft, self._on_trace = model, draft, on_trace
        self._variables = {
            parameter.name: tf.Variable(
                1, dtype=tf.int32 if parameter.kind is int else tf.float32
            )
            for parameter in spec.parameters
            if parameter.is_live
        }
        rows = int(shape[spec.search.rows] or 1) if spec.search.rows else 1
        self._wanted = tf.Variable(rows)
        sampler_class: Any = spec.load_class()
        stepped = type(sampler_class.__name__, (_SomeSteps, sampler_class), {})
        self._sampler: Any = stepped(**shape, **self._variables)
        self._sampler.wanted = self._wanted
        self.rows = rows
        self._cache = model.new_cache(rows)
        self._draft_cache = draft.new_cache(1) if draft and self._drafts else None
        self._asked: tuple[tf.Tensor, ...] = ()
        # Without AutoGraph: there is nothing for it to do, and it writes files.
        self._compiled: Any = None
        self._start = tf.function(self._run_start, autograph=False)
        # Of a loop that slices at sums of its index XLA would compile each round anew,
        # so there the models are programs and the loop is TensorFlow's.
        is_compiled = not self._drafts
        self._advance = tf.function(
            self._run_advance, autograph=False, jit_compile=is_compiled or None
        )
        self._step: Any = model.decode_step
        self._draft_step: Any = draft.decode_step if draft else None
        if not is_compiled:
            self._step, self._draft_step = (
                tf.function(step, autograph=False, jit_compile=True)
                for step in (self._step, self._draft_step)
            )

    def begin(
        self, values: Mapping[str, Value], token_ids: np.ndarray, length: int
    ) -> State:
        """Read a prompt.

        Args:
            values: the sampler's parameters.
            token_ids: int32 `(1, context)`, padded at the end.
            length: how many of them are the prompt.

        Returns:
            The state before the first step.
        """
        for name, variable in self._variables.items():
            variable.assign(values[name])
        if self._search.rows is not None:
            self._wanted.assign(min(int(values[self._search.rows] or 1), self.rows))
        prompt = tf.constant(token_ids)
        if length == 1 and "hidden_states" not in self._search.state:
            # Of a single token nothing comes before what the first step reads.
            hidden_states = tf.zeros((*prompt.shape, self._model.hidden_dim))
        else:
            _, hidden_states, cache = self._model.prefill(prompt)
            self._cache.fill(cache)
        if self._draft is not None and self._draft_cache is not None:
            self._draft_cache.fill(self._draft.prefill(prompt)[2])
        self._mask = tf.constant(np.arange(token_ids.shape[1])[None] < length)
        return self._named(
            self._start(prompt, tf.constant(length), self._mask, hidden_states)
        )

    def advance(self, steps: int, state: State) -> tuple[State, Asked]:
        """Take some steps of the loop, fewer where the context ends.

        Args:
            steps: how many at most.
            state: from `begin` or the last call.

        Returns:
            The state after them, and what was asked in the last of them.
        """
        ordered = [state[name] for name in self._search.state]
        inputs = (ordered, self._mask, tf.constant(steps))
        if self._compiled is None:
            # Called by itself a traced function is checked less, which saves 0.4 ms.
            self._compiled = self._advance.get_concrete_function(*inputs)
        made, asked = self._compiled(*inputs)
        return self._named(made), Asked(*(each.numpy() for each in asked))

    def _named(self, variables: list[tf.Tensor]) -> State:
        return dict(zip(self._search.state, variables, strict=True))

    def _run_start(
        self,
        prompt: tf.Tensor,
        length: tf.Tensor,
        mask: tf.Tensor,
        hidden_states: tf.Tensor,
    ) -> list[tf.Tensor]:
        self._on_trace()
        self._sampler.injected = None
        self._call(prompt, length, mask, hidden_states)
        return [tf.convert_to_tensor(each) for each in self._sampler.loop_vars]

    def _run_advance(
        self, state: list[tf.Tensor], mask: tf.Tensor, steps: tf.Tensor
    ) -> tuple[list[tf.Tensor], tuple[tf.Tensor, ...]]:
        self._on_trace()
        sampler = self._sampler
        sampler.injected = state
        sampler.run_steps = partial(self.run_steps, steps=steps)
        # What is outside of the loop works on nothing, and is pruned.
        context, width = self._model.context_length, self._model.hidden_dim
        nothing = tf.zeros((1, context), tf.int32)
        self._call(nothing, tf.constant(0), mask, tf.zeros((1, context, width)))
        return list(sampler.loop_vars), sampler.asked

    def _call(
        self,
        prompt: tf.Tensor,
        index: tf.Tensor,
        mask: tf.Tensor,
        hidden_states: tf.Tensor,
    ) -> None:
        # Instead of keys and values, which stay where they are, a sampler gets the
        # number of the row that a text is in, to copy and select as it likes.
        row = tf.zeros((1, 1), tf.int32)
        more: dict[str, Any] = {}
        if self._drafts:
            more = {
                "draft_next": self._draft_next,
                "draft_cache": row,
                "verify_next": self._verify_next,
            }
        self._sampler(
            next=self._next,
            prompt=prompt,
            cache=row,
            index=index,
            mask=mask,
            hidden_states=hidden_states,
            **more,
        )

    def _next(
        self, prompt: tf.Tensor, rows: tf.Tensor, index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Scores of the next token of each text, which go on from `rows`."""
        if self._sampler.injected is not None and not self._sampler.is_inside:
            # Before the loop of a text that was begun long ago.
            logits = tf.zeros((1, self._model.logits_size))
            return logits, tf.zeros((1, self._model.hidden_dim)), rows
        count, size = prompt.shape[0], self._cache.rows
        last = tf.gather(prompt, [index - 1], axis=1)  # (count, 1)
        if size > 1:
            parents = tf.pad(rows[:, 0], [[0, size - count]])
            last = tf.pad(last, [[0, size - count], [0, 0]])
            self._cache.select(parents)
        logits, hidden_states = self._step(last, self._cache, index - 1)
        logits, hidden_states = logits[:count, 0], hidden_states[:count, 0]
        self._asked = (prompt, logits, hidden_states)
        return logits, hidden_states, tf.range(count)[:, None]

    def _draft_next(
        self, prompt: tf.Tensor, rows: tf.Tensor, index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The draft model's scores for position `index`."""
        # After a round whose drafts were all accepted, the last of them was never
        # seen by the draft model. So it always reads the last two tokens.
        start = tf.maximum(index - 2, 0)
        last = tf.gather(prompt, start + tf.range(2), axis=1)  # (1, 2)
        logits, hidden_states = self._draft_step(last, self._draft_cache, start)
        place = index - 1 - start
        return (
            tf.gather(logits, place, axis=1),
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
        logits, hidden_states = self._step(window, self._cache, start)
        places = tf.minimum(index - 1 - start + tf.range(k + 1), k)
        logits = tf.gather(logits, places, axis=1)  # (1, k + 1, vocabulary)
        self._asked = (prompt, logits, hidden_states[:, -1])
        return logits, rows

    def run_steps(
        self,
        cond: Callable[..., Any],
        body: Callable[..., Any],
        state: list[tf.Tensor],
        steps: tf.Tensor,
    ) -> tuple[list[tf.Tensor], tuple[tf.Tensor, ...]]:
        """Some rounds of a sampler's loop; to be traced.

        Args:
            cond: the loop's own condition.
            body: one round of the loop.
            state: the loop's variables.
            steps: how many rounds at most.

        Returns:
            The variables after them, and what was asked in the last round.
        """
        names = self._search.state
        place = names.index("index")

        def go_on(step: Any, state: Any, asked: Any) -> Any:
            has_room = state[place] < self._model.context_length
            return (step < steps) & has_room & cond(*state)

        def advance(step: Any, state: Any, asked: Any) -> Any:
            state = list(body(*state))
            if "log_probs" in names:
                beams = names.index("log_probs")
                state[beams] = self._without_others(state[beams])
            return step + 1, state, self._asked

        _, state, asked = tf.while_loop(
            go_on, advance, (tf.constant(0), state, self._nothing_asked())
        )
        return state, asked

    def _without_others(self, log_probs: tf.Tensor) -> tf.Tensor:
        """Nothing goes on from beams beyond those that were asked for."""
        ranks = tf.argsort(tf.argsort(log_probs, direction="DESCENDING", stable=True))
        return tf.where(ranks < self._wanted, log_probs, -np.inf)

    def _nothing_asked(self) -> tuple[tf.Tensor, ...]:
        rows = self._cache.rows
        logits: tuple[int, ...] = (rows, self._model.logits_size)
        if self._drafts:
            drafted = self._sampler.num_speculative_tokens
            logits = (1, drafted + 1, self._model.logits_size)
        prompt = tf.zeros((rows, self._model.context_length), tf.int32)
        return prompt, tf.zeros(logits), tf.zeros((rows, self._model.hidden_dim))


class _SomeSteps:
    """Mixin for a `keras_hub.samplers.Sampler`: its loop runs some steps or none.

    Attributes:
        injected: loop variables to go on from; `None` to run nothing.
        run_steps: runs steps, where there are variables.
        loop_vars: the loop variables at the end.
        is_inside: whether the loop is being traced.
        asked: what the search asked in the last step.
    """

    injected: Any = None
    run_steps: Any = None
    loop_vars: Any = None
    is_inside = False
    asked: Any = None

    def run_loop(
        self,
        cond: Callable[..., Any],
        body: Callable[..., Any],
        model: Any = None,
        loop_vars: Any = None,
        maximum_iterations: Any = None,
    ) -> Any:
        self.loop_vars = loop_vars
        if self.injected is not None:
            self.is_inside = True
            self.loop_vars, self.asked = self.run_steps(cond, body, self.injected)
            self.is_inside = False
        return self.loop_vars


def hypotheses(state: State, first: int, wanted: int) -> tuple[Hypothesis, ...]:
    """The `wanted` texts that beam search keeps, best first, from `first` on."""
    texts, logprobs = state["prompt"].numpy(), state["log_probs"].numpy()
    found = [
        Hypothesis(tuple(text[first : int(state["index"])].tolist()), float(logprob))
        for text, logprob in zip(texts, logprobs, strict=True)
    ]
    # A stable sort: of equals KerasHub takes the first, too.
    return tuple(sorted(found, key=lambda each: -each.logprob))[:wanted]


def pruned(
    before: tuple[Hypothesis, ...], survivors: tuple[Hypothesis, ...]
) -> tuple[Hypothesis, ...]:
    """The hypotheses of which no extension survived, best first."""
    parents = {
        each.token_ids[: len(before[0].token_ids)] for each in survivors if before
    }
    return tuple(each for each in before if each.token_ids not in parents)


def candidates_weighed(
    number: int, before: State, asked: Asked, values: Mapping[str, Value]
) -> CandidatesWeighed:
    """The candidates of one step of contrastive search, best first.

    Score = (1 - alpha) * probability - alpha * the largest cosine similarity of
    the candidate's hidden state with an earlier one (Su et al. 2022, "A
    Contrastive Framework for Neural Text Generation", arXiv:2202.06417,
    equation 5).

    Args:
        number: of the new token, from 0.
        before: the loop's variables before the step.
        asked: what the step asked: each candidate behind the text.
        values: the sampler's parameters.
    """
    index = int(before["index"])
    logits = before["logits"].numpy()[0]
    earlier = before["hidden_states"].numpy()[0, :index]  # (index, hidden)
    candidates = asked.hidden_states  # (k, hidden)
    # XLA's top_k gives the most probable first; those beyond fill the program up.
    candidates = candidates[: int(values["k"] or 1)]
    ids = asked.prompt[: len(candidates), index]
    shares = probabilities(logits, temperature_of(values))[ids]
    lengths = np.linalg.norm(candidates, axis=1)[:, None]
    lengths = lengths * np.linalg.norm(earlier, axis=1)[None]
    similarity = (candidates @ earlier.T / lengths).max(axis=1)
    alpha = float(values["alpha"] or 0.0)
    scores = (1 - alpha) * shares - alpha * similarity
    order = (-scores).argsort(kind="stable")
    return CandidatesWeighed(
        number,
        tuple(
            (int(ids[i]), float(shares[i]), float(similarity[i]), float(scores[i]))
            for i in order
        ),
    )


def draft_verified(
    number: int, index: int, state: State, asked: Asked
) -> DraftVerified:
    """One round of speculative decoding.

    Args:
        number: of the round's first token, from 0.
        index: its position.
        state: the loop's variables after the round.
        asked: what the round asked: the drafts behind the text.
    """
    drafts = asked.logits.shape[1] - 1
    drafted = asked.prompt[0, index : index + drafts].tolist()
    chosen = state["prompt"].numpy()[0, index : int(state["index"])].tolist()
    accepted = 0
    for draft, own in zip(drafted, chosen, strict=False):
        if draft != own:
            break
        accepted += 1
    return DraftVerified(number, tuple(drafted), accepted, chosen[-1])
