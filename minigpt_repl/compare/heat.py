"""Surprisal as colour: five levels, the same in the terminal and in HTML.

Where there is no colour, every token is followed by its surprisal as a digit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

LEVELS = (1.0, 3.0, 6.0, 10.0)
"""Bits at which the next level begins."""

LEVEL_NAMES = (
    "under 1 bit",
    "1 to 3",
    "3 to 6",
    "6 to 10",
    "10 bits or more",
)
STYLES = ("green", "cyan", "yellow", "magenta", "bold red")
"""From the terminal's own palette, so that they suit a dark and a light one."""


def level(bits: float) -> int:
    """0 for a token that was expected, up to 4 for one that was not."""
    return sum(bits >= bound for bound in LEVELS)


def digit(bits: float) -> str:
    """Whole bits, at most 9."""
    return str(min(9, int(bits)))


@dataclass(frozen=True)
class HeatView:
    """A text by the surprisal of its tokens, with a legend.

    Attributes:
        prompt: what stands before it.
        pieces: display form of each token, with the space before it.
        bits: surprisal of each token.
    """

    prompt: str
    pieces: Sequence[str]
    bits: Sequence[float]

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        has_color = console.color_system is not None and not console.no_color
        text = Text(self.prompt, style="dim")
        for piece, bits in zip(self.pieces, self.bits, strict=True):
            if has_color:
                text.append(piece, style=f"not dim {STYLES[level(bits)]}")
            else:
                text.append(f"{piece}{digit(bits)}")
        yield text
        yield Text("")
        yield (
            legend()
            if has_color
            else Text(
                "the digit after a token is its surprisal in bits; 9 is 9 or more"
            )
        )


def legend() -> Text:
    """What the colours say."""
    text = Text("surprisal ", style="dim")
    for name, style in zip(LEVEL_NAMES, STYLES, strict=True):
        text.append("■ ", style=f"not dim {style}")
        text.append(f"{name}  ", style="not dim default")
    return text
