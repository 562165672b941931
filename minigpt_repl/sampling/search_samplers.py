"""Searches that KerasHub does not have, in the form that its samplers have.

Each keeps more than the last token, and hands its loop to `Sampler.run_loop`, which the
engine takes over to run it step by step. The functions that ask a model are given, as
KerasHub's speculative sampler gets them: `next(prompt, cache, index)`, `draft_next` of
a draft model, and `verify_next(prompt, cache, index, k)`, which scores the tokens at
`index` to `index + k` in one pass.
"""

import math
from typing import Any

import keras_hub
from keras import ops

from minigpt_repl.sampling import noise, rules
from minigpt_repl.sampling.stage import probabilities

DRAFT, ACCEPT, REST = range(3)
"""Which of the random numbers of a position."""

LONGEST_NGRAM = 8

SMALLEST = 1e-30
"""Probability that counts as none."""


class _Guessing(keras_hub.samplers.SpeculativeSampler):
    """Tokens are guessed, and the model checks all guesses in one pass.

    What comes out is distributed as if the model had drawn each token: a guess x that
    was drawn from q is kept with probability min(1, p(x) / q(x)); in place of the first
    that is not, a token is drawn from max(0, p - q), and behind the last one from p.
    Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding",
    arXiv:2211.17192, algorithm 1. KerasHub's class guesses the most probable token and
    then accepts by the same rule, which draws other tokens than the model does.

    Args:
        num_speculative_tokens: int. Guesses in a round.
        seed: int or `None`. Seed of the draws.
        **kwargs: as for `keras_hub.samplers.Sampler`.
    """

    def guess(self, prompt: Any, index: Any, seeds: Any, *more: Any) -> tuple[Any, ...]:
        """The guesses of a round.

        Args:
            prompt: int `(batch, length)`.
            index: the first position to guess.
            seeds: int `(batch, 1)`.
            *more: what the loop keeps besides.

        Returns:
            The prompt with the guesses in it, the distributions that they were drawn
            from `(batch, k, vocabulary)` or `None` for certain ones, and what the loop
            keeps besides.
        """
        raise NotImplementedError

    def __call__(
        self,
        next: Any,
        prompt: Any,
        cache: Any = None,
        index: Any = 0,
        verify_next: Any = None,
        draft_next: Any = None,
        draft_cache: Any = None,
        model: Any = None,
        **kwargs: Any,
    ) -> Any:
        """KerasHub's call of a speculative sampler; prompts are of one length."""
        self._draft_next = draft_next
        seeds = ops.convert_to_tensor(self.seed_generator.next())
        if len(seeds.shape) == 1:  # one seed for all rows, as KerasHub has it
            rows = ops.arange(prompt.shape[0], dtype=seeds.dtype)[:, None]
            seeds = seeds[0] + seeds[1] * prompt.shape[0] + rows
        seeds = seeds[:, :1]
        index = ops.cast(index, "int32")
        k, length = self.num_speculative_tokens, prompt.shape[-1]
        positions = ops.arange(length, dtype="int32")

        def body(prompt: Any, cache: Any, index: Any, *more: Any) -> tuple[Any, ...]:
            drafted, q, *kept_by_guess = self.guess(prompt, index, seeds, *more)
            logits, cache = verify_next(drafted, cache, index, k)
            p = self.compute_probabilities(logits)  # (batch, k + 1, vocabulary)
            # Past the end of the prompt the last guess is taken again, unseen.
            places = ops.minimum(index + ops.arange(k, dtype="int32"), length - 1)
            ids = ops.take(drafted, places, axis=1)[..., None]  # (batch, k, 1)
            of_p = ops.take_along_axis(p[:, :k], ids, axis=-1)[..., 0]
            if q is None:
                q = ops.one_hot(ids[..., 0], p.shape[-1], dtype="float32")
            of_q = ops.take_along_axis(q, ids, axis=-1)[..., 0]
            chance = noise.uniform(ops, seeds, places[None], ACCEPT)
            is_kept = ops.cast(chance * of_q < of_p, "int32")
            counts = ops.sum(ops.cumprod(is_kept, axis=1), axis=1)
            kept = ops.min(counts)  # all rows go on from one position
            rest = self._rest(p, q, kept)
            token = rules.draw(ops, rest, noise.uniform(ops, seeds, index + kept, REST))
            own = ops.take(ids[..., 0], ops.minimum(kept, k - 1), axis=1)[:, None]
            token = ops.where(counts[:, None] > kept, own, ops.cast(token, own.dtype))
            is_guess = (positions >= index) & (positions < index + kept)
            prompt = ops.where(is_guess, drafted, prompt)
            prompt = ops.where(positions == index + kept, token, prompt)
            index = ops.minimum(index + kept + 1, length)
            return prompt, cache, index, *kept_by_guess

        more = () if draft_cache is None else (draft_cache,)
        return self.run_loop(
            lambda prompt, cache, index, *more: index < length,
            body,
            model=model,
            loop_vars=(prompt, cache, index, *more),
        )[0]

    def _rest(self, p: Any, q: Any, kept: Any) -> Any:
        """What to draw from behind the guesses that are kept, `(batch, vocabulary)`."""
        k = self.num_speculative_tokens
        after = ops.take(p, kept, axis=1)
        of_guess = ops.take(q, ops.minimum(kept, k - 1), axis=1)
        rest = ops.maximum(after - ops.where(kept < k, of_guess, 0.0), 0.0)
        # By rounding nothing may be left where p and q are the same.
        is_left = ops.any(rest > 0, axis=-1, keepdims=True)
        return ops.where(is_left, rest, after)


