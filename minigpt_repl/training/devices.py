"""One training on many devices, by `keras.distribution` on the JAX backend.

Every process runs the same program on the same text and takes part in every step
with its rows of the batch; JAX adds up the gradients, so that all hold the same
weights. What is decided from a clock or a file must be agreed on first: a process
that goes another way leaves the others waiting. Keras and JAX are imported only when
they are asked for: options are checked before.
"""

import atexit
import contextlib
import importlib.util
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.shown import quoted

BACKEND = "KERAS_BACKEND"


@dataclass(frozen=True)
class Cluster:
    """The processes that train together, and which of them this is.

    Attributes:
        coordinator: `HOST:PORT` at which process 0 listens.
        num_processes: how many there are.
        process_id: this one's, from 0. Process 0 alone writes files.
    """

    coordinator: str
    num_processes: int
    process_id: int

    def __post_init__(self) -> None:
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(
                "--coordinator must be the HOST:PORT at which process 0 listens; got "
                f"{quoted(self.coordinator)}"
            )
        if not 0 <= self.process_id < self.num_processes:
            raise UsageError(
                f"--process-id must be from 0 to {self.num_processes - 1} of "
                f"{self.num_processes}; got {self.process_id}"
            )


def check_backend(cluster: Cluster | None) -> None:
    """Refuse a backend that can't do it, before Keras is imported.

    Raises:
        UsageError: if there are several processes and the backend is not JAX, or it
            is JAX and that is not installed.
    """
    backend = os.environ.get(BACKEND, "tensorflow")
    if cluster is not None and backend != "jax":
        raise UsageError(
            f"--coordinator needs the JAX backend, this is {backend}: set {BACKEND}=jax"
        )
    if backend == "jax" and importlib.util.find_spec("jax") is None:
        raise UsageError(f"{BACKEND}=jax needs jax: pip install 'minigpt-repl[scale]'")


@contextlib.contextmanager
def joined(cluster: Cluster | None) -> Iterator[None]:
    """Models that are built in this context are trained on all devices of all.

    Without a cluster these are this process' own: on JAX all of them, on another
    backend the one that Keras chooses.

    Raises:
        MiniGPTError: if the others do not come, or are lost on the way.
    """
    import keras

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
    """The rows that this process feeds of a batch that all processes have.

    Rows of zeros, which is `[PAD]` and counts for nothing, are added until every
    device has as many.

    Args:
        batch: array of shape `(batch, ...)`.

    Returns:
        Array of shape `(batch of this process, ...)`, the same length on each.
    """
    import keras

    distribution = keras.distribution.distribution()
    if distribution is None:
        return batch
    import jax
    import numpy as np

    missing = -len(batch) % distribution.device_mesh.devices.size
    padded = np.pad(batch, [(0, missing)] + [(0, 0)] * (batch.ndim - 1))
    return np.split(padded, jax.process_count())[jax.process_index()]


def whole(tensor: Any) -> Any:
    """The tensor with the rows of all devices on each, where it can be read."""
    import keras

    distribution = keras.distribution.distribution()
    if distribution is None:
        return tensor
    layout = keras.distribution.TensorLayout(
        [None] * len(tensor.shape), distribution.device_mesh
    )
    return keras.distribution.distribute_tensor(tensor, layout)


@contextlib.contextmanager
def alone() -> Iterator[bool]:
    """What is built and run in this context is this process' own, on one device.

    Yields:
        Whether that makes a difference.
    """
    import keras

    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield distribution is not None
    finally:
        keras.distribution.set_distribution(distribution)


def local_devices() -> int:
    """How many devices share the rows of this process."""
    import keras

    if keras.distribution.distribution() is None:
        return 1
    import jax

    return int(jax.local_device_count())


def jit_compile() -> Any:
    """What a model's `compile` is told: XLA on a CPU has no bfloat16 products of its
    own, so none on TensorFlow."""
    import keras

    return False if keras.backend.backend() == "tensorflow" else "auto"


def idle_gpus() -> int:
    """How many GPUs of this machine are not trained on: TensorFlow takes one."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return 0
    import tensorflow as tf

    return max(len(tf.config.list_physical_devices("GPU")) - 1, 0)


def in_any_process(ask: Callable[[], bool]) -> Callable[[], bool]:
    """Ask all processes, and say yes in each when one does; all must call it."""
    import numpy as np
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
    import numpy as np
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


def fork_and_watch(told: str) -> int | None:
    """Go on in a child process, and wait for it here.

    JAX ends a process whose coordinator is gone from a thread of its own by `abort()`,
    without an exception: only another process can say so in a line and choose the exit
    code. To be called while there is one thread. Signals that ask for an end are passed
    on to the child, and whatever ends the parent ends the child as well.

    Args:
        told: what it means when the child calls `abort()`.

    Returns:
        `None` in the child. In the parent, the child's exit code.

    Raises:
        MiniGPTError: in the parent, if a signal ended the child.
    """
    parent_is_alive, held_by_parent = os.pipe()
    child = os.fork()
    if not child:
        os.close(held_by_parent)
        os.setpgrp()  # ^C comes once, passed on by the parent
        threading.Thread(
            target=_end_with_parent, args=(parent_is_alive,), daemon=True
        ).start()
        return None
    os.close(parent_is_alive)

    def pass_on(number: int, frame: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, pass_on)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(held_by_parent)
    if code == -signal.SIGABRT:
        raise MiniGPTError(told)
    if code < 0:
        raise MiniGPTError(f"the training was ended by {signal.Signals(-code).name}")
    return code


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


def _end_with_parent(parent_is_alive: int) -> None:
    os.read(parent_is_alive, 1)  # returns when the parent is gone
    os._exit(1)
