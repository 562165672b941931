"""The rows of scripts/hostile.py and a short run of scripts/fuzz.py."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from minigpt_repl.models.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parent.parent.parent


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


HOSTILE_RUN = script("hostile_run")
HOSTILE = script("hostile")


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    [row for row in HOSTILE.ROWS if not row.needs_model],
    ids=lambda row: ascii(row.tried)[1:-1],
)
def test_a_hostile_file_does_no_harm(row, tmp_path):
    tried = row.build(tmp_path)
    found = HOSTILE.run(tried, tmp_path)
    assert list(HOSTILE.faults(tried, found, tmp_path)) == []


@pytest.mark.slow
def test_a_vocabulary_of_controls_steers_no_terminal(tmp_path):
    rows = [row for row in HOSTILE.ROWS if "vocabulary" in row.tried]
    tried = rows[0].build(tmp_path)
    found = HOSTILE.run(tried, tmp_path)
    assert list(HOSTILE.faults(tried, found, tmp_path)) == []
    assert r"\x1b]52;c;aGk=\x07" in found.out


@pytest.mark.slow
def test_random_lines(make_causal_lm, tmp_path):
    draft = make_causal_lm(num_layers=1, hidden_dim=8)
    save_checkpoint(tmp_path / "model", make_causal_lm(), {}, draft=draft)
    command = [sys.executable, "scripts/fuzz.py", "--lines", "200"]
    result = subprocess.run(
        [*command, "--checkpoint", tmp_path / "model"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "200 lines" in result.stdout
