"""A signal that tells us to leave is never lost between two prompts."""

import os
import signal

import pytest

from minigpt_repl.repl.signals import RETRY_S, Left, Signals


class Loop:
    """Keeps what it is told to call."""

    def __init__(self):
        self.calls = []

    def call_soon_threadsafe(self, function):
        self.calls.append(function)

    def call_later(self, delay, function, *arguments):
        assert delay == RETRY_S
        self.calls.append(lambda: function(*arguments))


class App:
    """Runs, but can't be left the first two times."""

    is_running = True

    def __init__(self):
        self.loop = Loop()
        self.refusals = 2
        self.error = None

    def exit(self, exception):
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError("Application is not running.")
        self.error = exception


def test_an_application_that_is_just_beginning_is_told_again():
    app = App()
    with Signals(lambda: None) as signals, signals.at_prompt(app):
        os.kill(os.getpid(), signal.SIGTERM)
        while app.loop.calls:
            app.loop.calls.pop()()
    assert isinstance(app.error, Left)
    assert app.error.exit_code == 128 + signal.SIGTERM


def test_a_signal_that_came_while_an_application_ended_leaves_at_the_next_prompt():
    app = App()
    with Signals(lambda: None) as signals:
        with signals.at_prompt(app):
            os.kill(os.getpid(), signal.SIGTERM)
            app.is_running = False
            app.loop.calls.pop()()
        assert not app.loop.calls
        with pytest.raises(Left), signals.at_prompt(App()):
            pass
