"""The line that moves while nothing else does."""

import io
import shutil
import sys
import time

import pyte
import pytest
from fakes import VOCABULARY, FakeEngine

from minigpt_repl.repl import screen as module
from minigpt_repl.repl.context import Session
from minigpt_repl.repl.dispatch import Lines
from minigpt_repl.repl.entry import PlainLoop
from minigpt_repl.repl.screen import Screen, Spinner
from minigpt_repl.settings import Settings


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(module, "DELAY", 0.02)
    return io.StringIO()


def frames(terminal: io.StringIO) -> int:
    return terminal.getvalue().count("loading")


def seen(terminal: io.StringIO) -> str:
    """What stands on the terminal."""
    screen = pyte.Screen(80, 5)
    pyte.Stream(screen).feed(terminal.getvalue().replace("\n", "\r\n"))
    return " ".join(screen.display).strip()


def wait_until(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_it_moves_until_there_is_something_to_show(terminal):
    with Spinner(terminal, lambda: "loading") as spinner:
        wait_until(lambda: frames(terminal) > 1)
        assert seen(terminal).endswith("loading")
        spinner.hold()
        count = frames(terminal)
        assert seen(terminal) == ""  # nothing of it is left
        time.sleep(0.3)
        assert frames(terminal) == count
        spinner.resume()
        wait_until(lambda: frames(terminal) > count)
    assert seen(terminal) == ""


def test_it_tells_what_the_wait_is_for_now(terminal):
    stage = iter(["starting"] * 2)
    with Spinner(terminal, lambda: next(stage, "loading")):
        wait_until(lambda: frames(terminal))
        assert "starting" in terminal.getvalue()


def test_what_is_written_meanwhile_goes_where_it_was_sent(terminal, capsys):
    with Spinner(terminal, lambda: "loading"):
        wait_until(lambda: frames(terminal))
        sys.stdout.write("a text\n")
    assert capsys.readouterr().out == "a text\n"
    assert "a text" not in terminal.getvalue()


def test_a_terminal_that_only_prints_gets_nothing(terminal):
    with Spinner(terminal, None) as spinner:
        time.sleep(0.1)
        spinner.hold()
        spinner.resume()
        time.sleep(0.1)
    assert terminal.getvalue() == ""


def test_what_ends_at_once_shows_nothing(terminal, monkeypatch):
    monkeypatch.setattr(module, "DELAY", 60)
    with Spinner(terminal, lambda: "loading") as spinner:
        for _ in range(100):
            spinner.hold()
            spinner.resume()
    assert terminal.getvalue() == ""


def test_a_prompt_of_the_shell_tells_that_it_waits_until_there_is_a_text(terminal):
    # `minigpt-repl -p` was silent for seconds while TensorFlow was imported.
    class Importing(FakeEngine):
        def generate_rows(self, requests):
            wait_until(lambda: frames(terminal))
            yield from super().generate_rows(requests)

    out = io.StringIO()
    settings = Settings(limits={"vocabulary": len(VOCABULARY)})
    size = shutil.get_terminal_size
    screen = Screen(out, terminal, size, can_move=False, label=lambda: "loading")
    loop = PlainLoop(Session(settings), lambda _: Importing(), "", screen)
    assert loop.run(Lines("-e", ["the king"]))
    assert out.getvalue().startswith("the king ")
    rest = terminal.getvalue().rpartition("loading")[2]
    assert "tokens/s" in rest and "loading" not in seen(terminal)
