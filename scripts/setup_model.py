#!/usr/bin/env python3
"""The same as `minigpt-setup`, from a clone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    import minigpt_repl.training.setup_model  # noqa: F401
    from minigpt_repl.__main__ import setup
except ModuleNotFoundError as error:
    sys.exit(
        f"{error.name} is not installed here: scripts/setup installs it and goes on"
    )

if __name__ == "__main__":
    sys.exit(setup())
