"""The table of texts that come back as they were written has no row that does not."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "own_text.py"


@pytest.mark.slow
def test_every_kind_of_text_comes_back():
    shown = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.count(" yes   yes ") == len(shown.stdout.splitlines()) - 1 >= 20
