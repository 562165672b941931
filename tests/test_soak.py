"""A short run of the soak script, on a tiny model."""

import subprocess
import sys
from pathlib import Path

import pytest

from minigpt_repl.models.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_many_texts_cost_no_memory_and_no_trace(make_causal_lm, tmp_path):
    draft = make_causal_lm(num_layers=1, hidden_dim=8)
    save_checkpoint(tmp_path / "model", make_causal_lm(), {}, draft=draft)
    command = [sys.executable, "scripts/soak.py", "--checkpoint", tmp_path / "model"]
    result = subprocess.run(
        [*command, "--generations", "200", "--settling", "100"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "200 texts" in result.stdout
    assert "0 traces" in result.stdout
    assert result.stderr == ""
