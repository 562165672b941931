"""minigpt-repl: a terminal lab for decoding strategies.

`minigpt_repl.load()` is the way in for scripts and notebooks. Importing this package
is cheap: nothing here loads TensorFlow. Import `minigpt_repl.lm` to register the
model's classes with KerasHub.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minigpt_repl.version import __version__ as __version__

if TYPE_CHECKING:
    from minigpt_repl.notebook import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # On demand: they need rich, KerasHub and more, which the command line does not.
    if name == "load":
        return import_module("minigpt_repl.notebook").load
    if name in ("lm", "sampling"):
        return import_module(f"minigpt_repl.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
