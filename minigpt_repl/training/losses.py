"""What is minimised, and what is measured: cross-entropy of windows.

Keras' `sparse_softmax_cross_entropy` takes most of a training step at this shape on a
CPU: it casts the bfloat16 logits to float32 and goes through them several times. Here
they are read as they come, twice, in two small functions that XLA compiles: once for
the log of the partition function, once for the gradient. Backends other than TensorFlow
get the plain formula. Perplexity is the exponential of this loss, so no metric needs
a second softmax.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

from minigpt_repl.models.text.codec import PAD_ID
from minigpt_repl.training.dataset import Windows, for_predict
from minigpt_repl.training.devices import jit_compile, local_devices, own_rows, whole

EVALUATED_AT_ONCE = 64
"""Windows at once on a device; changes the speed only."""


def mean_cross_entropy(logits: Any, labels: Any) -> Any:
    """Mean of `-log softmax(logits)[label]` over the positions with a label.

    Args:
        logits: tensor of shape `(batch, length, rows)`, in any float type.
        labels: int tensor of shape `(batch, length)`; where it is `[PAD]`, nothing
            counts.

    Returns:
        A float32 scalar; all arithmetic between is float32, too.
    """
    labels = ops.reshape(ops.cast(labels, "int32"), (-1,))
    weights = _is_token(labels)
    weights /= ops.maximum(ops.sum(weights), 1.0)
    logits = ops.reshape(logits, (-1, logits.shape[-1]))
    return weighted_cross_entropy(logits, labels, weights)


def weighted_cross_entropy(logits: Any, labels: Any, weights: Any) -> Any:
    """`sum(weights * -log softmax(logits)[labels])`, a float32 scalar.

    Args:
        logits: float tensor of shape `(positions, rows)`.
        labels: int tensor of shape `(positions,)`.
        weights: float32 tensor of shape `(positions,)`; no gradient flows to it.
    """
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_cross_entropy()(logits, labels, weights)
    return ops.sum(weights * _surprisal(logits, labels))


def _surprisal(logits: Any, labels: Any) -> Any:
    """`-log softmax(logits)[label]` of each position, float32, like `labels`."""
    logits = ops.cast(logits, "float32")
    labels = ops.expand_dims(labels, axis=-1)
    at_label = ops.take_along_axis(logits, labels, axis=-1)
    return ops.logsumexp(logits, axis=-1) - ops.squeeze(at_label, axis=-1)


def _is_token(labels: Any) -> Any:
    """1 where there is a label, 0 where there is `[PAD]`; float32."""
    return ops.cast(ops.not_equal(labels, PAD_ID), "float32")


@cache
def _tensorflow_cross_entropy() -> Any:
    """The function for TensorFlow, made once: tracing it takes a while."""
    import tensorflow as tf

    @tf.function(jit_compile=True, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def log_partition_of(logits: Any) -> Any:
        """`log sum exp` of each position, of shape `(positions,)`."""
        return tf.reduce_logsumexp(tf.cast(logits, tf.float32), axis=-1)

    @tf.function(jit_compile=True, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def scaled_softmax(logits: Any, log_partition: Any, scale: Any) -> Any:
        """`scale * softmax(logits)` in the logits' type, `scale` by position."""
        wide = tf.cast(logits, tf.float32)
        return tf.cast(
            tf.exp(wide - log_partition[:, None]) * scale[:, None], logits.dtype
        )

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def cross_entropy(logits: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
        positions = tf.range(tf.shape(labels)[0])
        label_indices = tf.stack([positions, labels], axis=-1)  # (positions, 2)
        log_partition = log_partition_of(logits)
        label_logits = tf.cast(tf.gather_nd(logits, label_indices), tf.float32)

        def gradient(upstream: Any) -> tuple[Any, None, None]:
            # d loss / d logit = weight * (softmax - 1 at the label)
            scale = weights * upstream
            softmax = scaled_softmax(logits, log_partition, scale)
            at_label = tf.cast(scale, softmax.dtype)
            of_logits = tf.tensor_scatter_nd_sub(softmax, label_indices, at_label)
            return of_logits, None, None

        return tf.reduce_sum(weights * (log_partition - label_logits)), gradient

    return cross_entropy


def taught_cross_entropy(logits: Any, taught: Any, labels: Any) -> Any:
    """The cross-entropy under a teacher's probabilities, and under the text, by halves.

    Distillation: G. Hinton et al. (2015), arXiv 1503.02531. Its gradient is the
    difference of the model's distribution and the target, which is the mean of the
    teacher's and the one that is sure of the label.

    Args:
        logits: float tensor of shape `(batch, length, rows)`.
        taught: the teacher's logits, of the same shape.
        labels: as for `mean_cross_entropy`; the result, too.
    """
    labels = ops.cast(labels, "int32")
    is_token = _is_token(labels)
    total = ops.sum(_half_taught()(logits, taught, labels) * is_token)
    return total / ops.maximum(ops.sum(is_token), 1.0)


@cache
def _half_taught() -> Any:
    """The function for the backend, made once: one pass over the logits by XLA."""

    def cross_entropy(logits: Any, taught: Any, labels: Any) -> Any:
        logits, taught = (ops.cast(each, "float32") for each in (logits, taught))
        target = ops.softmax(taught) + ops.one_hot(labels, logits.shape[-1])
        at_target = ops.sum(target * logits, axis=-1) / 2
        return ops.logsumexp(logits, axis=-1) - at_target  # (batch, length)

    if keras.backend.backend() != "tensorflow":
        return cross_entropy
    import tensorflow as tf

    return tf.function(cross_entropy, jit_compile=True, reduce_retracing=True)


@dataclass(frozen=True)
class Evaluation:
    """What a model achieves on windows; for validation these are the reference's."""

    step: int  # steps taken before
    elapsed: float  # seconds trained before
    loss: float  # mean negative log-likelihood of a token, in nats
    perplexity: float  # its exponential; depends on the vocabulary
    bits_per_byte: float  # comparable between vocabularies


class Evaluator:
    """Measures a model again and again; traced once.

    It is from ids `(batch, length)` to logits `(batch, length, rows)`.
    """

    def __init__(self, model: keras.Model, tokens_per_byte: float) -> None:
        ids = keras.Input((None,), dtype="int32")
        labels = keras.Input((None,), dtype="int32")
        losses = ops.sum(_surprisal(model(ids), labels) * _is_token(labels), axis=-1)
        of_windows = keras.layers.Lambda(whole, output_shape=())(losses)  # (batch,)
        self._model = keras.Model([ids, labels], of_windows)
        self._model.compile(jit_compile=jit_compile())
        self._tokens_per_byte = tokens_per_byte
        self._batch_size = EVALUATED_AT_ONCE * local_devices()

    def measure(
        self, windows: Windows, step: int = 0, elapsed: float = 0.0
    ) -> Evaluation:
        """The model as it is now, on all windows."""
        pair = (windows.inputs, windows.labels)
        inputs = [own_rows(each.astype("int32")) for each in pair]
        losses = self._model.predict(**for_predict(inputs, self._batch_size), verbose=0)
        tokens = np.count_nonzero(windows.labels != PAD_ID)
        loss = float(losses.sum(dtype="float64") / tokens)
        bits_per_byte = loss / math.log(2) * self._tokens_per_byte
        # A diverged model's perplexity does not fit a float.
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return Evaluation(step, elapsed, loss, perplexity, bits_per_byte)
