"""The commands: importing this package fills the table of `repl.command`.

Each module holds commands that share one idea.
"""

from minigpt_repl.repl.commands import (
    compare,
    diff,
    explain,
    export,
    files,
    help,
    model,
    screen,
    setting,
    show,
    stepping,
    texts,
    tokens,
    tour,
    tree,
    views,
)

__all__ = [
    "compare",
    "diff",
    "explain",
    "export",
    "files",
    "help",
    "model",
    "screen",
    "setting",
    "show",
    "stepping",
    "texts",
    "tokens",
    "tour",
    "tree",
    "views",
]
