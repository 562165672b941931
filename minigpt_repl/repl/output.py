"""What a command may show or ask: values that a front end carries out.

Commands are generators of these; they never print. A `Screen` shows them, and the front
end answers those that ask.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


class Output:
    """What a command yields."""


@dataclass(frozen=True)
class Say(Output):
    """A block for stdout: text, or anything that rich can draw."""

    content: "RenderableType"


@dataclass(frozen=True)
class Notice(Output):
    """One line for stderr, dimmed: figures, warnings, what was changed."""

    text: str


@dataclass(frozen=True)
class Mistake(Notice):
    """A line of a sourced file failed: a notice, and a script's exit code 1."""


@dataclass(frozen=True)
class TextStarted(Output):
    """A continuation begins: the prompt, shown dimmed before the new text."""

    prompt: str


@dataclass(frozen=True)
class TextDelta(Output):
    """New text that goes on right where the last delta ended."""

    delta: str


@dataclass(frozen=True)
class TextReplaced(Output):
    """The whole new text so far, in place of what was shown (beam search)."""

    text: str


@dataclass(frozen=True)
class TextEnded(Output):
    """The continuation is complete; what follows starts on a new line."""


@dataclass(frozen=True)
class Live(Output):
    """A block redrawn in place by the next `Live`; the last one stays.

    Where there is no terminal only the last of a run is shown.
    """

    content: "RenderableType"


@dataclass(frozen=True)
class Ask(Output):
    """A question; the loop sends back the answer, or `None` at end of input."""

    question: str


@dataclass(frozen=True)
class AskKey(Output):
    """One key, without Enter; the loop sends back the character, or the name of what
    is none (`enter`, `backspace`, `left`, `tab`, `escape`), or `None` at the end of
    input. A live block before it is redrawn in place by the next one."""


@dataclass(frozen=True)
class AskEditor(Output):
    """Text to edit in $EDITOR; the loop sends back the text, or `None`."""

    text: str


@dataclass(frozen=True)
class SwitchModel(Output):
    """Load another checkpoint; the loop sends back its `EngineInfo`, or raises
    `CheckpointError` into the command and keeps the old one."""

    directory: str


@dataclass(frozen=True)
class ClearScreen(Output):
    """Clear the terminal, if there is one."""


@dataclass(frozen=True)
class Quit(Output):
    """Leave the program."""


FRAME_S = 1 / 12


class Pace:
    """Tells when the next frame is due; never where no terminal shows it.

    Between two frames there is as much time as the first one took to draw, so that what
    comes meanwhile does not pile up behind large frames.
    """

    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._begun: float | None = None  # of the frame that was drawn last
        self._due = 0.0

    def is_due(self) -> bool:
        """Whether to draw a frame now, before anything else is asked."""
        now = time.monotonic()
        if self._begun is not None:
            self._due = now + max(FRAME_S, now - self._begun)
            self._begun = None
        if not self._is_terminal or now < self._due:
            return False
        self._begun = now
        return True
