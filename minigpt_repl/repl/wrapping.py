"""Text that grows or changes on a terminal, wrapped between words.

`wrap` cuts a text into rows; `TextBlock` keeps a text on the screen in step with what
comes, rewriting as little as possible.
"""

import re
from collections.abc import Callable
from itertools import pairwise
from os import terminal_size

from prompt_toolkit.utils import get_cwidth

from minigpt_repl.shown import shown

CLEAR_LINE = "\x1b[K"
CLEAR_BELOW = "\x1b[J"
UP = "\x1b[{}A"

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


class TextBlock:
    """A prompt and the text that goes on from it, at the cursor.

    The terminal's size is asked for with every change; `dim` is written before and
    after the prompt. If the terminal can't move its cursor, nothing is wrapped or taken
    back, and only the last replacement is shown.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        size: Callable[[], terminal_size],
        dim: tuple[str, str] = ("", ""),
        can_move: bool = True,
    ) -> None:
        self._write = write
        self._size = size
        self._dim = dim
        self._can_move = can_move
        self._columns = size().columns
        # From the row on in which the new text begins. The rows end where the
        # cursor is.
        self._rows = [""]
        self._base = ""  # the prompt's part of the first of them
        self._before = 0  # characters in all rows but the last
        self._replacement: str | None = None

    def start(self, prompt: str) -> None:
        """Show the prompt."""
        prompt = on_terminal(prompt)
        rows = wrap(prompt, self._limit())
        self._base = rows[-1]
        self._rows = [rows[-1]]
        if not self._can_move:
            self._write(prompt)
            return
        self._write("\n".join(self._paint(row, len(row)) for row in rows))

    def append(self, delta: str) -> None:
        """Show more text, after what is there."""
        delta = on_terminal(delta)
        if not self._can_move:
            self._write(delta)
            return
        self._follow_resize()
        old = self._rows.pop()
        rows = wrap(old + delta, self._limit())
        grey = max(0, len(self._base) - self._before)
        if rows[0].startswith(old) and old == self._shown(old):
            done = len(old)
            painted = self._paint(rows[0][done:], max(0, grey - done), done)
        else:
            painted = f"\r{CLEAR_LINE}{self._paint(rows[0], grey)}"
        parts = [painted]
        for before, row in pairwise(rows):
            grey = max(0, grey - len(before))
            parts.append(self._paint(row, grey))
        self._rows += rows
        self._before += sum(map(len, rows[:-1]))
        self._write("\n".join(parts))

    def replace(self, text: str) -> None:
        """Show another text in place of all that came after the prompt."""
        text = on_terminal(text)
        if not self._can_move:
            self._replacement = text
            return
        self._follow_resize()
        old, new = self._rows, wrap(self._base + text, self._limit())
        if new == old:
            return
        same = 0
        while same < min(len(old), len(new)) - 1 and old[same] == new[same]:
            same += 1
        # What has scrolled off the screen can't be reached any more.
        while self._height(old[same:]) > self._size().lines and same < len(old) - 1:
            same += 1
        up = self._height(old[same:]) - 1
        grey = len(self._base) - sum(map(len, new[:same]))
        parts = []
        for row in new[same:]:
            parts.append(self._paint(row, max(0, grey)))
            grey -= len(row)
        move = UP.format(up) if up else ""
        self._write(f"{move}\r{CLEAR_BELOW}" + "\n".join(parts))
        self._rows = new
        self._before = sum(map(len, new[:-1]))

    def end(self) -> None:
        """Go to a new line; nothing more is added."""
        if self._replacement is not None:
            self._write(self._replacement)
        self._write("\n")

    def _limit(self) -> int:
        # The last column is left free: there, terminals differ in what comes next.
        return self._columns - 1

    def _follow_resize(self) -> None:
        columns = self._size().columns
        if columns == self._columns:
            return
        self._columns = columns
        row = self._rows[-1]
        if get_cwidth(row) > self._limit():
            # The terminal has broken this row anywhere; only its last part is on
            # the cursor's row now.
            self._rows[-1:] = _cut(row, columns)
            self._before += len(row) - len(self._rows[-1])

    def _height(self, rows: list[str]) -> int:
        """Rows of the terminal that these take up."""
        return sum(
            1 + (max(get_cwidth(self._shown(row)), 1) - 1) // self._columns
            for row in rows
        )

    def _shown(self, row: str) -> str:
        row = row.rstrip("\n")
        return row if get_cwidth(row) <= self._limit() else row.rstrip()

    def _paint(self, row: str, grey: int, before: int = 0) -> str:
        """What to write for a row, or for its part after `before` characters; the
        first `grey` characters are the prompt's."""
        row = row.rstrip("\n") if before else self._shown(row)
        if not grey:
            return row
        on, off = self._dim
        return f"{on}{row[:grey]}{off}{row[grey:]}"


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
