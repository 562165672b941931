"""One training on many devices, by `keras.distribution` on the JAX backend.

Every process runs the same program on the same text and takes part in every step
with its rows of the batch; JAX adds up the gradients, so that all hold the same
weights. What is decided from a clock or a file must be agreed on first: a process
that goes another way leaves the others waiting.
"""

import atexit
import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from minigpt_repl.errors import MiniGPTError
from minigpt_repl.training.setup_options import Cluster


@contextlib.contextmanager
def joined(cluster: Cluster | None) -> Iterator[None]:
    """Models that are built in this context are trained on all devices of all.

    Without a cluster these are this process' own: on JAX all of them, on another
    backend the one that Keras chooses.

    Raises:
        MiniGPTError: if the others do not come, or are lost on the way.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    try:
        if cluster is not None:
            # It would take SIGTERM for itself, which asks us to save and stop.
            jax.config.update("jax_enable_preemption_service", False)
            keras.distribution.initialize(
                cluster.coordinator, cluster.num_processes, cluster.process_id
            )
        if keras.distribution.get_device_count() > 1:
            # Each process feeds its own rows; Keras could share out `tf.data` only.
            everywhere = keras.distribution.DataParallel(auto_shard_dataset=False)
            keras.distribution.set_distribution(everywhere)
        yield
    except BaseException as error:
        if cluster is None:
            raise
        # JAX would first wait for the others to end, which in turn wait for us.
        atexit.register(_leave_at_once, getattr(error, "exit_code", 1))
        if is_status(error):
            raise _lost(cluster, error) from error
        raise
    finally:
        keras.distribution.set_distribution(None)


def own_rows(batch: Any) -> Any:
    """The rows that this process feeds of a batch, `(batch, ...)`, that all have.

    Rows of zeros, which is `[PAD]` and counts for nothing, are added until every
    device has as many.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return batch
    import jax

    missing = -len(batch) % distribution.device_mesh.devices.size
    padded = np.pad(batch, [(0, missing)] + [(0, 0)] * (batch.ndim - 1))
    return np.split(padded, jax.process_count())[jax.process_index()]


@contextlib.contextmanager
def alone() -> Iterator[bool]:
    """What is built and run in this context is this process' own, on one device.

    Yields whether that makes a difference.
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield distribution is not None
    finally:
        keras.distribution.set_distribution(distribution)


def device_count() -> int:
    """How many devices, of all processes, share the rows of a batch."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else int(distribution.device_mesh.devices.size)


def jit_compile() -> Any:
    """For `compile`: XLA on a CPU has no bfloat16 products, so none on TensorFlow."""
    return False if keras.backend.backend() == "tensorflow" else "auto"


def idle_gpus() -> int:
    """How many GPUs of this machine are not trained on: TensorFlow takes one."""
    if keras.backend.backend() != "tensorflow":
        return 0
    import tensorflow as tf

    return max(len(tf.config.list_physical_devices("GPU")) - 1, 0)


def in_any_process(ask: Callable[[], bool]) -> Callable[[], bool]:
    """Ask all processes, and say yes in each when one does; all must call it."""
    from jax.experimental import multihost_utils

    def ask_all() -> bool:
        answers = multihost_utils.process_allgather(np.array([ask()]))
        return bool(np.any(answers))

    return ask_all


def check_agreed(text: str, problem: str) -> None:
    """Whether all processes have the same text, at most 64 bytes; all must ask.

    Raises:
        MiniGPTError: saying `problem`, if they have not.
    """
    from jax.experimental import multihost_utils

    mine = np.frombuffer(text.encode().ljust(64)[:64], np.uint8)
    if (multihost_utils.process_allgather(mine) != mine).any():
        raise MiniGPTError(problem)


def is_status(error: BaseException) -> bool:
    """Whether a device or a connection failed, rather than a line of Python.

    XLA raises its status as its own error or as a `ValueError`, by the place: what
    both have is a code in capitals in front, as in `UNKNOWN: Connection reset`.
    """
    return bool(re.match(r"[A-Z][A-Z_]+: ", str(error)))


def _lost(cluster: Cluster, error: BaseException) -> MiniGPTError:
    reason = str(error).strip().splitlines()[0]
    if "RESOURCE_EXHAUSTED" in reason:
        return MiniGPTError(f"out of memory on a device ({reason[:200]})")
    return MiniGPTError(
        f"process {cluster.process_id} of {cluster.num_processes} lost the others "
        f"({reason.rpartition(': ')[2][:200]}): see what ended them, then start all "
        "again with --resume"
    )


def _leave_at_once(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
