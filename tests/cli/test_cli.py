"""Exit codes, messages and manners of the program in a shell."""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner
from program import start

from minigpt_repl import cli
from minigpt_repl.errors import CheckpointError, EngineError
from minigpt_repl.repl import entry
from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.version import __version__

pytestmark = pytest.mark.slow

TIMEOUT = 60


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=TIMEOUT)
    return process.returncode, out, err


def test_the_version(run):
    result = run("--version")
    assert (result.code, result.out) == (0, f"minigpt-repl {__version__}\n")


def test_help_names_every_option_and_subcommand(run):
    result = run("--help")
    assert result.code == 0
    for name in ("--checkpoint", "--sampler", "--jsonl", "--keep-going", "doctor"):
        assert name in result.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nonsense"], "--nonsense"),
        (["-p"], "requires an argument"),
        (["-p", "x", "-n", "0"], "0 is not in the range"),
        (["-p", "x", "--set", "k"], "--set takes NAME=VALUE, such as k=10; got 'k'"),
        (["-p", "x", "--set", "k=ten"], "k must be a whole number"),
        (["-p", "x", "--set", "k=0"], "k must be a whole number 1.."),
        (["-p", "x", "--set", "kk=5"], "no setting 'kk'"),
        (["-p", "x", "--sampler", "tpk"], "did you mean top_k?"),
        (["-p", "x", "--sampler", "greedy", "--set", "k=5"], "belongs to"),
        (["-p", "x", "--seed", "-1"], "seed must be"),
        (["-p", "x", "--seed", str(2**31)], "seed must be"),
        (["-p", "x", "--length", "0"], "length must be"),
        (["-p", "x", "--length", "1e3"], "length must be"),
        (["-p", "x", "--color", "blue"], "--color"),
        (["-n", "3"], "the prompt with -p"),
        (["once upon a time"], "a text to continue goes after -p"),
        (["docter"], "did you mean doctor?"),
    ],
)
def test_mistakes_of_usage_are_one_line_and_exit_2(run, engines, arguments, said):
    result = run(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert len(result.err_lines) == 1
    assert result.err.startswith("minigpt-repl: ")
    assert said in result.err
    assert engines == []


def test_names_of_samplers_are_taken_in_any_spelling(run, engines):
    for name in ("topk", "top-k", "Top_K", "TOP K"):
        assert run("-p", "x", "--sampler", name).code == 0
    assert {engine.requests[0].sampler for engine in engines} == {"top_k"}


def test_flags_are_stronger_than_the_environment(run, monkeypatch, engines):
    monkeypatch.setenv("MINIGPT_LENGTH", "5")
    run("-p", "x")
    run("-p", "x", "--length", "7")
    assert [engine.requests[0].length for engine in engines] == [5, 7]


@pytest.mark.parametrize("error", [CheckpointError("broken"), EngineError("broken")])
def test_what_cannot_be_done_is_one_line_and_exits_1(run, monkeypatch, error):
    def fail(directory, options):
        raise error

    monkeypatch.setattr(entry, "open_engine", fail)
    result = run("-p", "x")
    assert (result.code, result.err) == (1, "minigpt-repl: broken\n")


def test_a_defect_is_one_line_and_a_traceback_only_on_demand(run, monkeypatch):
    def fail(directory, options):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(entry, "open_engine", fail)
    result = run("-p", "x")
    assert result.code == 1
    assert len(result.err_lines) == 1
    assert "a defect of this program, ZeroDivisionError: division by zero" in result.err
    assert "Traceback" in run("-p", "x", "--debug").err


def test_a_checkpoint_that_is_not_there(run, home):
    result = run("--checkpoint", str(home / "nowhere"), "-p", "x")
    assert result.code == 1
    assert len(result.err_lines) == 1
    assert "there is no checkpoint" in result.err


@pytest.mark.parametrize(
    "command",
    [("doctor",), ("compare", "-p", "x"), ("score", "text.txt")],
    ids="-".join,
)
def test_what_stands_before_a_subcommand_holds_unless_it_is_given_after_it(
    run, home, monkeypatch, command
):
    monkeypatch.chdir(home)
    (home / "text.txt").write_text("the king")
    before = run("--checkpoint", "./earlier", *command)
    assert before.code == 1 and "earlier" in before.out + before.err
    after = run("--checkpoint", "./earlier", *command, "--checkpoint", "./later")
    assert after.code == 1 and "later" in after.out + after.err
    assert "earlier" not in after.out + after.err


def test_a_config_of_ones_own_is_printed(run, home):
    result = run("--print-config")
    assert result.code == 0
    (home / "made.toml").write_text(result.out)
    assert run("--config", str(home / "made.toml"), "-p", "x").code == 0


def test_a_bad_line_in_the_config_is_told_and_left_out(run, home, engines):
    (home / "config" / "minigpt-repl").mkdir(parents=True)
    config = home / "config" / "minigpt-repl" / "config.toml"
    config.write_text("length = 5\nlenth = 6\n")
    result = run("-p", "x", "--set", "stats=off")
    assert result.code == 0
    assert f"{config}: lenth: " in result.err
    assert engines[0].requests[0].length == 5


@pytest.mark.parametrize("flag", ["--json", "--jsonl"])
def test_json_is_all_there_is_on_stdout(home, flag):
    code, out, err = finish(start("-p", "the king", flag, "-n", "2"))
    assert code == 0
    for line in out.splitlines():
        json.loads(line)
    assert "TensorFlow" not in err


def test_lines_of_tensorflow_reach_nobody_unless_asked_for(home):
    code, _, err = finish(start("-p", "the king"))
    assert code == 0
    assert "TensorFlow" not in err
    assert "top_k k=10" in err
    assert "TensorFlow" in finish(start("-p", "the king", "--debug"))[2]


def test_devnull_ends_at_once(home):
    assert finish(start()) == (0, "", "")


def test_a_closed_pipe_ends_silently(home):
    process = start("-p", "the king", "-n", "3", env=os.environ | {"FAKE_DELAY": ".02"})
    process.stdout.read(8)
    process.stdout.close()
    assert process.wait(timeout=TIMEOUT) == 0
    err = process.stderr.read()
    process.stderr.close()
    assert "Broken" not in err
    assert "Traceback" not in err
    assert "Exception" not in err


def test_a_pipe_that_was_closed_before_we_began(home):
    reading, writing = os.pipe()
    os.close(reading)
    process = start("--help", stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, err) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [("-p", "the king"), ("--help",)])
