"""Shows outputs: texts as they stream, tables, blocks redrawn in place.

The model's words and what commands say go to stdout, notices to stderr. On a terminal a
text is wrapped between words and rewritten as little as possible; where nothing can be
taken back, as in a pipe, it is written as it comes.
"""

import io
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from itertools import cycle
from os import terminal_size
from typing import TYPE_CHECKING, TextIO

from prompt_toolkit.utils import get_cwidth

from minigpt_repl.repl.output import (
    ClearScreen,
    Live,
    Notice,
    Output,
    Say,
    TextDelta,
    TextReplaced,
    TextStarted,
)
from minigpt_repl.shown import shown

if TYPE_CHECKING:
    from rich.console import RenderableType

    from minigpt_repl.engine.request import Engine

CLEAR_LINE = "\x1b[K"
CLEAR_BELOW = "\x1b[J"
CLEAR_SCREEN = "\x1b[H\x1b[2J"
UP = "\x1b[{}A"
DIM = ("\x1b[2m", "\x1b[22m")
RED = ("\x1b[31m", "\x1b[39m")
PLAIN = ("", "")

LONGEST_PROMPT = 1 / 3
"""Part of the screen that the prompt may take when it is shown again."""


class Screen:
    """Where outputs are shown: texts go to `out`, notices to `err`.

    The `size` is asked for with every output. If it `can_move`, it is a terminal that
    understands escape sequences. Colours are not allowed at first. `label` is for the
    `spinner`, which moves between outputs as long as it is entered.
    """

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        size: Callable[[], terminal_size],
        can_move: bool = True,
        label: Callable[[], str] | None = None,
    ) -> None:
        self._out = out
        self._err = err
        self._size = size
        self._can_move = can_move
        self.spinner = Spinner(err, label)
        self.color = False
        self._prompt = ""
        self._is_pending = False  # whether the prompt is shown with what comes next
        self._text: TextBlock | None = None
        self._live: Callable[[], list[str]] | None = None
        self._live_rows: list[str] = []

    @property
    def width(self) -> int:
        """Columns that there are now."""
        return self._size().columns

    def show(self, output: Output) -> None:
        """Show an output that asks for nothing back."""
        self.spinner.hold()
        if not isinstance(output, TextDelta | TextReplaced | Live):
            self.finish()
        match output:
            case TextStarted(prompt):
                self._prompt, self._is_pending = prompt, True
            case TextDelta(delta):
                self._add(delta)
            case TextReplaced(text):
                self._is_pending = False
                self._show_live(lambda: self._text_rows(text))
            case Live(content):
                self._show_live(lambda: self._render(content))
            case Say(content):
                self._say(content)
            case Notice(text):
                self.notice(text)
            case ClearScreen() if self._can_move:
                self._write(CLEAR_SCREEN)
        if self._text is None:
            self.spinner.resume()

    def finish(self) -> None:
        """End a text or a live block that is still open: the cursor goes to the
        start of a new line."""
        if self._is_pending:
            self._add("")
        if self._text is not None:
            self._text = None
            self._write("\n")
        if self._live is not None:
            rows, self._live = self._live(), None
            if not self._can_move or len(rows) >= self._size().lines:
                self._redraw(rows)  # while it was live, only its end was shown
            self._live_rows = []

    def notice(self, text: str, is_error: bool = False) -> None:
        """One line beside the model's words."""
        self.finish()
        on, off = PLAIN if not self.color else RED if is_error else DIM
        rows = self._wrapped(text, self._err)
        self._err.write("".join(f"{on}{row}{off}\n" for row in rows))
        self._err.flush()

    def end_of(self, prompt: str) -> str:
        """A prompt, or its end if it would fill the screen: it was just typed."""
        size = self._size()
        most = max(1, int(size.lines * LONGEST_PROMPT))
        rows = wrap(on_terminal(prompt), size.columns - 1)
        if len(rows) <= most:
            return prompt
        return f"[{len(rows) - most} lines above]\n" + "".join(rows[-most:])

    def _add(self, delta: str) -> None:
        """More of a text, which begins with its prompt if there is none."""
        prompt = self._prompt if self._is_pending else ""
        self._is_pending = False
        if self._text is None:
            self.finish()
            self._text = TextBlock(self._size, DIM if self.color else PLAIN)
        if not self._can_move:
            self._write(shown(prompt + delta))
            return
        begun = self._text.append(prompt, is_prompt=True) if prompt else ""
        self._write(begun + self._text.append(delta))

    def _text_rows(self, text: str) -> list[str]:
        """The rows of the prompt and a text after it."""
        if not self._can_move:
            return [shown(self._prompt + text)]
        block = TextBlock(self._size, DIM if self.color else PLAIN)
        drawn = block.append(self._prompt, is_prompt=True) + block.append(text)
        return drawn.split("\n")

    def _say(self, content: "RenderableType") -> None:
        if isinstance(content, str):
            rows = self._wrapped(content, self._out)
        else:
            rows = self._render(content)
        self._write("".join(f"{row}\n" for row in rows))

    def _wrapped(self, text: str, stream: TextIO) -> list[str]:
        if not (self._can_move and stream.isatty()):
            return [shown(text)]
        return [row.rstrip() for row in wrap(on_terminal(text), self.width - 1)]

    def _show_live(self, draw: Callable[[], list[str]]) -> None:
        if self._text is not None:
            self.finish()
        self._live = draw
        if self._can_move:
            self._redraw(draw()[-(self._size().lines - 1) :])

    def _redraw(self, rows: list[str]) -> None:
        """Write rows over those of the live block, from the first that differs."""
        old = self._live_rows
        same = 0
        while same < min(len(old), len(rows)) and old[same] == rows[same]:
            same += 1
        up = min(len(old) - same, self._size().lines - 1)
        move = UP.format(up) if up else ""
        # Row by row, and what is left below at the end: tmux takes a screen that is
        # cleared from its corner for one to be kept, above what is written then.
        clear, rest = (CLEAR_LINE, CLEAR_BELOW) if old else ("", "")
        new = "".join(f"{clear}{row}\n" for row in rows[same:])
        self._write(move + new + rest)
        self._live_rows = rows

    def _render(self, content: "RenderableType") -> list[str]:
        from minigpt_repl.repl.tables import draw

        size, drawn = self._size(), io.StringIO()
        height = size.lines if self._can_move else None
        draw(content, drawn, size.columns, height, self.color)
        return drawn.getvalue().removesuffix("\n").split("\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


class TextBlock:
    """A text that grows at the cursor of a terminal: tells what to write for it. The
    terminal's size is asked for with every change.

    Args:
        dim: what is written before and after the prompt.
    """

    def __init__(
        self, size: Callable[[], terminal_size], dim: tuple[str, str] = PLAIN
    ) -> None:
        self._size = size
        self._dim = dim
        self._columns = size().columns
        self._row = ""  # the one that the cursor is at the end of
        self._grey = 0  # how many of its characters are the prompt's

    def append(self, delta: str, is_prompt: bool = False) -> str:
        """What shows more of the text; the row that it ends in may be written anew."""
        columns = self._size().columns
        if columns != self._columns:
            self._columns = columns
            # The terminal has broken a row that is too long now, anywhere.
            self._row = _cut(self._row, columns)[-1]
        text = self._row + on_terminal(delta)
        grey = len(text) if is_prompt else self._grey
        # The last column is left free: there, terminals differ in what comes next.
        rows, there = wrap(text, columns - 1), self._fitted(self._row)
        is_kept = self._fitted(rows[0]).startswith(there)
        done = len(there) if is_kept else 0
        parts = []
        for row in rows:
            parts.append(self._paint(self._fitted(row)[done:], grey - done))
            self._row, self._grey = row, max(grey, 0)
            grey, done = grey - len(row), 0
        return ("" if is_kept else f"\r{CLEAR_LINE}") + "\n".join(parts)

    def _fitted(self, row: str) -> str:
        """What is on the screen of a row: spaces may hang over its edge."""
        row = row.rstrip("\n")
        return row if get_cwidth(row) < self._columns else row.rstrip()

    def _paint(self, row: str, grey: int) -> str:
        """What to write for a row whose first `grey` characters are the prompt's."""
        if grey <= 0 or not row:
            return row
        on, off = self._dim
        return f"{on}{row[:grey]}{off}{row[grey:]}"


_PIECES = re.compile(r"\n|[^\S\n]+|\S+")
_NARROWEST = 4


def on_terminal(text: str) -> str:
    """As `shown`; a tab, which is as wide as where it stands, becomes an indent."""
    return shown(text.replace("\t", "    "))


def wrap(text: str, columns: int) -> list[str]:
    """Rows of at most `columns` columns, broken at spaces where that is possible.

    Put together, the rows are the text: each keeps the line end or the spaces that
    it ends in, and the last of those spaces may hang over the edge.
    """
    columns = max(columns, _NARROWEST)
    rows, column = [""], 0
    for piece in _PIECES.findall(text):
        if piece == "\n":
            rows[-1] += piece
            rows.append("")
            column = 0
            continue
        width = get_cwidth(piece)
        if column + width > columns and not piece.isspace():
            if column:
                rows.append("")
                column = 0
            *full, piece = _cut(piece, columns)
            for part in full:
                rows[-1] += part
                rows.append("")
            width = get_cwidth(piece)
        rows[-1] += piece
        column += width
    return rows


def _cut(text: str, columns: int) -> list[str]:
    """Parts of a text that are as wide as can be, broken anywhere."""
    parts, width = [""], 0
    for character in text:
        width += get_cwidth(character)
        if width > columns and parts[-1]:
            parts.append("")
            width = get_cwidth(character)
        parts[-1] += character
    return parts


DELAY, FRAME_S = 0.25, 0.1
FRAMES, ASCII_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "-\\|/"


class Spinner:
    """Shows that work goes on, after `DELAY` seconds without any output.

    The `label` tells what the wait is for, and is asked for each frame; it is `None`
    where the terminal can't take anything back, so that nothing is shown.
    """

    def __init__(self, err: TextIO, label: Callable[[], str] | None) -> None:
        self._err = err
        self._label = label
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Spinner":
        self.resume()
        return self

    def __exit__(self, *error: object) -> None:
        self.hold()

    def hold(self) -> None:
        """Take the line away, if it is there; none is drawn until `resume`."""
        if self._thread is not None:
            self._is_over.set()
            self._thread.join()
            self._thread = None

    def resume(self) -> None:
        """The wait begins again; the cursor is at the start of a line."""
        self.hold()
        if self._label is not None:
            self._is_over.clear()
            turning = threading.Thread(target=self._turn, args=(self._label,))
            self._thread = turning
            turning.daemon = True
            turning.start()

    def _turn(self, label: Callable[[], str]) -> None:
        """Runs in the thread."""
        since = time.monotonic()
        encoding = getattr(self._err, "encoding", None) or "utf-8"
        frames = FRAMES if encoding.lower().startswith("utf") else ASCII_FRAMES
        if self._is_over.wait(DELAY):
            return
        for frame in cycle(frames):
            seconds = int(time.monotonic() - since)
            line = f"{frame} {label()}" + (f" ({seconds} s)" if seconds else "")
            most = shutil.get_terminal_size().columns - 1
            self._write(f"\r{line[:most]}{CLEAR_LINE}")
            if self._is_over.wait(FRAME_S):
                break
        self._write(f"\r{CLEAR_LINE}")

    def _write(self, text: str) -> None:
        self._err.write(text)
        self._err.flush()


WORK = {
    "starting": "starting the engine",
    "loading": "loading the model",
    "warming": "warming up the samplers",
}
"""What an engine is at, by its state."""


def work_of(engine: "Engine") -> str:
    """What an engine is at, in words for a spinner."""
    return WORK.get(engine.status.state, "working")


def make_screen(
    color: str = "never",
    has_objects: bool = False,
    work: Callable[[], str] = lambda: "working",
) -> Screen:
    """Where there is no terminal to read from: the standard streams.

    While a command is at work a spinner tells a person at what, since TensorFlow alone
    takes seconds. Where stdout `has_objects` for a program, all else goes to stderr.
    """
    out = sys.stderr if has_objects else sys.stdout
    is_terminal = out.isatty() and not is_dumb(os.environ)
    # A terminal on one side only is none, and gets no escape byte of the spinner.
    sides = (sys.stdin, sys.stdout, sys.stderr)
    is_seen = is_terminal and all(side.isatty() for side in sides) and not has_objects
    screen = Screen(
        out,
        sys.stderr,
        shutil.get_terminal_size,
        can_move=is_terminal,
        label=(lambda: f"{work()}; ^C stops") if is_seen else None,
    )
    screen.color = wants_color(color, os.environ, out.isatty())
    return screen


def wants_color(
    setting: str, environment: Mapping[str, str], is_terminal: bool
) -> bool:
    """Whether to colour: `always` and `never` as set, `auto` by where it goes.

    https://no-color.org: a `NO_COLOR` that is not empty means no colour.
    """
    if setting != "auto":
        return setting == "always"
    if not is_terminal or environment.get("NO_COLOR"):
        return False
    return not is_dumb(environment)


def is_dumb(environment: Mapping[str, str]) -> bool:
    """Whether the terminal can do no more than print."""
    return environment.get("TERM", "dumb").lower() in ("dumb", "unknown", "")
