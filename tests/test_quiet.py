"""Native log lines are kept off the terminal, our own messages are not."""

import subprocess
import sys

import pytest

PROBE = """
import os, sys
from pathlib import Path
from minigpt_repl.engine.quiet import quiet
log = Path(sys.argv[1]) if len(sys.argv) > 1 else None
os.write(2, b"native before\\n")
with quiet(log):
    os.write(2, b"native within\\n")
    print("ours within", file=sys.stderr)
os.write(2, b"native after\\n")
print("ours after", file=sys.stderr)
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_only_native_lines_written_within_are_dropped():
    result = run(PROBE)
    assert result.returncode == 0
    assert result.stderr.splitlines() == [
        "native before",
        "ours within",
        "native after",
        "ours after",
    ]


def test_native_lines_go_to_the_log_and_are_appended(tmp_path):
    log = tmp_path / "made" / "engine.log"
    run(PROBE, str(log))
    run(PROBE, str(log))
    assert log.read_text() == "native within\n" * 2
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("way", ["a folder", "under a file"])
def test_a_log_that_cannot_be_opened_is_done_without(tmp_path, way):
    log = tmp_path / "log"
    if way == "a folder":
        log.mkdir()
    else:
        log.write_text("")
        log /= "engine.log"
    result = run(PROBE, str(log))
    assert result.returncode == 0
    assert "native within" not in result.stderr
    assert "ours within" in result.stderr


def test_an_error_within_is_shown_as_ever():
    code = """
from minigpt_repl.engine.quiet import quiet
with quiet():
    raise RuntimeError("told")
"""
    result = run(code)
    assert result.returncode == 1
    assert "RuntimeError: told" in result.stderr


def test_warnings_are_silent_within_unless_asked_for():
    code = """
import warnings
from minigpt_repl.engine.quiet import quiet
with quiet():
    warnings.warn("from a library")
"""
    assert run(code).stderr == ""
    asked = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], capture_output=True, text=True
    )
    assert "from a library" in asked.stderr


def test_a_closed_descriptor_is_left_closed():
    code = """
import os
from minigpt_repl.engine.quiet import quiet
os.close(2)
with quiet():
    print("on")
try:
    os.fstat(2)
except OSError:
    print("still closed")
"""
    assert run(code).stdout.splitlines() == ["on", "still closed"]
