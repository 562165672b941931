"""A short run of the soak script, on a tiny model."""

import subprocess
import sys
from pathlib import Path

import pytest

from minigpt_repl.models.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_random_texts_are_what_was_asked_for(make_causal_lm, tmp_path):
    draft = make_causal_lm(num_layers=1, hidden_dim=8)
    save_checkpoint(tmp_path / "model", make_causal_lm(), {}, draft=draft)
    command = [sys.executable, "scripts/soak.py", "--checkpoint", tmp_path / "model"]
    result = subprocess.run(
        [*command, "--generations", "12"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "12 texts" in result.stdout
    assert "FAILED" not in result.stdout
    assert result.stderr == ""
