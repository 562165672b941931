"""Validation: the loss of whole windows, from a model that is being trained.

The reference's own measure: validation windows as `cut_windows` makes them, the
mean over the labels that are a token. Knows models from ids to logits and windows.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import ops

from minigpt_repl.training.distribution import local_devices, own_rows, whole
from minigpt_repl.training.feed import for_predict
from minigpt_repl.training.windows import PAD_ID, Windows


@dataclass(frozen=True)
class Evaluation:
    """What a model achieves on the validation windows.

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
        windows: the validation's.
        tokens_per_byte: of the validation text.
        batch_size: windows at once on a device; changes the speed only.
    """

    def __init__(
        self,
        model: keras.Model,
        windows: Windows,
        tokens_per_byte: float,
        batch_size: int = 64,
    ) -> None:
        ids = keras.Input((None,), dtype="int32")
        labels = keras.Input((None,), dtype="int32")
        losses = WindowLoss(dtype="float32", autocast=False)([model(ids), labels])
        self._model = keras.Model([ids, labels], losses)
        # As in training: XLA on a CPU has no bfloat16 products of its own.
        is_tensorflow = keras.backend.backend() == "tensorflow"
        self._model.compile(jit_compile=False if is_tensorflow else "auto")
        self._inputs = [
            own_rows(windows.inputs.astype("int32")),
            own_rows(windows.labels.astype("int32")),
        ]
        self._token_count = windows.token_count
        self._tokens_per_byte = tokens_per_byte
        self._batch_size = batch_size * local_devices()

    def measure(self, step: int = 0, elapsed: float = 0.0) -> Evaluation:
        """The model as it is now, on all windows."""
        losses = self._model.predict(
            **for_predict(self._inputs, self._batch_size), verbose=0
        )
        loss = float(losses.sum(dtype="float64")) / self._token_count
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
        logits, labels = inputs
        logits = ops.cast(logits, "float32")  # (batch, length, rows)
        log_partition = ops.logsumexp(logits, axis=-1)
        at_label = ops.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
        is_token = ops.cast(ops.not_equal(labels, PAD_ID), "float32")
        return whole(ops.sum((log_partition - at_label) * is_token, axis=-1))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """A window's sum has no mask."""
        return None

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """`(batch,)`."""
        return (input_shape[0][0],)
