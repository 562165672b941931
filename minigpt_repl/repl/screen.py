"""Shows outputs on a terminal: texts as they stream, tables, blocks redrawn in place.

The model's words and what commands say go to stdout, notices dimmed to stderr;
both are the same terminal as a rule. Knows neither commands nor the engine.
"""

import io
import threading
import time
from collections.abc import Callable
from os import terminal_size
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from minigpt_repl.repl.output import (
    DIM,
    PLAIN,
    RED,
    ClearScreen,
    Live,
    Notice,
    Output,
    Say,
    TextDelta,
    TextReplaced,
    TextStarted,
)
from minigpt_repl.repl.wrapping import (
    CLEAR_BELOW,
    CLEAR_LINE,
    UP,
    TextBlock,
    on_terminal,
    wrap,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

CLEAR_SCREEN = "\x1b[H\x1b[2J"
LONGEST_PROMPT = 1 / 3
"""Part of the screen that the prompt may take when it is shown again."""


class Screen:
    """A terminal to show outputs on.

    Args:
        out: gets texts and tables.
        err: gets notices.
        size: the terminal's size now.
        can_move: whether the terminal understands escape sequences at all.

    Attributes:
        color: whether colours are allowed; not at first.
    """

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        size: Callable[[], terminal_size],
        can_move: bool = True,
    ) -> None:
        self._out = out
        self._err = err
        self._size = size
        self._can_move = can_move
        self.color = False
        self._block: TextBlock | None = None
        self._live: RenderableType | None = None
        self._live_rows: list[str] = []

    @property
    def is_at_line_start(self) -> bool:
        """Whether the cursor is at the start of a line."""
        return self._block is None

    @property
    def encoding(self) -> str:
        """How notices are encoded."""
        return getattr(self._err, "encoding", None) or "utf-8"

    @property
    def width(self) -> int:
        """Columns of the terminal now."""
        return self._size().columns

    def show(self, output: Output) -> None:
        """Show an output that asks for nothing back."""
        match output:
            case TextDelta(delta):
                self._text().append(delta)
                return
            case TextReplaced(text):
                self._text().replace(text)
                return
            case Live(content):
                self._show_live(content)
                return
        self.finish()
        match output:
            case TextStarted(prompt):
                self._text().start(self._end_of(prompt))
            case Say(content):
                self._say(content)
            case Notice(text):
                self.notice(text)
            case ClearScreen():
                if self._can_move:
                    self._write(CLEAR_SCREEN)

    def finish(self) -> None:
        """End a text or a live block that is still open: the cursor goes to the
        start of a new line."""
        if self._block is not None:
            self._block.end()
            self._block = None
        if self._live is not None:
            content, self._live = self._live, None
            rows = self._render(content)
            if not self._can_move or len(rows) >= self._size().lines:
                self._redraw(rows)  # while it was live, only its end was shown
            self._live_rows = []

    def notice(self, text: str, is_error: bool = False) -> None:
        """One line beside the model's words."""
        self.finish()
        on, off = PLAIN if not self.color else RED if is_error else DIM
        columns = self.width - 1
        rows = [row.rstrip() for row in wrap(on_terminal(text), columns)]
        if not self._can_move:
            rows = [on_terminal(text)]
        self._err.write("".join(f"{on}{row}{off}\n" for row in rows))
        self._err.flush()

    def write_over(self, text: str) -> None:
        """Write to where notices go, as it is."""
        self._err.write(text)
        self._err.flush()

    def _text(self) -> TextBlock:
        if self._block is None:
            self.finish()
            dim = DIM if self.color else PLAIN
            self._block = TextBlock(self._write, self._size, dim, self._can_move)
        return self._block

    def _end_of(self, prompt: str) -> str:
        """The prompt, or its end if it would fill the screen: it was just typed."""
        size = self._size()
        most = max(1, int(size.lines * LONGEST_PROMPT))
        rows = wrap(on_terminal(prompt), size.columns - 1)
        if len(rows) <= most:
            return prompt
        return f"[{len(rows) - most} lines above]\n" + "".join(rows[-most:])

    def _say(self, content: "RenderableType") -> None:
        if isinstance(content, str):
            content = on_terminal(content)
            rows = wrap(content, self.width - 1) if self._can_move else [content]
            self._write("".join(f"{row.rstrip()}\n" for row in rows))
        else:
            self._write("".join(f"{row}\n" for row in self._render(content)))

    def _show_live(self, content: "RenderableType") -> None:
        if self._block is not None:
            self.finish()
        self._live = content
        if self._can_move:
            rows = self._render(content)
            self._redraw(rows[-(self._size().lines - 1) :])

    def _redraw(self, rows: list[str]) -> None:
        """Write rows over those of the live block, from the first that differs."""
        old = self._live_rows
        same = 0
        while same < min(len(old), len(rows)) and old[same] == rows[same]:
            same += 1
        up = min(len(old) - same, self._size().lines - 1)
        move = (UP.format(up) if up else "") + CLEAR_BELOW if old else ""
        self._write(move + "".join(f"{row}\n" for row in rows[same:]))
        self._live_rows = rows

    def _render(self, content: "RenderableType") -> list[str]:
        from minigpt_repl.repl.drawing import draw

        size, drawn = self._size(), io.StringIO()
        draw(content, drawn, size.columns, size.lines, self.color)
        return drawn.getvalue().removesuffix("\n").split("\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


DELAY = 0.25
PERIOD = 0.1
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PLAIN_FRAMES = "|/-\\"


class Spinner:
    """Shows that work goes on, after `DELAY` seconds without any output.

    Args:
        write: writes to the terminal; the cursor is at the start of a line.
        label: what the wait is for, asked again for each frame.
        columns: of the terminal now; a line that is too long could not be erased.
        frames: characters shown one after another.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        label: Callable[[], str],
        columns: Callable[[], int],
        frames: str = FRAMES,
    ) -> None:
        self._write = write
        self._label = label
        self._columns = columns
        self._frames = frames
        self._lock = threading.Lock()
        self._waiting_since: float | None = None
        self._is_drawn = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._turn, daemon=True)

    def __enter__(self) -> "Spinner":
        self.resume()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self.hold()

    def hold(self) -> None:
        """Take the line away, if it is there; none is drawn until `resume`."""
        with self._lock:
            self._waiting_since = None
            if self._is_drawn:
                self._is_drawn = False
                self._write(f"\r{CLEAR_LINE}")

    def resume(self) -> None:
        """The wait begins again; the cursor is at the start of a line."""
        self._waiting_since = time.monotonic()

    def _turn(self) -> None:
        count = 0
        while not self._done.wait(PERIOD):
            with self._lock:
                since = self._waiting_since
                if since is None or time.monotonic() - since < DELAY:
                    continue
                count += 1
                frame = self._frames[count % len(self._frames)]
                seconds = int(time.monotonic() - since)
                tail = f" ({seconds} s)" if seconds else ""
                line = f"{frame} {self._label()}{tail}"[: self._columns() - 1]
                self._is_drawn = True
                try:
                    self._write(f"\r{line}{CLEAR_LINE}")
                except OSError:  # the terminal has gone; the main thread is told
                    return
