"""One checkpoint fault of each kind through the command: one line, exit code 1."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from forged import edit_json, sign
from processes import python

from minigpt_repl.models.checkpoint import save_checkpoint
from minigpt_repl.models.record import RECORD_FILE, VOCABULARY_FILE

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT = 120


def talk(directory: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minigpt_repl", "--checkpoint", str(directory)]
    return subprocess.run(
        [*command, "-p", "the cat", "--length", "5", *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"XDG_CONFIG_HOME": str(directory.parent)},
        timeout=TIMEOUT,
    )


def refused(directory: Path, *flags: str) -> str:
    result = talk(directory, *flags)
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("minigpt-repl: ")
    return result.stderr


def test_a_missing_folder(tmp_path):
    assert "there is no checkpoint" in refused(tmp_path / "nowhere")


def test_a_file_in_place_of_a_folder(whole):
    assert "is a file" in refused(whole / "config.json")


def test_a_missing_file(copy):
    (copy / "model.weights.h5").unlink()
    assert "model.weights.h5 is missing" in refused(copy)


def test_a_missing_record(copy):
    (copy / RECORD_FILE).unlink()
    assert "--no-verify" in refused(copy)


def test_a_truncated_file(copy):
    path = copy / "model.weights.h5"
    path.write_bytes(path.read_bytes()[:1000])
    assert "sha256" in refused(copy)


def test_random_bytes(copy):
    (copy / "task.json").write_bytes(random.Random(1).randbytes(1000))
    assert "sha256" in refused(copy)


def test_a_word_more(copy):
    with (copy / VOCABULARY_FILE).open("a") as file:
        file.write("word\n")
    assert "vocabulary.txt" in refused(copy)


def test_a_newer_version(copy):
    record = json.loads((copy / RECORD_FILE).read_text())
    (copy / RECORD_FILE).write_text(json.dumps(record | {"version": 99}))
    assert "newer minigpt-repl" in refused(copy)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_no_permission(copy):
    (copy / "model.weights.h5").chmod(0)
    for path in copy.parents:
        if path.is_relative_to(tempfile.gettempdir()) and path.owner() == "root":
            path.chmod(path.stat().st_mode | 0o055)
    # What the engine's process does: others may not be allowed to start one here,
    # where the interpreter's own files can be closed to them. So import first.
    code = """
import os, sys
from minigpt_repl.engine.worker import load_engine
from minigpt_repl.errors import MiniGPTError
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    load_engine(sys.argv[1], verify=True)
except MiniGPTError as error:
    sys.exit(f"minigpt-repl: {error}")
"""
    result = python(code, copy, env=os.environ | {"XDG_CONFIG_HOME": str(copy.parent)})
    assert result.returncode == 1
    assert "model.weights.h5: Permission denied" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_weights_of_another_shape(copy, make_causal_lm, tmp_path):
    save_checkpoint(tmp_path / "other", make_causal_lm(hidden_dim=24), {})
    for name in ("model.weights.h5", "task.weights.h5"):
        shutil.copy(tmp_path / "other" / name, copy / name)
    edit_json(copy / "metadata.json", lambda content: None)
    sign(copy)
    assert "does not hold the" in refused(copy)


@pytest.mark.slow
def test_a_layer_that_holds_code(copy):
    def change(content):
        content["config"]["dtype"] = {"module": "keras.layers", "class_name": "Lambda"}

    edit_json(copy / "config.json", change)
    sign(copy)
    assert "keras.layers Lambda" in refused(copy)


@pytest.mark.slow
def test_a_whole_one_and_one_without_a_record_that_is_taken_as_it_is(copy):
    (first := talk(copy, "--seed", "1")).check_returncode()
    assert first.stdout.startswith("the cat")
    assert [line for line in first.stderr.splitlines() if "I0000" in line] == []
    (copy / RECORD_FILE).unlink()
    (second := talk(copy, "--seed", "1", "--no-verify")).check_returncode()
    assert second.stdout == first.stdout
