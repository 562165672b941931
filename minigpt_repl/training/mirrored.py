"""One training on all devices of a machine, by TensorFlow's `MirroredStrategy`.

Each device holds a copy of the model and takes its share of every batch; gradients are
added up. Where Keras treats one device's share as if it were the whole batch (the
norm that is clipped, the tokens that a mean is taken over), what is here puts that
right, so that many devices train as one does. Does nothing on another backend or with
a single device. Knows TensorFlow's devices; nothing of models or text.
"""

import contextlib
from functools import cache
from typing import Any

import keras


@cache
def strategy() -> Any:
    """The strategy of this process, or `None` with one device.

    The devices are all GPUs or, where there is none, all logical CPUs: one, unless
    TensorFlow was told to make more of it.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        return None
    # GPUs add up by NCCL, the default, which CPUs have not.
    return tf.distribute.MirroredStrategy(
        [device.name for device in devices],
        cross_device_ops=None if gpus else tf.distribute.ReductionToOneDevice(),
    )


def on_all_devices() -> contextlib.AbstractContextManager[Any]:
    """Models and optimizers that are made in this context are on every device."""
    return strategy().scope() if strategy() else contextlib.nullcontext()


def device_count() -> int:
    """How many devices share a batch out in this process."""
    return int(strategy().num_replicas_in_sync) if strategy() else 1


def sum_over_devices(number: Any) -> Any:
    """The sum of a scalar that each device has; for use in a step."""
    if strategy() is None:
        return number
    import tensorflow as tf

    here = tf.distribute.get_replica_context()
    return here.all_reduce(tf.distribute.ReduceOp.SUM, number) if here else number


class ClipsSum:
    """Mixin for a Keras optimizer: clips the gradient of the whole batch.

    Keras clips the gradient of each device's rows, and adds up afterwards.
    """

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        if strategy() is not None:
            pairs = [(gradient, None) for gradient in grads]
            summed = super()._all_reduce_sum_gradients(pairs)  # type: ignore[misc]
            grads = [gradient for gradient, _ in summed]
        clipped: list[Any] = super()._clip_gradients(grads)  # type: ignore[misc]
        return clipped

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars  # they are summed
