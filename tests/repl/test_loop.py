"""What a person does at the terminal, played on a pipe and on a pseudo-terminal."""

import itertools
import os
import re
import signal
import stat
import sys

import pytest
from terminals import HERE, PipeTerminal, PtyTerminal

# A process for each test is for the whole run; the quick one has the pipe.
BOTH = ("pipe", pytest.param("pty", marks=pytest.mark.slow))


@pytest.fixture(params=BOTH)
def play(request, tmp_path, monkeypatch):
    """Plays a scenario on one of the terminals; returns the exit code."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def run(scenario, *settings, engine="quick", columns=80, rows=24, **environment):
        if request.param == "pipe":
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            terminal = PipeTerminal(engine, tmp_path, columns, rows)
        else:
            program = [sys.executable, str(HERE / "fake_program.py"), engine]
            terminal = PtyTerminal(program, tmp_path, columns, rows, **environment)
        return terminal.run(scenario, *settings)

    return run


def test_a_prompt_is_continued_and_the_next_one_waits(play):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.type("the king")
        terminal.see("80 tokens")
        terminal.see("top_k k=10 temperature=1 · seed 7")
        text = terminal.flat.partition("> the king ")[2]
        assert text.startswith("the king ")
        terminal.at_prompt()
        terminal.press("^D")

    assert play(scenario, "seed=7") == 0


def test_toolbar_shows_what_the_next_text_is_made_with(play):
    def scenario(terminal):
        terminal.see("top_k k=10 temperature=1")
        terminal.type(":sampler beam num_beams=3")
        terminal.see("beam num_beams=3 temperature=1 length_penalty=1 ·")
        terminal.type(":set seed 9")
        terminal.see("· seed 9")
        terminal.type("the king")
        terminal.see("· 32/32 ·")
        terminal.see("tokens/s · ready")
        terminal.press("^D")

    assert play(scenario, "length=40") == 0


@pytest.mark.parametrize("times", [1, 5])
def test_interrupt_keeps_the_text_and_gives_the_prompt_back(play, times):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.type("the king")
        terminal.see("> the king the king ")
        terminal.wait(lambda: len(terminal.flat.split()) > 20, "stream")
        for _ in range(times):
            terminal.interrupt()
        terminal.see("stopped after ")
        count = int(re.findall(r"stopped after (\d+) token", terminal.flat)[0])
        assert 0 < count < 5000
        terminal.at_prompt()
        terminal.type(":set length 3")
        terminal.type("a queen")
        terminal.see("3 tokens")
        terminal.see("length reached")
        terminal.press("^D")

    assert play(scenario, "length=5000", engine="slow") == 0


def test_interrupt_at_the_prompt_clears_the_line_then_hints(play):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.send("nonsense")
        terminal.see("> nonsense")
        terminal.press("^C")
        terminal.at_prompt()
        assert "^D leaves, :help helps" not in terminal.flat
        terminal.press("^C")
        terminal.see("^D leaves, :help helps")
        terminal.press("^D")

    assert play(scenario) == 0


def test_samplers_switch_while_the_session_goes_on(play):
    def scenario(terminal):
        names = ("greedy", "beam", "top_p", "contrastive", "speculative")
        for number, name in enumerate(names, 1):
            terminal.type(f":sampler {name}")
            terminal.type("the king")
            terminal.see("6 tokens", times=number)
            terminal.at_prompt()
        assert terminal.flat.count("6 tokens") == 5
        assert "defect" not in terminal.flat
        terminal.press("^D")

    assert play(scenario, "length=6", rows=50) == 0


def test_mistakes_are_told_and_change_nothing(play):
    def scenario(terminal):
        terminal.type(":smapler")
        terminal.see("did you mean :sampler?")
        terminal.type(":set k ten")
        terminal.see("k must be")
        terminal.type(":set")
        terminal.see("k 10")
        terminal.type(":quit")

    assert play(scenario, rows=60) == 0


def test_history_is_there_in_the_next_run(play, tmp_path):
    def first(terminal):
        terminal.at_prompt()
        terminal.type("the little king")
        terminal.see("tokens/s")
        terminal.press("^D")

    def second(terminal):
        terminal.at_prompt()
        terminal.send("the l")
        terminal.see("the little king")  # suggested
        terminal.press("right")
        terminal.press("enter")
        terminal.see("the little king the little king")
        terminal.at_prompt()
        terminal.press("^R")
        terminal.send("little")
        terminal.see("I-search backward: little")
        terminal.press("enter", "^C", "^D")

    assert play(first, "length=3") == 0
    history = tmp_path / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert play(second, "length=3") == 0
    assert history.read_text().count("+the little king\n") >= 1


def test_a_folder_in_the_place_of_the_history_is_told_once(play, tmp_path):
    (tmp_path / "history").mkdir()

    def scenario(terminal):
        terminal.type("the king")
        terminal.see("lines are not kept")
        terminal.see("tokens/s")
        terminal.at_prompt()
        terminal.press("^D")

    assert play(scenario, "length=3") == 0


@pytest.mark.parametrize("columns", [40, 200])
def test_text_is_wrapped_between_words(play, columns):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.type("the king")
        terminal.see("length reached")
        lines = terminal.screen.lines
        first = next(n for n, line in enumerate(lines) if line.startswith("the king"))
        ends = ("context full", "top_k k=10")
        last = next(n for n, line in enumerate(lines) if line.startswith(ends))
        rows = lines[first:last]
        assert len(rows) > 1
        assert all(len(row) < columns for row in rows)
        # No word is broken: the next row's first word would not have fitted.
        for row, after in itertools.pairwise(rows):
            assert len(row) + 1 + len(after.split()[0]) >= columns - 1
        terminal.press("^D")

    assert play(scenario, "seed=3", columns=columns) == 0


@pytest.mark.slow
def test_resizing_while_text_streams_loses_no_word(play):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.type("the king")
        terminal.wait(lambda: terminal.flat.count(" ") > 25, "stream")
        terminal.resize(120, 24)
        terminal.see("length reached")
        wide = words_of(terminal)
        terminal.at_prompt()
        terminal.type(":again")
        terminal.see("length reached", times=2)
        assert words_of(terminal) == wide
        terminal.press("^D")

    assert play(scenario, "seed=5", "length=60", engine="slow", columns=60) == 0


def words_of(terminal) -> list[str]:
    """Words of the last text."""
    text = terminal.flat.rpartition("the king ")[2]
    return text.partition(" context full")[0].split()


def test_pasted_lines_are_one_prompt(play):
    pasted = "\n".join(f"the king went {number}" for number in range(200))

    def scenario(terminal):
        terminal.at_prompt()
        terminal.paste(pasted)
        terminal.see("the king went 199")
        assert "tokens/s" not in terminal.flat
        terminal.press("enter")
        terminal.see("length reached")
        terminal.at_prompt()
        terminal.type(":show history")
        terminal.see("the king went 0 the king went 1")
        terminal.press("^D")

    assert play(scenario, "length=3", engine="plain") == 0


def test_alt_enter_and_blocks_make_prompts_of_several_lines(play, tmp_path):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.send("the king")
        terminal.press("alt-enter")
        terminal.send("went home")
        terminal.see(". went home")
        terminal.press("enter")
        terminal.see("length reached")
        terminal.at_prompt()
        terminal.type(":{")
        terminal.type("a queen")
        terminal.type("saw")
        assert terminal.flat.count("length reached") == 1
        terminal.type(":}")
        terminal.see("length reached", times=2)
        terminal.at_prompt()
        terminal.type(":show history")
        terminal.see("the king went home")
        terminal.see("a queen saw")
        terminal.press("^D")

    assert play(scenario, "length=3", rows=40) == 0


@pytest.mark.parametrize(
    "prompt",
    ["옛날 옛날에 왕이 살았다", "a cat 🐈‍⬛ and a king 👑", "cafe\u0301 naïve"],
    ids=["korean", "emoji", "accents"],
)
def test_prompts_of_any_script(play, prompt):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.type(prompt)
        terminal.see("length reached")
        assert "defect" not in terminal.flat
        terminal.at_prompt()
        terminal.press("^D")

    assert play(scenario, "length=3") == 0


def test_ten_thousand_characters(play):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.paste("the king " * 1111 + "x")
        terminal.press("enter")
        terminal.see("prompt cropped by")
        terminal.see("length reached")
        terminal.at_prompt()
        terminal.press("^D")

    assert play(scenario, "length=3", engine="plain") == 0


def test_control_characters_steer_nothing(play):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.paste("the \x1b[2J\x07king\x00\x9b31m \x7f went")
        terminal.press("enter")
        terminal.see("length reached")
        assert "minigpt-repl" in terminal.flat  # the screen was not cleared
        assert "\x1b[2J" not in terminal.screen.written
        terminal.at_prompt()
        terminal.press("^D")

    assert play(scenario, "length=3") == 0


def test_tab_completes_names(play):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.send(":samp")
        terminal.press("tab")
        terminal.see("> :sampler")
        terminal.send(" con")
        terminal.press("tab")
        terminal.see("> :sampler contrastive")
        terminal.press("enter")
        terminal.see("sampler: top_k -> contrastive")
        terminal.press("^D")

    assert play(scenario) == 0


def test_a_prompt_is_edited_in_the_users_editor(play):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.type("the king")
        terminal.see("length reached")
        terminal.type(":edit")
        terminal.see("the queen")
        terminal.see("length reached", times=2)
        terminal.at_prompt()
        terminal.press("^D")

    assert play(scenario, "length=3", EDITOR="sed -i s/king/queen/", VISUAL="") == 0


def test_an_editor_that_is_not_there_is_told(play):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.type("the king")
        terminal.see("length reached")
        terminal.type(":edit")
        terminal.see("set EDITOR to an editor")
        terminal.at_prompt()
        terminal.press("^D")

    assert play(scenario, "length=3", EDITOR="no-such-editor", VISUAL="") == 0


def test_vi_keys(play):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.send("the knig")
        terminal.press("escape")
        terminal.see("> the knig")
        terminal.send("bcwking")
        terminal.see("> the king")
        terminal.press("enter")
        terminal.see("length reached")
        terminal.press("^D")

    assert play(scenario, "keys=vi", "length=3") == 0


def test_without_colour_there_is_none(play):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.type("the king")
        terminal.see("length reached")
        terminal.type(":sampler")
        terminal.see("contrastive")
        terminal.press("^D")
        codes = re.findall(r"\x1b\[([\d;]*)m", terminal.screen.written)
        colours = {c for code in codes for c in code.split(";") if c} - set("01457")
        assert not {c for c in colours if c[0] in "349" or c.startswith("10")}

    assert play(scenario, "length=3", NO_COLOR="1") == 0


def test_a_dumb_terminal_gets_no_escape(play, request):
    if "pipe" in request.node.name:
        pytest.skip("prompt_toolkit asks the terminal, not its output")

    def scenario(terminal):
        terminal.see(">")
        terminal.type("the king")
        terminal.see("length reached")
        terminal.type(":sampler beam")
        terminal.type("the king")
        terminal.see("length reached", times=2)
        terminal.press("^D")
        assert "\x1b" not in terminal.screen.written

    assert play(scenario, "length=3", TERM="dumb") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_the_program_leave_the_terminal_sane(play, number, tmp_path):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.type("the king")
        terminal.see("length reached")
        terminal.at_prompt()
        process = getattr(terminal, "process", None)
        os.kill(os.getpid() if process is None else process.pid, number)

    assert play(scenario, "length=3") == 128 + number
    assert "+the king\n" in (tmp_path / "history").read_text()


def test_an_engine_that_is_no_checkpoint_is_told(play, request):
    if "pipe" in request.node.name:
        pytest.skip("there, the engine is made before the loop")

    def scenario(terminal):
        terminal.see("broken is not a checkpoint")
        terminal.see("not loaded")
        terminal.type(":set length 5")
        terminal.see("length: 80 -> 5")
        terminal.type("the king")
        terminal.see("broken is not a checkpoint", times=2)
        terminal.press("^D")

    assert play(scenario, engine="broken") == 0


@pytest.mark.parametrize("engine", ["stuck", "compiling"])
def test_a_stuck_engine_is_gone_back_from_and_left(play, request, engine, tmp_path):
    if "pipe" in request.node.name:
        pytest.skip("an engine in this process can't be left while it is stuck")

    def scenario(terminal):
        if engine == "compiling":
            terminal.see("ready")
        terminal.at_prompt()
        terminal.type("the king")
        terminal.see("^C goes back")
        if engine == "compiling":
            terminal.wait((tmp_path / "taken_up").exists, "request at the engine")
        terminal.press("^C")
        terminal.see("stopped")
        terminal.at_prompt()
        terminal.press("^C")
        terminal.see("^D leaves")
        terminal.at_prompt()
        terminal.press("^D")

    assert play(scenario, engine=engine) == 0


def test_a_line_that_comes_early_waits_for_the_model(play, request, tmp_path):
    if "pipe" in request.node.name:
        pytest.skip("there, the engine is made before the loop")

    def scenario(terminal):
        terminal.at_prompt()
        terminal.type("the king")
        terminal.see("loading the model")
        (tmp_path / "go").touch()
        terminal.see("length reached")
        assert "loading the model" not in terminal.flat
        terminal.press("^D")

    assert play(scenario, "length=3", engine="late") == 0


def test_a_step_is_a_key(play):
    def scenario(terminal):
        terminal.at_prompt()
        terminal.type(":step the king")
        terminal.see("token 1 of 80")
        terminal.send("0")
        terminal.see("token 2 of 80")
        terminal.send("queen")
        terminal.see("Enter takes what you wrote")
        terminal.send("\r")
        terminal.see("token 3 of 80")
        # In place: the step before is not above it.
        assert "token 2 of 80" not in terminal.flat
        terminal.send("\x1b[D")
        terminal.see("token 2 of 80")
        terminal.send("q\x1b")
        terminal.see("goes back")
        terminal.send("\x1b")
        terminal.at_prompt()
        terminal.press("^D")

    assert play(scenario, "seed=7", rows=40) == 0
