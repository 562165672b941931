"""What is minimised, and what is measured: cross-entropy of windows.

`sparse_softmax_cross_entropy` takes most of a training step at this shape on a
CPU: bfloat16 logits are cast to float32 and gone through several times. Here they
are read as they come, twice: once for the log of the partition function, once for
the gradient, in two small functions that XLA compiles. Backends other than TensorFlow
get the plain formula. Perplexity is the exponential of this loss, so no metric needs
a second softmax.

Validation is the reference's own measure: windows as `cut_windows` makes them, the mean
over the labels that are a token.
"""

import math
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import keras
from keras import ops

from minigpt_repl.models.text.codec import PAD_ID
from minigpt_repl.training.dataset import Windows, for_predict
from minigpt_repl.training.devices import jit_compile, local_devices, own_rows, whole

EVALUATED_AT_ONCE = 64
"""Windows at once on a device; changes the speed only."""


class FusedCrossEntropy(keras.losses.Loss):
    """Mean of `-log softmax(logits)[label]` over the positions with a label.

    Positions whose label is `[PAD]` count for nothing. The result is float32
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
        weights = ops.cast(ops.not_equal(labels, PAD_ID), "float32")
        if sample_weight is not None:
            weights *= ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        weights /= ops.maximum(ops.sum(weights), 1.0)
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
    return ops.sum(weights * _surprisal(logits, labels))


def _surprisal(logits: Any, labels: Any) -> Any:
    """`-log softmax(logits)[label]` of each position, float32, like `labels`."""
    logits = ops.cast(logits, "float32")
    at_label = ops.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return ops.logsumexp(logits, axis=-1) - at_label


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


def taught_cross_entropy(logits: Any, taught: Any, labels: Any) -> Any:
    """The cross-entropy under a teacher's probabilities, and under the text, by halves.

    Distillation: G. Hinton et al. (2015), arXiv 1503.02531. Its gradient is the
    difference of the model's distribution and the target, which is the mean of the
    teacher's and the one that is sure of the label.

    Args:
        logits: float tensor of shape `(batch, length, rows)`.
        taught: the teacher's logits, of the same shape.
        labels: int tensor of shape `(batch, length)`; where it is `[PAD]`, nothing
            counts.

    Returns:
        The mean over the positions, a float32 scalar.
    """
    labels = ops.cast(labels, "int32")
    is_token = ops.cast(ops.not_equal(labels, PAD_ID), "float32")
    sum_ = ops.sum(_half_taught()(logits, taught, labels) * is_token)
    return sum_ / ops.maximum(ops.sum(is_token), 1.0)


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
    """What a model achieves on windows, the validation's if nothing else is said.

    Attributes:
        step: steps taken before.
        elapsed: seconds trained before.
        loss: mean negative log-likelihood of a token, in nats.
        perplexity: its exponential; depends on the vocabulary.
        bits_per_byte: comparable between vocabularies.
    """

    step: int
    elapsed: float
    loss: float
    perplexity: float
    bits_per_byte: float

    def to_json(self) -> dict[str, float]:
        """The fields, for `training.json`."""
        return asdict(self)


class Evaluator:
    """Measures a model again and again; traced once.

    Args:
        model: from ids `(batch, length)` to logits `(batch, length, rows)`.
        tokens_per_byte: of the validation text.
    """

    def __init__(self, model: keras.Model, tokens_per_byte: float) -> None:
        ids = keras.Input((None,), dtype="int32")
        labels = keras.Input((None,), dtype="int32")
        losses = WindowLoss(dtype="float32", autocast=False)([model(ids), labels])
        self._model = keras.Model([ids, labels], losses)
        self._model.compile(jit_compile=jit_compile())
        self._tokens_per_byte = tokens_per_byte
        self._batch_size = EVALUATED_AT_ONCE * local_devices()

    def measure(
        self, windows: Windows, step: int = 0, elapsed: float = 0.0
    ) -> Evaluation:
        """The model as it is now, on all windows."""
        inputs = [
            own_rows(windows.inputs.astype("int32")),
            own_rows(windows.labels.astype("int32")),
        ]
        losses = self._model.predict(**for_predict(inputs, self._batch_size), verbose=0)
        loss = float(losses.sum(dtype="float64")) / windows.token_count
        bits_per_byte = loss / math.log(2) * self._tokens_per_byte
        # A diverged model's perplexity does not fit a float.
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return Evaluation(step, elapsed, loss, perplexity, bits_per_byte)


class WindowLoss(keras.layers.Layer):
    """Logits and labels -> the sum of `-log softmax(logits)[label]` of each window."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """The sums, float32, of shape `(batch,)`; labels that are `[PAD]` add none."""
        logits, labels = inputs  # (batch, length, rows), (batch, length)
        is_token = ops.cast(ops.not_equal(labels, PAD_ID), "float32")
        return whole(ops.sum(_surprisal(logits, labels) * is_token, axis=-1))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """A window's sum has no mask."""
        return None

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """`(batch,)`."""
        return (input_shape[0][0],)
