"""What the tests of the command line share: a folder of settings and a program."""

import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import FakeEngine
from recorded import make_recorded

from minigpt_repl.__main__ import main
from minigpt_repl.repl import entry


@dataclass
class Result:
    """What a run of the program left behind."""

    code: int
    out: str
    err: str

    @property
    def err_lines(self) -> list[str]:
        return self.err.splitlines()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Folders of its own for settings, history and checkpoints; no colours."""
    for name in ("CONFIG", "STATE", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    tests = Path(__file__).resolve().parent.parent
    monkeypatch.setenv("PYTHONPATH", f"{tests}{os.pathsep}{tests.parent}")
    for name in [name for name in os.environ if name.startswith("MINIGPT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MINIGPT_CHECKPOINT", str(make_recorded(tmp_path / "model")))
    return tmp_path


@pytest.fixture
def engines(monkeypatch):
    """The engines that were used; `entry.open_engine` makes fake ones."""
    used = []

    class Used(FakeEngine):
        def _check(self):
            if self not in used:
                used.append(self)
            super()._check()

    def open_engine(directory, options):
        return Used(directory=directory)

    monkeypatch.setattr(entry, "open_engine", open_engine)
    return used


@pytest.fixture
def run(home, engines, monkeypatch, capsys):
    """Runs the program in this process, with text as its standard input."""

    def run(*arguments: str, stdin: str | bytes = "") -> Result:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        code = main(arguments)
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run
