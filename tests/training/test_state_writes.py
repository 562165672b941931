"""Whichever write of a training fails, or is the last, what is read back is whole.

Each write, flush to the disk, rename and new folder is counted, and each in turn is the
one at which the disk is full or the process is killed.
"""

import builtins
import errno
import io
import itertools
import os
import signal

import numpy as np
import pytest

from minigpt_repl.errors import MiniGPTError
from minigpt_repl.paths import cache_home
from minigpt_repl.training.resume import (
    STATE_FILE,
    State,
    kept_arrays,
    kept_value,
    load_state,
)
from minigpt_repl.training.resume import save_state as save

pytestmark = pytest.mark.slow

STEPS = ("fsync", "replace", "rename", "mkdir")


class Disk:
    """Fails at one of the steps that are counted from the moment it is put in place."""

    def __init__(self, monkeypatch, last, how):
        self.left, self.how = last, how
        for name in STEPS:
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))
        usual = builtins.open

        class Raw(io.FileIO):
            write = self.counted(io.FileIO.write)

        def opened(path, mode="r", *arguments, **options):
            if mode != "wb":
                return usual(path, mode, *arguments, **options)
            return io.BufferedWriter(Raw(path, "w"), 1 << 12)

        monkeypatch.setattr(builtins, "open", opened)

    def counted(self, act):
        def step(*arguments, **options):
            self.left -= 1
            if self.left == 0 and self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.left == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return act(*arguments, **options)

        return step


def attempted(act, step, how):
    """Do something whose n-th step fails; returns whether it got to its end."""
    with pytest.MonkeyPatch.context() as patch:
        if how == "full":
            disk = Disk(patch, step, how)
            try:
                act()
            except MiniGPTError as error:
                assert "the disk is full" in str(error) and "\n" not in str(error)
                return False
            return disk.left > 0
        child = os.fork()
        if not child:
            Disk(patch, step, how)
            act()
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def state(value):
    """A state of some hundred KB, all of its numbers alike."""
    arrays = [np.full((64, 256), value, np.float32), np.full(3, value, np.float32)]
    groups = {"model": arrays, "optimizer": arrays, "best": arrays[:1]}
    return State({"step": value, "progress": value / 9, "options": {}}, groups)


def values_of(folder):
    """All that is different between the states in a folder."""
    found = load_state(folder)
    arrays = itertools.chain.from_iterable(found.groups.values())
    return {found.header["step"], *(float(x) for a in arrays for x in np.unique(a))}


@pytest.mark.parametrize("how", ["killed", "full"])
def test_a_state_is_the_old_or_the_new(tmp_path, how):
    for step in itertools.count(1):
        folder = tmp_path / f"{how}{step}"
        save(folder, state(1))
        is_done = attempted(lambda folder=folder: save(folder, state(2)), step, how)
        assert values_of(folder) in ({1}, {2}), step
        save(folder, state(3))  # the next writer finds nothing in its way
        assert values_of(folder) == {3}
        names = {path.name for path in folder.iterdir()}
        assert names == {STATE_FILE, "progress.json"}, step
        if is_done:
            break
    assert step > 20


@pytest.mark.parametrize("how", ["killed", "full"])
def test_a_stage_is_made_anew_or_found_whole(tmp_path, how, monkeypatch):
    words = [f"w{number}" for number in range(2000)]

    arrays = {"ids": np.zeros(9000, np.uint8), "lengths": np.arange(999)}

    def make():
        return (
            kept_value("words", "key", lambda: words),
            kept_arrays("tokens", "key", lambda: arrays),
        )

    for step in itertools.count(1):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"{how}{step}"))
        is_done = attempted(make, step, how)
        made, kept = make()
        assert made == words
        assert {name: kept[name].tolist() for name in kept} == {
            name: arrays[name].tolist() for name in arrays
        }
        assert len(list(cache_home().iterdir())) == 2, step
        if is_done:
            break
    assert step > 8
