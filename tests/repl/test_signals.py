"""^C asks first and then insists; other signals end the program and leave no trace."""

import os
import signal
import sys

import pytest
from terminals import HERE, PtyTerminal

from minigpt_repl.errors import EngineStopped
from minigpt_repl.repl import signals
from minigpt_repl.repl.signals import leaving_after_stop, leaving_cleanly, stopping


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_asks_and_a_later_one_insists(monkeypatch):
    asked = []
    with stopping(lambda: asked.append(True)):
        press()
        press()  # a key that was pressed twice
        assert asked == [True, True]
        monkeypatch.setattr(signals, "PATIENCE", 0)
        with pytest.raises(KeyboardInterrupt):
            press()
    assert len(asked) == 3


@pytest.mark.parametrize("error", [None, EngineStopped()])
def test_whatever_comes_of_an_interrupt_it_ends_the_run(error):
    with pytest.raises(KeyboardInterrupt), leaving_after_stop(lambda: None):
        press()
        if error is not None:
            raise error


def test_after_the_first_signal_nothing_disturbs_the_end():
    before = signal.getsignal(signal.SIGTERM)
    with leaving_cleanly():
        with pytest.raises(SystemExit) as left:
            os.kill(os.getpid(), signal.SIGTERM)
        assert left.value.code == 128 + signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["minigpt-repl", "ready", "the king the king"])
def test_a_signal_at_any_moment_leaves_the_terminal_as_it_was(tmp_path, number, moment):
    program = f"{sys.executable} {HERE / 'fake_program.py'} slow length=500"
    shell = f"stty -g; {program}; echo left with $?; stty -g; echo all"
    terminal = PtyTerminal(["bash", "-c", shell], tmp_path, 200, 24)

    def scenario(terminal):
        if "king" in moment:
            terminal.at_prompt()
            terminal.type("the king")
        terminal.see(moment)
        (child,) = children_of(terminal.process.pid)
        os.kill(child, number)
        terminal.see("all")

    terminal.run(scenario)
    first, *_, last = (line for line in terminal.screen.lines if line.count(":") > 9)
    assert first == last
    assert f"left with {128 + number}" in terminal.screen.text


def children_of(process: int) -> list[int]:
    with open(f"/proc/{process}/task/{process}/children") as file:
        return [*map(int, file.read().split())]
