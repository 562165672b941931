"""What Keras' `fit` and `predict` take their batches from.

With TensorFlow a dataset that does not tune itself. Keras makes one that does of
generators and arrays. The thread that tunes sleeps for 10 ms, then for twice as long
each time, up to a minute, and the end of `fit` may have to wait until it wakes up: ten
steps of 0.6 s took 10.3 s. (With several devices TensorFlow makes datasets of its own
of this one, and a wait is still possible.) Other backends get generators and arrays as
they are. Knows the shapes of batches; nothing of models or text.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from minigpt_repl.training.mirrored import device_count

Batches = Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]

AHEAD = 2
"""Batches that are made while a step runs."""


def for_fit(make_batches: Callable[[], Batches], context_length: int) -> Any:
    """Batches of inputs and labels; each device of a machine takes its rows of them.

    Args:
        make_batches: begins to yield inputs and labels, `(batch, context_length)`.
        context_length: tokens of a row.
    """
    if keras.backend.backend() != "tensorflow":
        return make_batches()
    import tensorflow as tf

    def padded() -> Batches:
        # Rows of zeros, `[PAD]`, count for nothing, and every device gets as many.
        for inputs, labels in make_batches():
            missing = [(0, -len(inputs) % device_count()), (0, 0)]
            yield np.pad(inputs, missing), np.pad(labels, missing)

    # Not the generator itself: `fit` may take a batch to look at, and begins anew.
    rows = tf.TensorSpec((None, context_length), tf.int32)
    dataset = tf.data.Dataset.from_generator(padded, output_signature=(rows, rows))
    return _untuned(dataset.prefetch(AHEAD))


def for_predict(inputs: list[NDArray[Any]], batch_size: int) -> dict[str, Any]:
    """The arguments of `predict`: a model's inputs and how they are cut.

    Args:
        inputs: arrays with as many rows each, one for each input of the model.
        batch_size: rows at once.
    """
    if keras.backend.backend() != "tensorflow":
        return {"x": inputs, "batch_size": batch_size}
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices((tuple(inputs),))
    return {"x": _untuned(rows.batch(batch_size).prefetch(AHEAD))}


def _untuned(dataset: Any) -> Any:
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
