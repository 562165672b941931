"""Engines that a test's child process makes: fake ones, by the folder's name."""

import os
import time
from pathlib import Path

from fakes import FakeEngine

from minigpt_repl.errors import CheckpointError


def make_engine(directory: str, verify: bool) -> FakeEngine:
    """A fake engine; the folder's name says what is wrong with it."""
    if directory == "damaged":
        raise CheckpointError("damaged: its weights are not the ones it was saved with")
    if directory == "defect":
        raise RuntimeError("an unexpected\nfailure")
    if directory == "endless":
        time.sleep(600)
    if directory == "compiling":
        return CompilingEngine()
    if directory == "tracing":
        return TracingEngine()
    if directory == "crashing":
        return CrashingEngine()
    if directory == "failing":
        return FakeEngine(fail_at=3)
    return FakeEngine(delay=0.02 if directory == "slow" else 0.0, directory=directory)


def taken_up() -> Path:
    """A file that is there as soon as an engine that hears nothing is at work."""
    return Path(os.environ["XDG_STATE_HOME"], "taken_up")


class CompilingEngine(FakeEngine):
    """Hears nothing until long after; only a request of length 1 is quick."""

    def generate_rows(self, requests):
        if requests[0].length > 1:
            taken_up().touch()
            time.sleep(600)
        yield from super().generate_rows(requests)


class TracingEngine(FakeEngine):
    """Hears nothing for long after it took the prompt."""

    def generate_rows(self, requests):
        events = super().generate_rows(requests)
        yield next(events)
        taken_up().touch()
        time.sleep(600)


class CrashingEngine(FakeEngine):
    """Its process ends in the middle of a text."""

    def generate_rows(self, requests):
        for number, event in enumerate(super().generate_rows(requests)):
            if number == 3 and requests[0].length > 3:
                os._exit(9)
            yield event
