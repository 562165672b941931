"""The loop with fake engines in a child process: `fake_program.py KIND [k=v ...]`."""

import os
import sys
from pathlib import Path

from minigpt_repl.engine.remote import RemoteEngine
from minigpt_repl.repl.context import Session
from minigpt_repl.repl.terminal import Terminal
from minigpt_repl.settings import Settings

if __name__ == "__main__":
    settings = Settings().set(dict(pair.split("=") for pair in sys.argv[2:]))[0]
    terminal = Terminal(
        Session(settings),
        lambda directory: RemoteEngine(directory, factory="engines:make_engine"),
        sys.argv[1],
        history=Path(os.environ["XDG_STATE_HOME"]) / "history",
    )
    sys.exit(terminal.run())
