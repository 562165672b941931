"""The commands: importing this package fills the table of `repl.dispatch`.

Each module holds the commands of one subject.
"""

from minigpt_repl.repl.commands import (  # noqa: F401
    comparing,
    program,
    saving,
    searches,
    setting,
    stepping,
    tour,
    tree,
    why,
)
