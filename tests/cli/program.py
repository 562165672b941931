"""The program with the fake engine, each in a process of its own.

FAKE_DELAY: seconds before each token; FAKE_FAIL_AT: the token that fails.
"""

import os
import subprocess
import sys

from fakes import FakeEngine

from minigpt_repl.__main__ import main
from minigpt_repl.engine.remote import RemoteEngine
from minigpt_repl.repl import entry


def make_engine(directory: str, verify: bool) -> FakeEngine:
    os.write(2, b"I0000 a line that TensorFlow would write\n")
    fail_at = os.environ.get("FAKE_FAIL_AT")
    return FakeEngine(
        delay=float(os.environ.get("FAKE_DELAY", "0")),
        fail_at=None if fail_at is None else int(fail_at),
        directory=directory,
    )


def open_fake_engine(directory, options) -> RemoteEngine:
    return RemoteEngine(
        directory, factory="program:make_engine", shows_log=options.debug
    )


def start(*arguments: str, **keywords) -> subprocess.Popen:
    """Start the program in a process of its own, with the fake engine."""
    keywords = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    } | keywords
    return subprocess.Popen([sys.executable, __file__, *arguments], **keywords)


if __name__ == "__main__":
    entry.open_engine = open_fake_engine
    sys.exit(main())
