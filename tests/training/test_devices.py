"""Several processes train what one trains, and none waits for one that is gone."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import python
from test_setup_model import made_up_text, record, start, wait_for

from minigpt_repl.__main__ import setup
from minigpt_repl.errors import UsageError
from minigpt_repl.training.devices import is_status, own_rows
from minigpt_repl.training.setup_options import Cluster, check_backend

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="jax is not installed: pip install 'minigpt-repl[scale]'",
)

EXACT = ("--full-precision", "--batch-size", "7", "--tokenizer", "wordpiece")
"""bfloat16 rounds sums of another order in another way; 7 is odd, so one is padded."""

SECOND_OF_TWO = ("--coordinator", "h:1", "--num-processes", "2", "--process-id", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `text.txt` and a cache, used by one test after the other."""
    folder = tmp_path_factory.mktemp("scale")
    (folder / "text.txt").write_text(made_up_text(), encoding="utf-8")
    return folder


def start_cluster(place, out, *arguments):
    """Two processes on the loopback interface, whose stderr goes to files."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    return [
        start(
            place,
            *arguments,
            *(
                "--coordinator",
                address,
                "--num-processes",
                "2",
                "--process-id",
                str(process),
            ),
            out=out,
        )
        for process in range(2)
    ]


@pytest.fixture(scope="module")
def trained_on_jax(place):
    """The folder of a checkpoint that one process trained on JAX."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        process = start(place, *EXACT, "--steps", "60", out="one")
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return place / "one"


@needs_jax
@pytest.mark.slow
def test_two_processes_train_as_one_does(place, trained_on_jax, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    processes = start_cluster(
        place, "two", *EXACT, "--steps", "60", "--sampler", "greedy"
    )
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    one, two = (record(place, out)["training"] for out in ("one", "two"))
    assert len(one["history"]) == len(one["training_losses"]) == 2
    np.testing.assert_allclose(
        [each["loss"] for each in two["history"]],
        [each["loss"] for each in one["history"]],
        atol=1e-3,
    )
    np.testing.assert_allclose(
        two["training_losses"], one["training_losses"], atol=1e-3
    )
    # One of them shows the training and writes the files.
    assert "2 devices in all" in errors[0]
    assert "greedy: " in errors[0]
    assert "validation perplexity" not in errors[1]
    assert "saved in" not in errors[1]


@needs_jax
@pytest.mark.slow
def test_a_killed_process_ends_the_other_in_one_line(place, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    chief, worker = start_cluster(place, "killed", "--steps", "1000000")
    try:
        state = place / "killed.training" / "state.npz"
        wait_for(state.exists, chief)
        worker.kill()
        # JAX's heartbeat takes 100 seconds where no connection breaks.
        _, errors = chief.communicate(timeout=120)
    finally:
        for process in (chief, worker):
            process.kill()
            process.communicate()
    assert chief.returncode == 1, errors
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("minigpt-setup: ")
    assert "lost" in errors.splitlines()[-1]
    assert "--resume" in errors.splitlines()[-1]


def logits(folder):
    """Of eight words, from a checkpoint, on the backend that this process has."""
    from minigpt_repl.models.checkpoint import load_checkpoint

    ids = np.arange(3, 11, dtype="int32")[None]
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    return np.asarray(load_checkpoint(Path(folder)).causal_lm(inputs))


SAVE_LOGITS = """
import sys
import numpy as np
sys.path += ["tests", "tests/training"]
from test_devices import logits
np.savez(sys.argv[1], *map(logits, sys.argv[2:]))
"""


@needs_jax
@pytest.mark.slow
def test_a_checkpoint_of_one_backend_loads_on_the_other(
    trained_on_jax, tiny_causal_lm, tmp_path
):
    from minigpt_repl.models.checkpoint import save_checkpoint

    save_checkpoint(tmp_path / "tiny", tiny_causal_lm, {})
    folders = (str(trained_on_jax), str(tmp_path / "tiny"))
    path = tmp_path / "logits.npz"
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    done = python(SAVE_LOGITS, path, *folders, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(path) as file:
        for folder, on_jax in zip(folders, file.values(), strict=True):
            assert on_jax.std() > 0.1
            np.testing.assert_allclose(on_jax, logits(folder), atol=1e-4)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("nowhere", 2, 0), "HOST:PORT"),
        (("host:0", 2, 0), "HOST:PORT"),
        (("host:99999", 2, 0), "HOST:PORT"),
        (("host:1234", 2, 2), "from 0 to 1 of 2"),
    ],
)
def test_a_cluster_that_can_not_be_is_refused(given, told):
    with pytest.raises(UsageError, match=told):
        Cluster(*given)


def test_the_backend_is_checked_before_keras_is_loaded(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    check_backend(None)
    with pytest.raises(UsageError, match="set KERAS_BACKEND=jax"):
        check_backend(Cluster("host:1234", 2, 0))
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"minigpt-repl\[scale\]"):
        check_backend(None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--num-processes", "2"), "go together"),
        (
            (*SECOND_OF_TWO, "--minutes", "1"),
            "not --minutes",
        ),
        (
            SECOND_OF_TWO,
            "set KERAS_BACKEND=jax",
        ),
    ],
)
def test_options_that_do_not_fit_are_told_in_one_line(
    arguments, told, capsys, monkeypatch
):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert setup(arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_lost_connection_is_told_from_a_defect():
    """Killed in a step, the one is raised; killed between two steps, the other."""
    assert is_status(RuntimeError("INTERNAL: Error dispatching: Connection reset"))
    assert is_status(ValueError("UNKNOWN: Gloo AllGather failed: Connection reset"))
    assert not is_status(ValueError("Shapes (2, 3) and (4, 5) are incompatible"))


def test_one_device_feeds_every_row():
    batch = np.ones((5, 3))
    assert own_rows(batch) is batch


WATCHED = """
import os, signal, sys, time
from minigpt_repl.training.setup_model import fork_and_watch
from minigpt_repl.errors import MiniGPTError
try:
    code = fork_and_watch("the others are gone")
except MiniGPTError as error:
    sys.exit(f"told: {error}")
if code is not None:
    sys.exit(code)
print(os.getpid(), flush=True)
"""


def watched(ending):
    return subprocess.Popen(
        [sys.executable, "-c", WATCHED + ending],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("ending", "code", "told"),
    [
        ("sys.exit(7)", 7, ""),
        ("os.abort()", 1, "told: the others are gone\n"),
        ("os.kill(os.getpid(), 9)", 1, "told: the training was ended by SIGKILL\n"),
    ],
)
def test_how_a_watched_process_ended_is_told(ending, code, told):
    process = watched(ending)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, told)


def test_a_watched_process_gets_signals_and_ends_with_its_parent():
    process = watched(
        "signal.signal(15, lambda *_: sys.exit(3))\n"
        "print('it listens', flush=True)\n"
        "time.sleep(600)"
    )
    assert process.stdout.readline().strip().isdigit()
    assert process.stdout.readline() == "it listens\n"
    process.terminate()
    assert process.wait(60) == 3
    orphan = watched("time.sleep(600)")
    child = int(orphan.stdout.readline())
    orphan.send_signal(signal.SIGKILL)
    orphan.wait()
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("it goes on without its parent")
