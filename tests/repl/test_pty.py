"""The program itself on a pseudo-terminal, with a real engine and a tiny model."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from terminals import PtyTerminal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, make_causal_lm):
    """A folder with a model of random weights."""
    from minigpt_repl.models.checkpoint import save_checkpoint

    directory = tmp_path_factory.mktemp("checkpoints") / "tiny"
    save_checkpoint(directory, make_causal_lm(), {"recipe": "none"})
    return directory


@pytest.fixture
def play(checkpoint, tmp_path):
    """Plays a scenario with the program; returns the exit code."""

    def run(scenario, *arguments, columns=100, rows=30, directory=checkpoint):
        program = [sys.executable, "-m", "minigpt_repl", "--checkpoint", str(directory)]
        terminal = PtyTerminal(program, tmp_path, columns, rows)
        return terminal.run(scenario, *arguments)

    return run


def test_a_session_from_the_start_to_the_end(play, tmp_path):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.see("top_k k=10 temperature=1")
        terminal.type("the cat sat")  # before the model is there
        terminal.see("20 tokens ·")
        terminal.see("length reached")
        for number, name in enumerate(("greedy", "top_p", "beam"), 1):
            terminal.at_prompt()
            terminal.type(f":sampler {name}")
            terminal.see(f"-> {name}")
            terminal.type("the dog ran")
            terminal.see("20 tokens ·", times=1 + number)
        terminal.at_prompt()
        terminal.type(":sampler random")
        terminal.type(":set length 100000")
        terminal.type("the mat")
        terminal.see("> the mat the mat")
        terminal.wait(lambda: terminal.flat.count(" ") > 200, "stream")
        terminal.press("^C")
        terminal.see("stopped after ")
        count = int(re.findall(r"stopped after (\d+) token", terminal.flat)[0])
        assert 0 < count < 100_000
        terminal.at_prompt()
        terminal.type(":set length 5")
        terminal.type("the end")
        terminal.see("5 tokens ·")
        terminal.at_prompt()
        terminal.see("ready")
        terminal.press("^D")

    assert play(scenario, "--length", "20", rows=60) == 0
    history = (tmp_path / "minigpt-repl" / "history").read_text()
    assert "+the cat sat\n" in history
    assert "+:sampler beam\n" in history


def test_no_line_of_tensorflow_reaches_the_terminal(play):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.type("the cat")
        terminal.see("length reached")
        terminal.see("tokens/s · ready")
        terminal.press("^D")
        words = ("oneDNN", "cuda", "tensorflow", "Warning", "port.cc", "WARNING")
        for word in words:
            assert word not in terminal.screen.written

    assert play(scenario, "--length", "5") == 0


def test_a_checkpoint_that_is_damaged_is_told_and_another_one_loads(
    play, checkpoint, tmp_path
):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in checkpoint.rglob("*"):
        if path.is_file():
            place = broken / path.relative_to(checkpoint)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    weights = broken / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:-100])

    def scenario(terminal):
        terminal.see("is not the file that was saved")
        terminal.type(":set k 5")
        terminal.see("k: 10 -> 5")
        terminal.at_prompt()
        terminal.type(f":model {checkpoint}")
        terminal.see("71 words")
        terminal.type(f":model {broken}")
        terminal.see("is not the file that was saved", times=2)
        terminal.at_prompt()
        terminal.type("the cat")
        terminal.see("length reached")
        terminal.press("^D")

    assert play(scenario, "--length", "5", directory=broken, columns=200) == 0


def test_told_to_end_while_it_generates_the_engine_ends_too(play):
    engines = []

    def scenario(terminal):
        terminal.at_prompt()
        terminal.type("the cat")
        terminal.see("> the cat the cat")
        engines.extend(children_of(terminal.process.pid))
        os.kill(terminal.process.pid, signal.SIGTERM)

    assert play(scenario, "--length", "100000") == 128 + signal.SIGTERM
    assert engines
    assert not any(Path(f"/proc/{engine}").exists() for engine in engines)


def children_of(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()
