"""Native log lines are kept off the terminal, our own messages are not."""

import subprocess
import sys

from processes import python

PROBE = """
import os, sys
from minigpt_repl.engine.worker import quiet
os.write(2, b"native before\\n")
with quiet():
    os.write(2, b"native within\\n")
    print("ours within", file=sys.stderr)
os.write(2, b"native after\\n")
print("ours after", file=sys.stderr)
"""


def test_only_native_lines_written_within_are_dropped():
    result = python(PROBE)
    assert result.returncode == 0
    assert result.stderr.splitlines() == [
        "native before",
        "ours within",
        "native after",
        "ours after",
    ]


def test_an_error_within_is_shown_as_ever():
    code = """
from minigpt_repl.engine.worker import quiet
with quiet():
    raise RuntimeError("told")
"""
    result = python(code)
    assert result.returncode == 1
    assert "RuntimeError: told" in result.stderr


def test_warnings_are_silent_within_unless_asked_for():
    code = """
import warnings
from minigpt_repl.engine.worker import quiet
with quiet():
    warnings.warn("from a library")
"""
    assert python(code).stderr == ""
    asked = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], capture_output=True, text=True
    )
    assert "from a library" in asked.stderr


def test_a_closed_descriptor_is_left_closed():
    code = """
import os
from minigpt_repl.engine.worker import quiet
os.close(2)
with quiet():
    print("on")
try:
    os.fstat(2)
except OSError:
    print("still closed")
"""
    assert python(code).stdout.splitlines() == ["on", "still closed"]