class SpeculativeSampling(_Guessing):
    """Draws guesses from a draft model; see `_Guessing`."""

    def guess(self, prompt: Any, index: Any, seeds: Any, *more: Any) -> tuple[Any, ...]:
        """The draft model's draws, one after another."""
        k, length = self.num_speculative_tokens, prompt.shape[-1]
        positions = ops.arange(length, dtype="int32")

        def draw(step: Any, drafted: Any, draft_cache: Any) -> tuple[Any, Any, Any]:
            place = index + step
            logits, _, draft_cache = self._draft_next(
                drafted, draft_cache, ops.minimum(place, length - 1)
            )
            shares = self.compute_probabilities(logits)  # (batch, vocabulary)
            chance = noise.uniform(ops, seeds, place, DRAFT)
            token = ops.cast(rules.draw(ops, shares, chance), drafted.dtype)
            return ops.where(positions == place, token, drafted), draft_cache, shares

        def draw_next(step: Any, state: Any) -> tuple[Any, Any, Any]:
            drafted, draft_cache, q = state
            drafted, draft_cache, shares = draw(step, drafted, draft_cache)
            q = ops.slice_update(q, (0, step, 0), shares[:, None])
            return drafted, draft_cache, q

        drafted, draft_cache, shares = draw(0, prompt, *more)
        q = ops.pad(shares[:, None], ((0, 0), (0, k - 1), (0, 0)))
        drafted, draft_cache, q = ops.fori_loop(
            1, k, draw_next, (drafted, draft_cache, q)
        )
        return drafted, q, draft_cache


class _Greedy(_Guessing):
    """Keeps a guess if it is the model's first choice, so that the text is greedy."""

    def compute_probabilities(self, logits: Any) -> Any:
        """All of it on the highest logit, which temperature does not change."""
        size = logits.shape[-1]
        return ops.one_hot(ops.argmax(logits, axis=-1), size, dtype="float32")


class SpeculativeDecoding(_Greedy, SpeculativeSampling):
    """KerasHub's speculative sampler without a base sampler: the greedy text.

    KerasHub's own slices at sums of its index, so XLA would compile each round anew.
    """


