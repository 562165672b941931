"""What is read is an ordinary file within bounds, and a script's lines are its own."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import FakeEngine

from minigpt_repl.errors import MiniGPTError
from minigpt_repl.files import open_user_file, read_user_file
from minigpt_repl.repl import entry
from minigpt_repl.training.sources import open_source

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(params=["pipe", "device", "link"])
def endless(request, tmp_path):
    """What has no end, under a name of a file."""
    path = tmp_path / "endless.json"
    if request.param == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if request.param == "link" else "/dev/null")
    return path


def test_no_reader_opens_what_has_no_end(run, endless):
    ways = [
        run("--script", str(endless)),
        run("--config", str(endless), "-p", "the"),
        run("replay", str(endless)),
        run(stdin=f":source {endless}"),
        run(stdin=f":load {endless}"),
        run(stdin=f":save {endless}"),
        run(stdin=f"the\n:export --session {endless}"),
    ]
    for way in ways:
        assert way.code == 1
        assert "is not an ordinary file" in way.err_lines[-1]
    with pytest.raises(MiniGPTError, match="not an ordinary file"):
        open_source(str(endless), lambda told: None)


def test_a_checkpoint_of_pipes_is_refused(run, home, endless):
    folder = home / "model"
    for path in folder.iterdir():
        path.unlink()
    os.mkfifo(folder / "training.json")
    assert run("-p", "the").code == 1


def test_a_file_that_is_too_large_is_refused_by_its_size(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(10**12)
    for read in (read_user_file, open_user_file):
        with pytest.raises(MiniGPTError, match="larger than 64 MB"):
            read(path)


def test_a_config_file_that_is_too_large_is_told_and_left_out(run, home):
    (home / "config" / "minigpt-repl").mkdir(parents=True)
    with (home / "config" / "minigpt-repl" / "config.toml").open("wb") as file:
        file.truncate(200_000_000)
    result = run("-p", "the")
    assert result.code == 0
    assert "larger than 16 KB" in result.err


class Endless(io.RawIOBase):
    """A line without end; it counts what was taken of it."""

    taken = 0

    def readable(self):
        return True

    def readinto(self, buffer):
        self.taken += len(buffer)
        buffer[:] = b"a" * len(buffer)
        return len(buffer)


@pytest.mark.parametrize("arguments", [[], ["-p", "-"]])
def test_a_line_without_end_is_refused(run, monkeypatch, capsys, arguments):
    from minigpt_repl.__main__ import main

    endless = Endless()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(endless)))
    assert main(arguments) == 1
    assert "is longer than 4 MB" in capsys.readouterr().err
    assert endless.taken < 2 * entry.LONGEST_INPUT


HOSTILE = "a\x1b]52;c;aGk=\x07\u202e"


def test_controls_of_the_model_are_visible_in_a_pipe(run, monkeypatch):
    words = [
        HOSTILE if word == "king" else word for word in FakeEngine().info.text.pieces
    ]
    monkeypatch.setattr("fakes.VOCABULARY", tuple(words))
    lines = "the boy", ":why", ":raw", ":heat", ":compare greedy random -- the boy"
    result = run(stdin="\n".join((*lines, ":next", ":nonsense \x1b\x9b")))
    for out in (result.out, result.err):
        assert all(c.isprintable() or c in "\n" for c in out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--script", HOSTILE],
        ["--checkpoint", HOSTILE * 100, "-p", "a"],
        ["--sampler", HOSTILE * 9999, "-p", "a"],
        ["--set", f"{HOSTILE * 9999}=1", "-p", "a"],
        ["--set", f"k={HOSTILE * 9999}", "-p", "a"],
        ["--seed", HOSTILE * 9999, "-p", "a"],
        ["--color", HOSTILE * 9999],
        ["--n", HOSTILE * 9999],
        ["-n", HOSTILE * 9999, "-p", "a"],
        [HOSTILE * 9999],
        ["replay", HOSTILE],
        ["compare", "-p", "a", HOSTILE * 9999],
        ["compare", "-p", "a", "--n", HOSTILE * 9999],
        ["compare", "-p", "a", "--html", f"/nowhere/{HOSTILE}.html"],
    ],
    ids=lambda given: ascii(given)[:30],
)
def test_an_error_quotes_what_it_was_given_and_cuts_it(run, arguments):
    result = run(*arguments)
    assert result.code in (1, 2)
    assert result.err.removesuffix("\n").isprintable()
    assert len(result.err) < 2000


def test_a_command_ends_the_answers_of_step(run):
    result = run(stdin=":step the boy\n\n1\n:set k 3\nthe king\n")
    assert result.code == 0
    assert "k: 10 -> 3" in result.out + result.err
    assert "\nthe king " in result.out


def test_a_line_that_is_no_answer_is_an_error_of_that_line(run):
    result = run("--keep-going", stdin=":step the boy\n\nthe king\n:set k 3\nthe dog")
    assert result.code == 1
    assert any(
        line.startswith("stdin:3: 'the king' is no") for line in result.err_lines
    )
    assert "\nthe dog " in result.out


@pytest.mark.parametrize("program", ["main", "setup"])
def test_an_interrupt_during_the_start_is_silent(program):
    code = (
        "import sys; from minigpt_repl import __main__ as programs\n"
        "programs._leave_on_interrupt()\n"  # what either begins with
        f"print(1, flush=True); sys.exit(programs.{program}())"
    )
    for delay in (0.0, 0.02, 0.05, 0.1, 0.2):
        with subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        ) as started:
            started.stdout.readline()
            time.sleep(delay)
            started.send_signal(signal.SIGINT)
            out, err = started.communicate(timeout=60)
        assert started.returncode == 130
        assert out == b""
        # On a fast machine the start is over by then, and the program says its line.
        assert err == b"" or (delay > 0.02 and b"interrupted" in err), err
        assert b"Traceback" not in err
