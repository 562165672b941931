"""The line that moves while nothing else does."""

import time

import pytest

from minigpt_repl.repl import screen as module
from minigpt_repl.repl.screen import Spinner


@pytest.fixture
def written(monkeypatch):
    monkeypatch.setattr(module, "DELAY", 0.02)
    monkeypatch.setattr(module, "PERIOD", 0.01)
    return []


def wait_until(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_it_moves_until_there_is_something_to_show(written):
    with Spinner(written.append, lambda: "loading", lambda: 80, "ab") as spinner:
        wait_until(lambda: len(written) > 3)
        spinner.hold()
        count = len(written)
        assert written[-1] == "\r\x1b[K"  # nothing of it is left
        time.sleep(0.1)
        assert len(written) == count
        spinner.resume()
        wait_until(lambda: len(written) > count)
    assert written[0] == "\rb loading\x1b[K"
    assert written[1] == "\ra loading\x1b[K"
    assert written[-1] == "\r\x1b[K"


def test_a_line_that_would_be_wrapped_is_cut(written):
    with Spinner(written.append, lambda: "loading the model", lambda: 12, "a"):
        wait_until(lambda: written)
    assert written[0] == "\ra loading t\x1b[K"


def test_what_ends_at_once_shows_nothing(written, monkeypatch):
    monkeypatch.setattr(module, "DELAY", 60)
    with Spinner(written.append, lambda: "loading", lambda: 80) as spinner:
        for _ in range(100):
            spinner.hold()
            spinner.resume()
    assert written == []
