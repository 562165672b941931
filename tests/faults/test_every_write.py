"""Whichever step of a writing fails, or is the last, the old or the new is there.

As SQLite's tests do: the steps that Python tells of (files opened, made, renamed,
removed) are counted, and each in turn is the one at which the disk is full or the
process is killed.
"""

import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from minigpt_repl import files

pytestmark = pytest.mark.slow

CODE = """
import errno, os, signal, sys
from pathlib import Path
from minigpt_repl import files

place, what, how, left = Path(sys.argv[1]), *sys.argv[2:4], int(sys.argv[4])
STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")

def fail(event, arguments):
    global left
    if event in STEPS and is_writing and str(place) in str(arguments[0]):
        left -= 1
        if left == 0 and how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")

is_writing = False
sys.addaudithook(fail)
is_writing = True
try:
    if what == "file":
        files.write_bytes_atomically(place / "x", b"new")
    else:
        with files.open_directory_atomically(place / "x") as made:
            (made / "a").write_bytes(b"new")
            (made / "b").mkdir()
            (made / "b" / "c").write_bytes(b"new")
finally:
    is_writing = False
    if left > 0:
        print("all steps were taken")
"""


def content(place, what):
    """What a reader finds: `old`, `new`, or something that is neither."""
    if what == "file":
        return (place / "x").read_text()
    files.recover_directory(place / "x")
    paths = [path for path in place.glob("x/**/*") if path.is_file()]
    found = {path.name: path.read_text() for path in paths}
    known = {"old": {"a": "old"}, "new": {"a": "new", "c": "new"}}
    return next((name for name, each in known.items() if each == found), found)


@pytest.mark.parametrize("how", ["killed", "full"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_the_old_or_the_new_is_there(tmp_path, what, how):
    for step in range(1, 40):
        place = tmp_path / str(step)
        place.mkdir()
        if what == "file":
            (place / "x").write_text("old")
        else:
            (place / "x").mkdir()
            (place / "x" / "a").write_text("old")
        command = [sys.executable, "-c", textwrap.dedent(CODE), str(place), what, how]
        done = subprocess.run([*command, str(step)], capture_output=True, text=True)
        assert content(place, what) in ("old", "new"), (step, done.stderr)
        if how == "full" and done.returncode:
            assert "MiniGPTError: can't write" in done.stderr
            assert "the disk is full" in done.stderr
        # The next writer finds nothing in its way.
        files.write_bytes_atomically(place / "other", b"")
        if what == "file":
            files.write_bytes_atomically(place / "x", b"newer")
        else:
            with files.open_directory_atomically(place / "x") as made:
                (made / "a").write_text("newer")
        assert sorted(path.name for path in place.iterdir()) == ["other", "x"], step
        if "all steps" in done.stdout:
            assert step > 2
            return
    raise AssertionError("it takes more steps than that")


STATE = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from minigpt_repl.training.resume import State, save_state

signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the system kills who writes on
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
weights = [np.full(2000, 2.0), np.full((30, 40), 2.0)]
save_state(Path(sys.argv[1]), State({"step": 2, "progress": 0.2}, {"model": weights}))
"""


def test_a_training_that_is_killed_inside_a_write_has_its_last_state(tmp_path):
    from minigpt_repl.training.resume import State, load_state, save_state

    old = State({"step": 1, "progress": 0.1}, {"model": [np.zeros(2000)]})
    save_state(tmp_path, old)
    command = [sys.executable, "-c", STATE, str(tmp_path)]
    for limit in (0, 1, 1000, 20_000, 25_900):
        done = subprocess.run([*command, str(limit)], capture_output=True, text=True)
        assert done.returncode == -signal.SIGXFSZ, done.stderr
        state = load_state(tmp_path)
        assert state.header["step"] == 1
        assert not state.groups["model"][0].any()
    done = subprocess.run([*command, "1000000"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert load_state(tmp_path).header["step"] == 2
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["progress.json", "state.npz"]
