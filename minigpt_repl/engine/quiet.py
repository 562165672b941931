"""Keeps TensorFlow's own log lines out of the terminal.

TensorFlow, absl and XLA write some lines in C, straight to descriptor 2, and no
environment variable silences them all. So the descriptor is pointed elsewhere while
they work, and Python's `sys.stderr` goes on writing to the real one: what this program
says is never lost.
"""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

STDERR = 2


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what C code writes to descriptor 2, and warnings that nobody asked for.

    Descriptor 2 and `sys.stderr` are as before when the context ends.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    python_stderr = sys.stderr
    with contextlib.ExitStack() as after:
        try:
            kept = os.dup(STDERR)
        except OSError:  # it is closed
            yield
            return
        after.callback(os.close, kept)
        if python_stderr is not None:
            python_stderr.flush()
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), STDERR)
        after.callback(os.dup2, kept, STDERR)
        if python_stderr is sys.__stderr__ and python_stderr is not None:
            sys.stderr = own = open(  # noqa: SIM115, closed below
                kept,
                "w",
                buffering=1,
                encoding=python_stderr.encoding,
                errors=python_stderr.errors,
                closefd=False,
            )
            after.callback(setattr, sys, "stderr", python_stderr)
            after.callback(_close, own)
        after.enter_context(warnings.catch_warnings())
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


def _close(stream: contextlib.AbstractContextManager[object]) -> None:
    # A reader that has gone away is no fault of ours.
    with contextlib.suppress(OSError), stream:
        pass