class PromptLookup(_Greedy):
    """Guesses that the text goes on as it did after the same tokens before.

    Prompt lookup decoding, Saxena 2023 (github.com/apoorvumang/prompt-lookup-decoding):
    the last tokens are looked for in the text so far, and what followed them there is
    the guess. A guess is kept if it is the model's first choice, so the text is greedy.

    Args:
        num_speculative_tokens: int. Guesses in a round.
        ngram: int. Tokens that are to be the same.
        **kwargs: as for `keras_hub.samplers.Sampler`.
    """

    def __init__(
        self, num_speculative_tokens: int = 5, ngram: Any = 2, **kwargs: Any
    ) -> None:
        super().__init__(num_speculative_tokens, **kwargs)
        self.ngram = ngram

    def guess(self, prompt: Any, index: Any, seeds: Any, *more: Any) -> tuple[Any, ...]:
        """What followed the same tokens the last time, over and over; 0 for nothing."""
        k, length = self.num_speculative_tokens, prompt.shape[-1]
        positions = ops.arange(length, dtype="int32")
        is_same = positions < index
        for back in range(1, LONGEST_NGRAM + 1):
            own = ops.take(prompt, ops.maximum(index - back, 0), axis=1)[:, None]
            before = ops.roll(prompt, back, axis=1) == own
            is_beyond = ops.greater(back, self.ngram)
            is_same = is_same & ((before & (positions >= back)) | is_beyond)
        place = ops.max(ops.where(is_same, positions, 0), axis=1)[:, None]
        # Where the text goes round in a circle the guess goes round with it.
        followed = place + ops.arange(k, dtype="int32") % (index - place)
        guesses = ops.take_along_axis(prompt, followed, axis=1)
        guesses = ops.where(place > 0, guesses, 0)  # (batch, k)
        where = ops.clip(positions - index, 0, k - 1)
        guessed = ops.take(guesses, where, axis=1)  # (batch, length)
        is_guess = (positions >= index) & (positions < index + k)
        return ops.where(is_guess, guessed, prompt), None, *more


class ContrastiveDecoding(keras_hub.samplers.Sampler):
    """The token that the model finds more likely than its draft model does.

    Of the tokens x with p(x) >= alpha max p the one with the highest log p(x) -
    log q(x), where p is the model's distribution and q the draft model's: Li et al.
    2023, "Contrastive Decoding: Open-ended Text Generation as Optimization",
    arXiv:2210.15097, equations 2 and 3, with a beam of one.

    Args:
        alpha: float. Share of the highest probability that a token must have.
        draft_temperature: float. Divides the draft model's logits.
        **kwargs: as for `keras_hub.samplers.Sampler`.
    """

    def __init__(
        self, alpha: Any = 0.1, draft_temperature: Any = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha
        self.draft_temperature = draft_temperature

    def __call__(
        self,
        next: Any,
        prompt: Any,
        cache: Any = None,
        index: Any = 0,
        draft_next: Any = None,
        draft_cache: Any = None,
        model: Any = None,
        **kwargs: Any,
    ) -> Any:
        """KerasHub's call of a speculative sampler; prompts are of one length."""
        length = prompt.shape[-1]
        positions = ops.arange(length, dtype="int32")
        index = ops.cast(index, "int32")

        def body(
            prompt: Any, cache: Any, index: Any, draft_cache: Any, draft_logits: Any
        ) -> tuple[Any, ...]:
            logits, _, cache = next(prompt, cache, index)
            scores = contrast(
                ops, logits, draft_logits, self.alpha, self.draft_temperature
            )
            token = ops.cast(ops.argmax(scores, axis=-1), prompt.dtype)[:, None]
            prompt = ops.where(positions == index, token, prompt)
            index = index + 1
            draft_logits, _, draft_cache = draft_next(prompt, draft_cache, index)
            return prompt, cache, index, draft_cache, draft_logits

        draft_logits, _, draft_cache = draft_next(prompt, draft_cache, index)
        return self.run_loop(
            lambda prompt, cache, index, *more: index < length,
            body,
            model=model,
            loop_vars=(prompt, cache, index, draft_cache, draft_logits),
        )[0]


def contrast(
    ns: Any, logits: Any, draft_logits: Any, alpha: Any, draft_temperature: Any
) -> Any:
    """The scores of `ContrastiveDecoding`, of the shape of both models' logits.

    The namespace `ns` is `numpy` or `keras.ops`.
    """
    p = probabilities(ns, logits)
    q = probabilities(ns, draft_logits / draft_temperature)
    # Of logits, for the best is the best even where a compiler computes it twice.
    below = logits - ns.max(logits, axis=-1, keepdims=True)
    is_plausible = below >= ns.log(ns.maximum(alpha, SMALLEST))
    # What the draft model gives nothing in float32 is limited, not infinite.
    ratio = ns.where(is_plausible, p, 1.0) / ns.maximum(q, SMALLEST)
    return ns.where(is_plausible, ns.log(ratio), -math.inf)
