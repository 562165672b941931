"""The slow, obvious way to decode, as the reference example does it.

The samplers as they are, eager, and for every token the whole model on every
position: no cache, no compiled code. What the engine makes must equal this.
"""

from functools import cache
from inspect import signature

import keras
import keras_hub
import numpy as np
import tensorflow as tf

BOS = 2
VOCABULARY_SIZE = 71
PLAIN = {
    "beam": "BeamSampler",
    "contrastive": "ContrastiveSampler",
    "speculative": "SpeculativeSampler",
}
"""KerasHub's own classes where the program has subclasses without chance."""


class CountedSeeds(keras.random.SeedGenerator):
    """Gives the token with the number n the numbers of (seed, n)."""

    def __init__(self, seed):
        super().__init__(seed=0)
        self.chosen = 0
        self.own_seed = seed

    def next(self, ordered=True):
        self.chosen += 1
        return tf.constant([[self.own_seed, self.chosen - 1]])


class Oracle:
    """One sampler over one model.

    Args:
        causal_lm: the model.
        spec: the sampler's entry in the registry.
        values: its parameters.
        seed: for samplers that have one.
        draft: the draft model, for speculative decoding.
    """

    def __init__(self, causal_lm, spec, values, seed=0, draft=None):
        self.sampler = spec.make(values)
        if spec.name in PLAIN:
            plain = getattr(keras_hub.samplers, PLAIN[spec.name])
            names = {*signature(plain).parameters, "temperature"} & values.keys()
            self.sampler = plain(**{name: values[name] for name in names})
        if spec.is_random:
            self.sampler.seed_generator = CountedSeeds(seed)
        self.causal_lm = causal_lm
        self.draft = draft

    def continue_ids(self, ids, length):
        """The `length` tokens that follow `[BOS]` and `ids`."""
        used = 1 + len(ids)
        prompt = np.zeros((1, used + length), "int32")
        prompt[0, :used] = [BOS, *ids]
        more = {}
        if self.draft is not None:
            more["draft_next"] = self.make_next(self.draft)
        _, hidden_states = forward(self.causal_lm, prompt)
        text = self.sampler(
            next=self.make_next(self.causal_lm),
            prompt=tf.constant(prompt),
            index=used,
            mask=tf.constant(np.arange(used + length)[None] < used),
            hidden_states=hidden_states,
            **more,
        )
        return tuple(int(id_) for id_ in keras.ops.convert_to_numpy(text)[0, used:])

    @staticmethod
    def make_next(causal_lm):
        def next(prompt, cache, index):
            logits, hidden_states = forward(causal_lm, prompt)
            return logits[:, index - 1], hidden_states[:, index - 1], cache

        return next


def forward(causal_lm, token_ids):
    """Masked logits and hidden states of every position, in one plain pass."""
    token_ids = tf.convert_to_tensor(token_ids)
    length = token_ids.shape[1]
    # What stands behind a position changes nothing before it.
    room = causal_lm.backbone.max_sequence_length - length
    logits, hidden_states = plain_pass(causal_lm)(
        tf.pad(token_ids, [[0, 0], [0, room]])
    )
    ids = np.arange(logits.shape[-1])
    allowed = (ids > BOS) & (ids < VOCABULARY_SIZE)
    return tf.where(allowed, logits, -np.inf)[:, :length], hidden_states[:, :length]


@cache
def plain_pass(causal_lm):
    """The model on rows of whole contexts, as a graph: eager it would take seconds."""
    context = causal_lm.backbone.max_sequence_length

    @tf.function(input_signature=[tf.TensorSpec((None, context), tf.int32)])
    def both(token_ids):
        inputs = {"token_ids": token_ids, "padding_mask": tf.ones_like(token_ids)}
        hidden_states = causal_lm.backbone(inputs)
        return causal_lm.logits(hidden_states), hidden_states

    return both