def test_a_full_disk_is_one_line(home, arguments):
    with open("/dev/full", "w") as full:
        process = start(*arguments, stdout=full)
        _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert "No space left on device" in err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if "minigpt-repl:" in line]) == 1


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_is_no_reason_to_fail(home, closed):
    number = {"stdin": 0, "stdout": 1, "stderr": 2}[closed]
    command = f"exec {number}>&-; exec {sys.executable} {start_file()} -p 'the king'"
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert result.returncode == 0
    assert "Traceback" not in result.stderr
    if closed != "stdout":
        assert result.stdout.startswith("the king ")


def start_file() -> str:
    import program

    return program.__file__


def test_interrupting_a_text_keeps_it_and_exits_130(home):
    environment = os.environ | {"FAKE_DELAY": "0.05"}
    process = start("-p", "the king", "--length", "1000", env=environment)
    assert process.stdout.read(12).startswith("the king ")
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code == 130
    assert out.endswith("\n")
    assert "stopped after" in err
    assert "Traceback" not in err


def test_interrupting_lines_ends_the_run(home):
    environment = os.environ | {"FAKE_DELAY": "0.05"}
    process = start(
        "--keep-going", "--length", "1000", stdin=subprocess.PIPE, env=environment
    )
    process.stdin.write("the king\nthe boy\n")
    process.stdin.flush()
    process.stdout.read(12)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert "Traceback" not in err


def test_interrupting_while_it_waits_for_a_line(home):
    process = start("--length", "5", "--set", "stats=off", stdin=subprocess.PIPE)
    process.stdin.write("the king\n")
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert err == ""


def test_answers_come_line_by_line_while_the_pipe_is_open(home):
    process = start("--set", "stats=off", stdin=subprocess.PIPE)
    for prompt in ("the king", "the boy"):
        process.stdin.write(f"{prompt}\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(prompt)
    process.stdin.close()
    assert process.wait(timeout=TIMEOUT) == 0
    process.stdout.close()
    process.stderr.close()


def test_a_terminal_on_one_side_only_is_no_terminal(home):
    primary, secondary = pty.openpty()
    process = start(stdin=subprocess.PIPE, stdout=secondary, stderr=secondary)
    os.close(secondary)
    process.stdin.write(":sampler\nthe king\n")
    process.stdin.close()
    seen = b""
    while True:
        try:
            data = os.read(primary, 4096)
        except OSError:
            break
        if not data:
            break
        seen += data
    os.close(primary)
    assert process.wait(timeout=TIMEOUT) == 0
    assert b"the king " in seen
    assert b"\x1b" not in seen


def test_colour_is_forced_only_when_asked_for(home):
    process = start("--color", "always", stdin=subprocess.PIPE)
    out, _ = process.communicate(":sampler\n", timeout=TIMEOUT)
    assert "\x1b[" in out


def test_output_that_the_locale_cannot_write_is_replaced(home):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    code, out, _ = finish(start("-p", "the “king” 왕", env=environment))
    assert code == 0
    assert out.startswith("the ")


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_shells_are_given_a_completion_script(home, kind):
    variable = {"_MINIGPT_REPL_COMPLETE": f"{kind}_source"}
    code, out, _ = finish(start(env=os.environ | variable))
    assert code == 0
    assert "_MINIGPT_REPL_COMPLETE" in out


def complete(*words: str) -> list[str]:
    from click.shell_completion import ShellComplete

    completer = ShellComplete(cli.cli, {}, "minigpt-repl", "_MINIGPT_REPL_COMPLETE")
    found = completer.get_completions(list(words[:-1]), words[-1])
    return [item.value for item in found]


def test_completion_knows_samplers_settings_and_subcommands():
    samplers = [spec.name for spec in all_samplers()]
    assert complete("--sampler", "") == [*dict.fromkeys((*samplers, *STAGES))]
    both = ["top_k=5+min_p", "top_k=5+min_length"]
    assert complete("--sampler", "top_k=5+min") == both
    assert complete("--sampler", "top_p") == ["top_p"]
    assert complete("--set", "num_b") == ["num_beams="]
    assert complete("--color", "a") == ["auto", "always"]
    assert "doctor" in complete("d")
    assert "--keep-going" in complete("--keep")


def test_every_subcommand_has_help():
    runner = CliRunner()
    for name in cli.cli.list_commands(None):
        result = runner.invoke(cli.cli, [name, "--help"])
        assert result.exit_code == 0
        assert "Usage:" in result.output
