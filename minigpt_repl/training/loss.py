"""Cross-entropy over a large vocabulary, without Keras' second and third pass.

`sparse_softmax_cross_entropy` takes most of a training step at this shape on a
CPU: bfloat16 logits are cast to float32 and gone through several times. Here they
are read as they come, twice: once for the log of the partition function, once for
the gradient, in two small functions that XLA compiles.

Perplexity is the exponential of this loss, so no metric needs a second softmax.
Knows no model and no data. Backends other than TensorFlow get the plain formula.
"""

from typing import Any

import keras
from keras import ops

from minigpt_repl.training.mirrored import sum_over_devices


class FusedCrossEntropy(keras.losses.Loss):
    """Mean of `-log softmax(logits)[label]` over the positions with a label.

    Positions whose label is `[PAD]`, 0, count for nothing. Of several devices each
    has its own part of that mean: the sum of theirs is it. The result is float32
    whatever the logits are, and so is all arithmetic between.
    """

    def __init__(self, name: str = "fused_cross_entropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss, a float32 scalar.

        Args:
            y_true: int tensor of labels, of shape `(batch, length)`.
            y_pred: tensor of logits, of shape `(batch, length, rows)`, in any
                float type. Not cast first, unlike in `Loss.__call__`.
            sample_weight: weights of the positions, `(batch, length)`, or `None`.
        """
        labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        weights = ops.cast(ops.not_equal(labels, 0), "float32")
        if sample_weight is not None:
            weights *= ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        weights /= ops.maximum(sum_over_devices(ops.sum(weights)), 1.0)
        logits = ops.reshape(y_pred, (-1, y_pred.shape[-1]))
        return weighted_cross_entropy(logits, labels, weights)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """As `__call__`; Keras asks for it."""
        return self(y_true, y_pred)


def weighted_cross_entropy(logits: Any, labels: Any, weights: Any) -> Any:
    """`sum(weights * -log softmax(logits)[labels])`.

    Args:
        logits: float tensor of shape `(positions, rows)`.
        labels: int tensor of shape `(positions,)`.
        weights: float32 tensor of shape `(positions,)`; no gradient flows to it.

    Returns:
        A float32 scalar.
    """
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_cross_entropy()(logits, labels, weights)
    logits = ops.cast(logits, "float32")
    log_partition = ops.logsumexp(logits, axis=-1)
    label_logits = ops.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return ops.sum(weights * (log_partition - label_logits))


_compiled: list[Any] = []


def _tensorflow_cross_entropy() -> Any:
    """The function for TensorFlow, made once: tracing it takes a while."""
    if not _compiled:
        _compiled.append(_make_tensorflow_cross_entropy())
    return _compiled[0]


def _make_tensorflow_cross_entropy() -> Any:
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

    def cross_entropy(logits: Any, labels: Any, weights: Any) -> Any:
        positions = tf.range(tf.shape(labels)[0])
        label_indices = tf.stack([positions, labels], axis=-1)  # (positions, 2)

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def of_logits(logits: Any) -> tuple[Any, Any]:
            log_partition = log_partition_of(logits)
            label_logits = tf.cast(tf.gather_nd(logits, label_indices), tf.float32)
            loss = tf.reduce_sum(weights * (log_partition - label_logits))

            def gradient(upstream: Any) -> Any:
                # d loss / d logit = weight * (softmax - 1 at the label)
                scale = weights * upstream
                softmax = scaled_softmax(logits, log_partition, scale)
                at_label = tf.cast(scale, softmax.dtype)
                return tf.tensor_scatter_nd_sub(softmax, label_indices, at_label)

            return loss, gradient

        return of_logits(logits)

    return cross_entropy
