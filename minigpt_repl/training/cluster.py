"""Which processes train together, as the command line says it.

Checked before anything heavy is loaded; knows neither Keras nor JAX.
"""

import importlib.util
import os
from dataclasses import dataclass

from minigpt_repl.errors import UsageError

BACKEND = "KERAS_BACKEND"


@dataclass(frozen=True)
class Cluster:
    """The processes of a training, and which of them this is.

    Attributes:
        coordinator: `HOST:PORT` at which process 0 listens.
        processes: how many there are.
        process: this one's number, from 0. Process 0 alone writes files.
    """

    coordinator: str
    processes: int
    process: int

    def __post_init__(self) -> None:
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(
                "--coordinator must be the HOST:PORT at which process 0 listens, but "
                f"{self.coordinator!r} was given"
            )
        if not 0 <= self.process < self.processes:
            raise UsageError(
                f"--process must be from 0 to {self.processes - 1} of "
                f"{self.processes}, but {self.process} was given"
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
