"""Runs the README's tour in a real terminal: its transcript and docs/session.svg.

`python scripts/tour.py` needs the extra `docs` (pexpect, pyte). What is shown is
what the screen of a pseudo-terminal held, so it can be made again.
"""

import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pexpect
import pyte
from readme import replaced
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PROMPT = "> "
QUIET = 1.0
"""Seconds without output after which a command has done its work."""

LIMIT = 300.0

TOUR = (
    (
        "Type a text and the model goes on. Greedy search always takes the most "
        "probable token:",
        (":sampler greedy", "the little boy"),
    ),
    (
        "The same prompt, but each token drawn from the ten most probable. A seed "
        "makes it repeatable:",
        (":sampler topk", ":set k 10 seed 7", ":again"),
    ),
    (
        "What does the model expect next, and what would each rule keep of it?",
        (":next 5",),
    ),
    ("Why was the sixth token of that text chosen?", (":why 6",)),
    (
        "Strategies side by side, same prompt and seed:",
        (":set length 30", ":compare greedy top_k:k=10 top_p:p=0.5"),
    ),
)
PICTURE = (
    "the old king",
    ":sampler top_p",
    ":set p 0.8 seed 3",
    "the old king",
    ":next 6",
)


class Session:
    """The program in a pseudo-terminal, and what its screen holds."""

    def __init__(self, home: str, width: int, height: int) -> None:
        self.screen = pyte.Screen(width, height)
        self.stream = pyte.ByteStream(self.screen)
        keep = {k: v for k, v in os.environ.items() if not k.startswith("MINIGPT_")}
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "minigpt_repl"],
            env={
                **keep,
                "HOME": home,
                "PYTHONPATH": str(ROOT),
                "TERM": "xterm-256color",
            },
            dimensions=(height, width),
        )
        # The toolbar is drawn only on terminals that say where their cursor is.
        self.screen.write_process_input = self.child.send
        self.wait_until("ready")

    def type(self, line: str) -> None:
        """Type a line and wait until its work is done."""
        self.child.send(line + "\r")
        time.sleep(QUIET / 2)
        self.wait_until(PROMPT)

    def wait_until(self, sign: str) -> None:
        """Read until output rests; the screen must then show `sign`."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            try:
                self.stream.feed(self.child.read_nonblocking(65536, timeout=QUIET))
            except pexpect.TIMEOUT:
                at_cursor = self.screen.display[self.screen.cursor.y]
                where = at_cursor if sign == PROMPT else "\n".join(self.screen.display)
                if sign in where:
                    return
            except pexpect.EOF:
                break
        sys.exit(
            f"the session never showed {sign!r}:\n" + "\n".join(self.screen.display)
        )

    def rows(self, first: int, last: int) -> str:
        """Text of some rows of the screen."""
        return "\n".join(row.rstrip() for row in self.screen.display[first:last])

    def close(self) -> None:
        """Leave as a user does."""
        self.child.sendeof()
        self.child.close()


def transcript(tour: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A tour in Markdown: words, then what was typed and what came."""
    parts = []
    with tempfile.TemporaryDirectory() as home:
        session = Session(home, width=80, height=400)
        for words, lines in tour:
            if not lines:
                parts += [words, ""]
                continue
            first = session.screen.cursor.y
            for line in lines:
                session.type(line)
            shown = session.rows(first, session.screen.cursor.y).strip("\n")
            parts += [words, "", "```", shown, "```", ""]
        session.close()
    return "\n".join(parts)


def picture(
    lines: Sequence[str],
    width: int = 100,
    height: int = 32,
    keys: Sequence[str] = (),
    sign: str = "",
) -> str:
    """An SVG of the screen after the lines were typed, and keys after the last one.

    Args:
        lines: what is typed.
        width: of the screen.
        height: of the screen.
        keys: pressed one by one behind the last line, which does not end by itself.
        sign: what the screen shows before each of them and at the end.
    """
    with tempfile.TemporaryDirectory() as home:
        session = Session(home, width, height)
        for line in lines[: -1 if keys else None]:
            session.type(line)
        if keys:
            session.child.send(lines[-1] + "\r")
            session.wait_until(sign)
        for key in keys:
            session.child.send(key)
            session.wait_until(sign)
        console = Console(record=True, width=width, file=io.StringIO())
        for row in range(height):
            line = Text()
            for column in range(width):
                cell = session.screen.buffer[row][column]
                line.append(cell.data, style=style(cell))
            console.print(line, no_wrap=True, overflow="crop")
        session.close()
    svg = console.export_svg(title="minigpt-repl")
    # rich's fonts would be fetched from elsewhere; any monospace one will do.
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def style(cell: pyte.screens.Char) -> str:
    """rich's words for a cell's attributes."""
    words = [color(cell.fg)]
    if cell.bg != "default":
        words.append(f"on {color(cell.bg)}")
    for attribute in ("bold", "italics", "reverse"):
        if getattr(cell, attribute):
            words.append(attribute.removesuffix("s"))
    return " ".join(word for word in words if word)


def color(name: str) -> str:
    """pyte's colour as rich names it; empty for the default."""
    if name == "default":
        return ""
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    plain = name.removeprefix("bright").replace("brown", "yellow")
    return f"bright_{plain}" if name.startswith("bright") else plain


if __name__ == "__main__":
    (ROOT / "docs" / "session.svg").write_text(picture(PICTURE), encoding="utf-8")
    README.write_text(
        replaced(
            README.read_text(encoding="utf-8"), README.name, "tour", transcript(TOUR)
        ),
        encoding="utf-8",
    )
