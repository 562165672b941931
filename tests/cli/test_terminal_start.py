"""With a terminal on both sides the prompt is opened, with all that was asked for."""

import contextlib
import io
import sys

import pytest

from minigpt_repl.__main__ import main
from minigpt_repl.repl import terminal
from minigpt_repl.sampling.registry import all_samplers


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def opened(home, monkeypatch):
    """What terminals were made and run with; they leave with 7."""
    calls = []

    class FakeTerminal:
        def __init__(self, session, open_engine, directory, **keywords):
            calls.append((session, open_engine, directory, keywords))

        def run(self, first_lines):
            calls[-1][3]["first_lines"] = first_lines
            return 7

    monkeypatch.setattr(terminal, "Terminal", FakeTerminal)
    monkeypatch.setattr(sys, "stdin", Terminal())
    return calls


def start(*flags):
    """Run the program with a terminal on both sides; its exit code and output."""
    with contextlib.redirect_stdout(Terminal()) as out:
        code = main(flags)
    return code, out.getvalue()


def test_settings_and_lines_are_handed_on(opened, home):
    flags = ["--sampler", "top_p", "--set", "p=0.5", "--seed", "3", "-e", ":help"]
    assert start(*flags)[0] == 7
    ((session, _, directory, keywords),) = opened
    assert session.settings.sampler.name == "top_p"
    assert session.settings.value("top_p.p") == 0.5
    assert session.settings.origin("seed") == "flag"
    assert directory == str(home / "model")
    assert keywords["first_lines"] == (":help",)
    assert keywords["history"] == home / "state" / "minigpt-repl" / "history"
    assert keywords["debug"] is False


def test_no_history_means_none(opened):
    start("--no-history")
    assert opened[0][3]["history"] is None


def test_the_engine_is_not_started_before_the_prompt(opened):
    start()
    engine = opened[0][1](opened[0][2])
    assert engine.status.state == "stopped"
    _, _, warm, _ = engine._load
    warmed = [request.sampler for request, _ in warm]
    assert warmed[0] == "top_k"
    assert {*warmed} == {spec.name for spec in all_samplers()}
    engine.close()


@pytest.mark.parametrize(
    "flags", [["--json"], ["--jsonl"], ["-n", "2"], ["--only-new"], ["--keep-going"]]
)
def test_flags_for_pipes_are_refused(opened, flags, capsys):
    assert start(*flags)[0] == 2
    assert opened == []
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_prompt_needs_no_terminal(opened, engines):
    code, out = start("-p", "the king")
    assert code == 0
    assert opened == []
    assert len(engines) == 1
    assert "the king " in out


def test_a_checkpoint_that_is_not_there_is_told_before_the_prompt(opened, capsys):
    assert start("--checkpoint", "/nowhere")[0] == 1
    assert opened == []
    assert "there is no checkpoint" in capsys.readouterr().err
