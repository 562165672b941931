"""Beam search and diverse beam search, in the form that KerasHub's samplers have.

Both keep several texts side by side. The loops end none: whoever runs one step by step
takes out the texts that have ended, which leaves their place to others, and chooses by
`normalized` in the end.
"""

from typing import Any

import keras_hub
from keras import ops, tree

DROPPED = -1e9
"""Log-probability of a text that is not kept, as in KerasHub's beam search."""


def normalized(logprob: float, length: int, length_penalty: float) -> float:
    """The score of a text: log p / length ** length_penalty, as in transformers.

    0 prefers short texts, 1 is the mean of the tokens' log-probabilities; above it long
    ones are preferred. Wu et al. 2016, "Google's Neural Machine Translation System",
    arXiv:1609.08144, section 7, divide by ((5 + length) / 6) ** length_penalty.
    """
    score: float = logprob / length**length_penalty
    return score


class BeamSearch(keras_hub.samplers.BeamSampler):
    """KerasHub's beam search, with a score for texts that end.

    Args:
        length_penalty: float. See `normalized`.
        **kwargs: as for `keras_hub.samplers.BeamSampler`.
    """

    def __init__(self, length_penalty: Any = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length_penalty = length_penalty

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        return config | {"length_penalty": self.length_penalty}


class DiverseBeamSearch(BeamSearch):
    """Beam search in groups, each of which avoids what those before it chose.

    At each step the groups choose one after another. Before a group does, the number of
    times that earlier groups chose a token at this step, times `diversity_penalty`, is
    taken off that token's log-probability. Vijayakumar et al. 2016, "Diverse Beam
    Search", arXiv:1610.02424, with the Hamming diversity. As in transformers and
    fairseq a text keeps what was taken off: it is ranked by its log-probability minus
    the sum of that.

    Text n is of group n % num_groups. So the first groups have one text more where the
    groups do not divide the beams, and the first texts of a program for more are
    grouped as in one for as many.

    Args:
        num_beams: int. Texts kept, of all groups.
        num_groups: int. Groups; of more than `num_beams` the last ones are empty.
        diversity_penalty: float. For each time that a token was chosen.
        **kwargs: as for `BeamSearch`.

    Attributes:
        kept: how many of the texts are kept, an int or a variable.
    """

    def __init__(
        self,
        num_beams: int = 6,
        num_groups: int = 3,
        diversity_penalty: Any = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_beams=num_beams, **kwargs)
        self.num_groups, self.diversity_penalty = num_groups, diversity_penalty
        self.kept: Any = num_beams

    def __call__(
        self,
        next: Any,
        prompt: Any,
        cache: Any = None,
        index: Any = 0,
        mask: Any = None,
        stop_token_ids: Any = None,
        model: Any = None,
        **kwargs: Any,
    ) -> Any:
        """KerasHub's call of a sampler."""

        def goes_on(prompt: Any, cache: Any, index: Any, mask: Any, *more: Any) -> Any:
            if stop_token_ids is None:
                return ops.convert_to_tensor(True, dtype="bool")
            is_end = prompt[..., None] == ops.convert_to_tensor(stop_token_ids)
            is_end = ops.any(is_end, axis=-1) & ~mask
            return ~ops.all(ops.any(is_end, axis=-1))

        def body(
            prompt: Any, cache: Any, index: Any, mask: Any, log_probs: Any, taken: Any
        ) -> tuple[Any, ...]:
            logits, _, cache = next(prompt, cache, index)
            extended = ops.log(self.compute_probabilities(logits)) + log_probs[:, None]
            parents, token, log_probs, taken = self.choose(extended, taken)
            prompt = ops.take(prompt, parents, axis=0)
            cache = tree.map_structure(
                lambda each: ops.take(each, parents, axis=0), cache
            )
            token = ops.cast(token, prompt.dtype)
            token = ops.where(mask[:, index], prompt[:, index], token)
            prompt = ops.slice_update(prompt, [0, index], token[:, None])
            return prompt, cache, index + 1, mask, log_probs, taken

        prompt, _, _, _, log_probs, taken = self.run_loop(
            goes_on,
            body,
            model=model,
            loop_vars=self._begin(prompt, cache, index, mask),
            maximum_iterations=prompt.shape[-1] - index,
        )
        prompts, scores = self._best_first(prompt, log_probs - taken)
        return (prompts, scores) if self.return_all_beams else prompts[:, 0]

    def _begin(self, prompt: Any, cache: Any, index: Any, mask: Any) -> Any:
        """What the loop begins with."""

        def repeated(each: Any) -> Any:
            return ops.repeat(each, self.num_beams, axis=0)

        # At first each group has one text, for all would be the same.
        rows = ops.arange(self.num_beams)
        is_first = (rows < self.num_groups) & (rows < self.kept)
        log_probs = ops.where(is_first, 0.0, DROPPED)
        log_probs = ops.tile(log_probs, [ops.shape(prompt)[0]])
        mask = ops.zeros_like(prompt) if mask is None else mask
        return (
            repeated(prompt),
            () if cache is None else tree.map_structure(repeated, cache),  # no `None`
            ops.cast(index, "int32"),
            repeated(ops.cast(mask, "bool")),
            log_probs,
            ops.zeros_like(log_probs),
        )

    def _best_first(self, prompt: Any, scores: Any) -> tuple[Any, Any]:
        """Texts `(batch, num_beams, length)` and their scores, in falling order."""
        shape = (-1, self.num_beams)
        scores = ops.reshape(scores, shape)
        prompt = ops.reshape(prompt, (*shape, prompt.shape[-1]))
        order = ops.argsort(-scores, axis=-1)
        prompt = ops.take_along_axis(prompt, order[..., None], axis=1)
        return prompt, ops.take_along_axis(scores, order, axis=1)

    def choose(self, extended: Any, taken: Any) -> tuple[Any, Any, Any, Any]:
        """The best extensions of each group.

        Args:
            extended: log-probabilities of the texts with each token behind them,
                `(batch * num_beams, vocabulary)`.
            taken: what was taken off each text so far, `(batch * num_beams,)`.

        Returns:
            Of each text that is kept then: the row of the one that it extends, its new
            token, its log-probability and what was taken off, `(batch * num_beams,)`.
        """
        beams, size = self.num_beams, extended.shape[-1]
        rows, groups = ops.arange(beams), ops.cast(self.num_groups, "int32")
        # Where a group keeps n texts the others choose at most beams - n tokens, so of
        # the `beams` best behind a text n or more have no penalty.
        width = min(beams, size)
        log_probs, ids = ops.top_k(extended, k=width)
        shape = (-1, beams, width)
        log_probs, ids = ops.reshape(log_probs, shape), ops.reshape(ids, shape)
        taken = ops.reshape(taken, (-1, beams, 1))

        def choose(group: Any, parents: Any, tokens: Any, *figures: Any) -> Any:
            is_same = ids[..., None] == tokens[:, None, None]
            times = ops.sum(ops.cast(is_same, "float32"), axis=-1)
            penalties = taken + self.diversity_penalty * times
            is_own = rows % groups == group
            scores = ops.where(is_own[:, None], log_probs - penalties, 2 * DROPPED)
            scores, places = ops.top_k(ops.reshape(scores, (-1, beams * width)), beams)

            def at_places(each: Any) -> Any:
                """Of each row of the group what is at its place."""
                flat = ops.reshape(each, (-1, beams * width))
                flat = ops.take_along_axis(flat, places, axis=-1)
                return ops.take(flat, rows // groups, axis=1)

            scores = ops.take(scores, rows // groups, axis=1)
            is_kept = (rows < self.kept) & (scores > DROPPED / 2)
            found = (
                ops.take(places, rows // groups, axis=1) // width,
                ops.where(is_kept, at_places(ids), -1),
                ops.where(is_kept, at_places(log_probs), DROPPED),
                at_places(penalties),
            )
            before = (parents, tokens, *figures)
            return tuple(
                ops.where(is_own, new, old)
                for new, old in zip(found, before, strict=True)
            )

        none = ops.zeros_like(ids[..., 0])  # (batch, beams)
        figures = ops.zeros_like(log_probs[..., 0])
        parents, tokens, *found = ops.fori_loop(
            0,
            groups,
            lambda group, state: choose(group, *state),
            (none, none - 1, figures, figures),
        )
        first = beams * ops.arange(ops.shape(parents)[0], dtype=parents.dtype)
        flat = (parents + first[:, None], ops.maximum(tokens, 0), *found)
        parents, tokens, log_probs, taken = (ops.reshape(one, (-1,)) for one in flat)
        return parents, tokens, log_probs, taken

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {
            "num_groups": self.num_groups,
            "diversity_penalty": self.diversity_penalty,
        }
