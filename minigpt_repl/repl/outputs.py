"""What a command may show or ask: values that the loop carries out.

Commands are generators of these; they never print. The terminal loop, the plain
loop for pipes and the tests each carry them out in their own way.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Say:
    """A block for stdout: text, or anything that rich can draw."""

    content: "RenderableType"


@dataclass(frozen=True)
class Notice:
    """One line for stderr, dimmed: figures, warnings, what was changed."""

    text: str


@dataclass(frozen=True)
class Mistake(Notice):
    """A line of a sourced file failed: a notice, and a script's exit code 1."""


@dataclass(frozen=True)
class TextStarted:
    """A continuation begins: the prompt, shown dimmed before the new text."""

    prompt: str


@dataclass(frozen=True)
class TextDelta:
    """New text that goes on right where the last delta ended."""

    delta: str


@dataclass(frozen=True)
class TextReplaced:
    """The whole new text so far, in place of what was shown (beam search)."""

    text: str


@dataclass(frozen=True)
class TextEnded:
    """The continuation is complete; what follows starts on a new line."""


@dataclass(frozen=True)
class Live:
    """A block redrawn in place by the next `Live`; the last one stays.

    Where there is no terminal only the last of a run is shown.
    """

    content: "RenderableType"


@dataclass(frozen=True)
class Ask:
    """A question; the loop sends back the answer, or `None` at end of input."""

    question: str


@dataclass(frozen=True)
class AskEditor:
    """Text to edit in $EDITOR; the loop sends back the text, or `None`."""

    text: str


@dataclass(frozen=True)
class SwitchModel:
    """Load another checkpoint; the loop sends back its `EngineInfo`, or raises
    `CheckpointError` into the command and keeps the old one."""

    directory: str


@dataclass(frozen=True)
class ClearScreen:
    """Clear the terminal, if there is one."""


@dataclass(frozen=True)
class Quit:
    """Leave the program."""

    exit_code: int = 0


Output = (
    Say
    | Notice
    | TextStarted
    | TextDelta
    | TextReplaced
    | TextEnded
    | Live
    | Ask
    | AskEditor
    | SwitchModel
    | ClearScreen
    | Quit
)
