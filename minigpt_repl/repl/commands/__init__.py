"""The commands: importing this package fills the table of `repl.command`.

Each module holds commands that share one idea.
"""

from minigpt_repl.repl.commands import (
    explain,
    files,
    help,
    model,
    screen,
    setting,
    show,
    texts,
)

__all__ = ["explain", "files", "help", "model", "screen", "setting", "show", "texts"]
