"""KerasHub's samplers where they need a correction or would be slow.

Each has the parameters, the kept set and the distribution of KerasHub's class, which
is its oracle in the tests, and can be used in its place anywhere. Where the classes
there draw a random number for each token of the vocabulary and sort it, these draw
one number and test one token.
"""

from collections.abc import Mapping
from typing import Any

import keras
import keras_hub
from keras import ops

from minigpt_repl.errors import UsageError
from minigpt_repl.sampling import chain, noise, rules
from minigpt_repl.sampling.history import NO_WORDS
from minigpt_repl.sampling.registry import as_chain, read_sampler
from minigpt_repl.sampling.stage import probabilities as softmax

MOST = 2**30
"""Stands for "off" in a number of tokens: more than there can be."""

NEVER = -1e9
"""In place of a probability that is not to be weighed."""


class RowSeeds(keras.random.SeedGenerator):
    """Gives each row of a batch the numbers of its own seed.

    Attributes:
        current: what `next()` gives: int `(rows, 2)`, each row's seed and the number
            of the token that is chosen; or `(2,)` while a single row is.
    """

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.current: Any = None

    def next(self, ordered: bool = True) -> Any:
        """The seeds in use; they change with the token, not with the call."""
        return self.current


class DrawOneToken:
    """Draws from what a rule keeps, without finding all that it keeps.

    A token is drawn from the whole distribution; if the rule does not keep it, it
    keeps none behind it in the order either, and the next is drawn from those before
    it. So the result is distributed as a draw from the kept tokens: the rejection
    sampling of FlashInfer, Ye et al. 2025, "Sorting-Free GPU Kernels for LLM
    Sampling", with one pivot.

    Attributes:
        is_shared: whether a token is drawn by noise of its own in place of that; see
            `noise.gumbel`, which takes XLA long to compile.
    """

    seed_generator: Any
    is_shared = False

    def limits(self, probabilities: Any) -> rules.Limits:
        """The limits of the rule, with this sampler's parameters; here none."""
        return ()

    def get_next_token(self, probabilities: Any) -> Any:
        """Draw a token for each row of `(rows, vocabulary)`; int32 `(rows,)`."""
        seeds = self.next_seeds(probabilities.shape[0])
        draw = self._draw_shared if self.is_shared else self._draw
        return draw(probabilities, seeds)

    def next_seeds(self, rows: int) -> Any:
        """Each row's seed and the number of its token, int `(rows, 2)`."""
        seeds = ops.convert_to_tensor(self.seed_generator.next())
        if len(seeds.shape) == 1:  # one seed for all rows, as KerasHub has it
            own = ops.arange(rows, dtype=seeds.dtype)[:, None]
            seeds = seeds + own * ops.array([[1, 0]], dtype=seeds.dtype)
        return seeds

    def _draw_shared(self, probabilities: Any, seeds: Any) -> Any:
        """The kept token of the highest log-probability with noise added."""
        kept = rules.kept(ops, probabilities, self.limits(probabilities))
        ids = ops.arange(probabilities.shape[-1], dtype="int32")[None]
        added = noise.gumbel(ops, seeds[:, :1], seeds[:, 1:], ids)
        scores = ops.log(ops.where(kept, probabilities, 1.0)) + added
        scores = ops.where(kept, scores, float("-inf"))
        return ops.cast(ops.argmax(scores, axis=-1), "int32")

    def _draw(self, probabilities: Any, seeds: Any) -> Any:
        limits = self.limits(probabilities)

        def draw(trial: Any, weights: Any) -> Any:
            uniform = noise.uniform(ops, seeds[:, :1], seeds[:, 1:], trial)
            return ops.cast(rules.draw(ops, weights, uniform), "int32")

        if not limits:  # of what is left every token will do
            return ops.squeeze(draw(0, probabilities), axis=-1)

        def attempt(trial: Any, is_done: Any, token_ids: Any, weights: Any) -> Any:
            token_ids = ops.where(is_done, token_ids, draw(trial, weights))
            before = rules.before(ops, probabilities, token_ids)
            is_done = is_done | rules.hold(ops, before, limits)
            return trial + 1, is_done, token_ids, ops.where(before, probabilities, 0.0)

        # With no number among the probabilities there is nothing to find.
        total = ops.sum(probabilities, axis=-1, keepdims=True)
        is_done = ops.logical_not(total > 0)
        state = (0, is_done, ops.zeros(is_done.shape, "int32"), probabilities)
        state = ops.while_loop(
            lambda trial, is_done, *_: ops.logical_not(ops.all(is_done)), attempt, state
        )
        return ops.squeeze(state[2], axis=-1)


class RandomSampler(DrawOneToken, keras_hub.samplers.RandomSampler):
    """Draws from the whole distribution."""


class TopKSampler(DrawOneToken, keras_hub.samplers.TopKSampler):
    """Draws from the k most probable tokens."""

    def limits(self, probabilities: Any) -> rules.Limits:
        """At most k tokens."""
        return rules.top("k")(ops, probabilities, {"k": self.k})


class TopPSampler(DrawOneToken, keras_hub.samplers.TopPSampler):
    """Draws from the fewest tokens that together exceed probability p."""

    def limits(self, probabilities: Any) -> rules.Limits:
        """At most probability p before a token, and k tokens if k is set."""
        return rules.top_p(ops, probabilities, {"p": self.p, "k": self.k})


