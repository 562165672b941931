"""Keeps TensorFlow's own log lines out of the terminal.

TensorFlow, absl and XLA write some lines in C, straight to descriptor 2, and no
environment variable silences them all. So the descriptor is pointed elsewhere
while they work, and Python's `sys.stderr` goes on writing to the real one: what
this program says is never lost. Knows nothing of TensorFlow itself.
"""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

STDERR = 2


@contextlib.contextmanager
def quiet(log: Path | None = None) -> Iterator[None]:
    """Send what C code writes to descriptor 2 to a file, or nowhere.

    Descriptor 2 and `sys.stderr` are as before when the context ends.

    Args:
        log: file to append to; `None`, or one that can't be opened, drops it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if not _is_open(STDERR):
        yield
        return
    python_stderr = sys.stderr
    if python_stderr is not None:
        python_stderr.flush()
    kept = os.dup(STDERR)
    target = _open(log)
    os.dup2(target, STDERR)
    os.close(target)
    own = None
    if python_stderr is sys.__stderr__ and python_stderr is not None:
        own = open(  # noqa: SIM115, closed below; a `with` can't be conditional
            kept,
            "w",
            buffering=1,
            encoding=python_stderr.encoding,
            errors=python_stderr.errors,
            closefd=False,
        )
        sys.stderr = own
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        if own is not None:
            with contextlib.suppress(OSError):  # a reader that has gone away
                own.close()
            sys.stderr = python_stderr
        os.dup2(kept, STDERR)
        os.close(kept)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _open(log: Path | None) -> int:
    if log is not None:
        # A log is a convenience: a full disk or a folder in the way must not
        # keep the model from loading.
        with contextlib.suppress(OSError):
            log.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK
            return os.open(log, flags, 0o600)
    return os.open(os.devnull, os.O_WRONLY)
