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

from minigpt_repl.sampling import chain, noise, rules
from minigpt_repl.sampling.registry import read_sampler
from minigpt_repl.sampling.stages import probabilities as softmax

MOST = 2**30
"""Stands for "off" in a number of tokens: more than there can be."""


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


class _DrawOneToken:
    """Draws from what a rule keeps, without finding all that it keeps.

    A token is drawn from the whole distribution; if the rule does not keep it, it
    keeps none behind it in the order either, and the next is drawn from those before
    it. So the result is distributed as a draw from the kept tokens: the rejection
    sampling of FlashInfer, Ye et al. 2025, "Sorting-Free GPU Kernels for LLM
    Sampling", with one pivot.
    """

    seed_generator: Any

    def limits(self, probabilities: Any) -> rules.Limits:
        """The limits of the rule, with this sampler's parameters."""
        raise NotImplementedError

    def get_next_token(self, probabilities: Any) -> Any:
        """Draws a token for each row.

        Args:
            probabilities: `(rows, vocabulary)`.

        Returns:
            int32 `(rows,)`.
        """
        rows = probabilities.shape[0]
        limits = self.limits(probabilities)
        seeds = ops.convert_to_tensor(self.seed_generator.next())
        first, apart = 0, 1
        if len(seeds.shape) == 1:  # one seed for all rows, as KerasHub has it
            seeds = ops.broadcast_to(seeds, (rows, 2))
            first, apart = ops.arange(rows, dtype="int32")[:, None], rows

        def attempt(trial: Any, is_done: Any, token_ids: Any, weights: Any) -> Any:
            number = first + apart * trial
            uniform = noise.uniform(ops, seeds[:, :1], seeds[:, 1:], number)
            drawn = ops.cast(rules.draw(ops, weights, uniform), "int32")
            token_ids = ops.where(is_done, token_ids, drawn)
            before = rules.before(ops, probabilities, token_ids)
            is_done = is_done | rules.hold(ops, before, limits)
            return trial + 1, is_done, token_ids, ops.where(before, probabilities, 0.0)

        # With no number among the probabilities there is nothing to find.
        total = ops.sum(probabilities, axis=-1, keepdims=True)
        is_done = ops.logical_not(total > 0)
        state = (0, is_done, ops.zeros((rows, 1), "int32"), probabilities)
        state = ops.while_loop(
            lambda trial, is_done, *_: ops.logical_not(ops.all(is_done)), attempt, state
        )
        return ops.squeeze(state[2], axis=-1)


class RandomSampler(_DrawOneToken, keras_hub.samplers.RandomSampler):
    """Draws from the whole distribution."""

    def limits(self, probabilities: Any) -> rules.Limits:
        """None."""
        return rules.no_limits(ops, probabilities, {})


class TopKSampler(_DrawOneToken, keras_hub.samplers.TopKSampler):
    """Draws from the k most probable tokens."""

    def limits(self, probabilities: Any) -> rules.Limits:
        """At most k tokens."""
        return rules.top("k")(ops, probabilities, {"k": self.k})


class TopPSampler(_DrawOneToken, keras_hub.samplers.TopPSampler):
    """Draws from the fewest tokens that together exceed probability p."""

    def limits(self, probabilities: Any) -> rules.Limits:
        """At most probability p before a token, and k tokens if k is set."""
        return rules.top_p(ops, probabilities, {"p": self.p, "k": self.k})


class Chain(_DrawOneToken, keras_hub.samplers.Sampler):
    """Rules one after another, and a draw from what they leave.

    It can be used wherever KerasHub takes a sampler:
    `causal_lm.compile(sampler=Chain("min_p=0.05 + temperature=0.8"))`.

    Args:
        stages: the chain as a user types it; see `minigpt_repl.sampling.chain`.
        seed: of the draws.
        values: parameters by their names in the chain, in place of typed ones:
            numbers, or variables `(rows, 1)`.

    Attributes:
        seen: the tokens so far, int `(rows, length)`, the last one at the end and -1
            where there is none; kept by the loop that calls.
    """

    def __init__(
        self,
        stages: str,
        seed: int | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        spec, typed = read_sampler(stages)
        if not spec.stages:  # a sampler's name that is a rule's too, such as top_k
            spec, typed = read_sampler(f"{stages} + random")
        parsed = {
            name: spec.parameter(name).parse(text) for name, text in typed.items()
        }
        self._stages = spec.stages
        self._values = {**spec.check(parsed), **(values or {})}
        self._text = spec.text({**spec.check(parsed)})
        self._seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.seen: Any = None

    def limits(self, probabilities: Any) -> rules.Limits:
        """None: what the rules removed has probability 0."""
        return ()

    def compute_probabilities(self, logits: Any) -> Any:
        """What the rules leave, `(rows, vocabulary)`, as probabilities."""
        logits = ops.cast(logits, "float32")
        seeds = None
        if any(stage.is_chance for stage in self._stages):
            seeds = ops.convert_to_tensor(self.seed_generator.next())
            if len(seeds.shape) == 1:  # one seed for all rows, as KerasHub has it
                rows = ops.cast(ops.arange(logits.shape[0])[:, None], seeds.dtype)
                seeds = seeds + rows * ops.array([[1, 0]], dtype=seeds.dtype)
        values = {
            name: MOST if value is None else value
            for name, value in self._values.items()
        }
        left = chain.steps(ops, logits, self._stages, values, self.seen, seeds)
        return softmax(ops, left[-1])

    def __call__(self, next: Any, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        """KerasHub's loop, with the tokens so far at hand."""

        def next_seen(prompt: Any, cache: Any, index: Any) -> Any:
            self.seen = _until(ops.cast(prompt, "int32"), index)
            return next(prompt, cache, index)

        return super().__call__(next_seen, prompt, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """What makes it again."""
        return {"stages": self._text, "seed": self._seed}


def _until(prompt: Any, index: Any) -> Any:
    """The tokens before `index`, at the end of an array like `prompt`."""
    length = prompt.shape[-1]
    places = ops.arange(length) - length + index
    moved = ops.take(prompt, ops.maximum(places, 0), axis=-1)
    return ops.where(places >= 0, moved, -1)


class ContrastiveSampler(keras_hub.samplers.ContrastiveSampler):
    """Contrastive search that never weighs a masked token, with fewer than k
    candidates if need be.

    At a low temperature the probabilities of all but a few tokens are 0 in
    float32, those of masked ones (logit minus infinity) too, and among equals
    `top_k` takes the lowest ids: the reserved ones became candidates, and with
    alpha near 1, where probability hardly counts, were chosen.

    Attributes:
        wanted: how many of the k candidates are weighed, a number or a variable;
            all if `None`. Compiled by XLA only, whose `top_k` is sorted.
    """

    wanted: Any = None

    def compute_probabilities(self, logits: Any) -> Any:
        """Probabilities `(batch, vocabulary)`; below any other for masked tokens."""
        probabilities = super().compute_probabilities(logits)
        is_masked = ops.isinf(ops.cast(logits, probabilities.dtype))
        return ops.where(is_masked, -ops.ones_like(probabilities), probabilities)

    def similarity(self, h1: Any, h2: Any) -> Any:
        """Of each candidate with each token before it, `(k, length)`; above any
        other for candidates beyond those that are weighed, so that the first wins."""
        found = super().similarity(h1, h2)
        if self.wanted is None:
            return found
        return ops.where(ops.arange(self.k)[:, None] < self.wanted, found, 2.0)