class Chain(DrawOneToken, keras_hub.samplers.Sampler):
    """Rules one after another, and a draw from what they leave.

    It can be used wherever KerasHub takes a sampler:
    `causal_lm.compile(sampler=Chain("min_p=0.05 + temperature=0.8"))`.

    Args:
        stages: the chain as a user types it; see `minigpt_repl.sampling.chain`.
        seed: of the draws.
        values: parameters by their names in the chain, in place of typed ones:
            numbers, or variables `(rows, 1)`.

    Words and what a chain learns from its own choices need this program's loop:
    `ban`, `logit_bias`, `min_length`, `mirostat` and `adaptive_p` can't be used
    elsewhere, and `dry` has no breakers there.

    Attributes:
        seen: the tokens so far, int `(rows, length)`, the last one at the end and -1
            where there is none; kept by the loop that calls.
        end_id: what ends a document.
        learned: float `(rows, 1)`, what the last stage learned; kept by the loop.
        rescued: int `(rows,)`, the number of the first stage, from 1, that would have
            left nothing of the last token; 0 if none.
    """

    def __init__(
        self,
        stages: str,
        seed: int | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        spec, typed = read_sampler(as_chain(stages))
        parsed = {
            name: spec.parameter(name).parse(text) for name, text in typed.items()
        }
        if values is None and (bound := spec.bound_to_the_engine(parsed)):
            raise UsageError(f"{bound[0]} works in the REPL and its commands only")
        self._stages = spec.stages
        self._needs = {need for stage in spec.stages for need in stage.needs}
        checked = spec.check(parsed)
        self._text = spec.text(checked)
        self._values: dict[str, Any] = {**checked, **(values or {})}
        for parameter in spec.parameters:
            value = self._values[parameter.name]
            if parameter.tokens and isinstance(value, str | None):
                self._values[parameter.name] = ops.array(NO_WORDS[parameter.tokens])
            elif value is None:
                self._values[parameter.name] = MOST
        self._seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.seen: Any = None
        self.end_id: int | None = None
        self.learned: Any = None
        self.rescued: Any = None
        self._entering: Any = None  # the logits before the last stage

    def compute_probabilities(self, logits: Any) -> Any:
        """What the rules leave, `(rows, vocabulary)`, as probabilities."""
        logits = ops.cast(logits, "float32")
        seeds, learned = None, 0.0
        if self._needs & {"chance", "made", "learned"}:
            seeds = self.next_seeds(logits.shape[0])
        if self.learned is not None:
            learned = self._learned_before(seeds)
        given = (self.seen, seeds, self.end_id, learned)
        left = chain.steps(ops, logits, self._stages, self._values, *given)
        self._entering = left[-2].logits if len(left) > 1 else logits
        self.rescued = ops.zeros(logits.shape[:1], dtype="int32")
        for number in range(len(left), 0, -1):
            is_rescued = left[number - 1].is_rescued[:, 0]
            self.rescued = ops.where(is_rescued, number, self.rescued)
        return softmax(ops, left[-1].logits)

    def get_next_token(self, probabilities: Any) -> Any:
        """Draw a token for each row; see `DrawOneToken`. A chain learns from it."""
        token_ids = super().get_next_token(probabilities)
        if self.learned is not None:
            last, chosen = self._stages[-1], token_ids[:, None]
            entering = softmax(ops, self._entering)
            before = ops.take_along_axis(entering, chosen, axis=-1)
            behind = ops.take_along_axis(probabilities, chosen, axis=-1)
            learned = self._learned_before(self.seed_generator.next())
            own = chain.own_values(last, self._values)
            assert last.learns is not None
            self.learned = last.learns(ops, learned, before, behind, **own)
        return token_ids

    def _learned_before(self, seeds: Any) -> Any:
        """What was learned before the token that is chosen; nothing at the first."""
        return ops.where(seeds[:, 1:] == 0, 0.0, ops.convert_to_tensor(self.learned))

    def __call__(self, next: Any, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        """KerasHub's loop, with the tokens so far at hand."""

        def next_seen(prompt: Any, cache: Any, index: Any) -> Any:
            # The tokens before `index`, at the end of an array as long.
            length = prompt.shape[-1]
            places = ops.arange(length) - length + index
            moved = ops.take(prompt, ops.maximum(places, 0), axis=-1)
            self.seen = ops.where(places >= 0, ops.cast(moved, "int32"), -1)
            return next(prompt, cache, index)

        return super().__call__(next_seen, prompt, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"stages": self._text, "seed": self._seed}


class ContrastiveSampler(keras_hub.samplers.ContrastiveSampler):
    """Contrastive search that never weighs a masked token, nor more than it is told.

    At a low temperature the probabilities of all but a few tokens are 0 in
    float32, those of masked ones (logit minus infinity) too, and among equals
    `top_k` takes the lowest ids: the reserved ones became candidates, and with
    alpha near 1, where probability hardly counts, were chosen.

    Attributes:
        kept: of the `k` candidates how many are weighed, an int or a variable; the
            others can't win.
    """

    kept: Any = None

    @property
    def alpha(self) -> Any:
        """Weight of the similarity; never all, so that what can't win does not."""
        return ops.minimum(ops.cast(self._alpha, "float32"), 1 - 1e-6)

    @alpha.setter
    def alpha(self, value: Any) -> None:
        self._alpha = value

    def compute_probabilities(self, logits: Any) -> Any:
        """Probabilities `(batch, vocabulary)`; far below 0 for what is not weighed."""
        probabilities = super().compute_probabilities(logits)
        is_masked = ops.isinf(ops.cast(logits, probabilities.dtype))
        probabilities = ops.where(is_masked, -1.0, probabilities)
        kept = self.k if self.kept is None else self.kept
        best, ids = ops.top_k(probabilities, k=self.k)  # (batch, k); ties by id
        least, last = (ops.take(each, [kept - 1], axis=1) for each in (best, ids))
        is_tied = (probabilities == least) & (ops.arange(logits.shape[-1]) <= last)
        return ops.where((probabilities > least) | is_tied, probabilities, NEVER)
