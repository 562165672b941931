"""Fake engines by the name of their folder, in this process or in a child."""

import os
import time
from pathlib import Path

from fakes import FakeEngine

from minigpt_repl.errors import CheckpointError


def make_engine(directory: str, verify: bool = True) -> FakeEngine:
    """An engine of the kind that the last part of the folder's name says."""
    kind = directory.rpartition("/")[2]
    if kind == "broken":
        raise CheckpointError("broken is not a checkpoint")
    if kind == "stuck":
        time.sleep(600)
    if kind == "late":
        while not at_home("go").exists():
            time.sleep(0.01)
    if kind == "compiling":
        return CompilingEngine(directory=directory)
    delay = {"slow": 0.02, "quick": 0.002}.get(kind, 0.0)
    return FakeEngine(delay=delay, directory=directory)


def at_home(name: str) -> Path:
    """A file by which an engine and a scenario wait for one another."""
    return Path(os.environ["XDG_STATE_HOME"], name)


class CompilingEngine(FakeEngine):
    """Takes no notice of anything for a long time before the first token."""

    def generate_rows(self, requests):
        at_home("taken_up").touch()
        time.sleep(600)
        yield from super().generate_rows(requests)
