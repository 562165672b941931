"""KerasHub's samplers where they need a correction; each says what was wrong."""

from typing import Any

import keras_hub
from keras import ops


class ContrastiveSampler(keras_hub.samplers.ContrastiveSampler):
    """Contrastive search that never weighs a masked token.

    At a low temperature the probabilities of all but a few tokens are 0 in
    float32, those of masked ones (logit minus infinity) too, and among equals
    `top_k` takes the lowest ids: the reserved ones became candidates, and with
    alpha near 1, where probability hardly counts, were chosen.
    """

    def compute_probabilities(self, logits: Any) -> Any:
        """Probabilities `(batch, vocabulary)`; below any other for masked tokens."""
        probabilities = super().compute_probabilities(logits)
        is_masked = ops.isinf(ops.cast(logits, probabilities.dtype))
        return ops.where(is_masked, -ops.ones_like(probabilities), probabilities)
