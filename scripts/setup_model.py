#!/usr/bin/env python3
"""The same as `minigpt-setup`, from a clone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from minigpt_repl.training.setup_model import main

if __name__ == "__main__":
    main()
