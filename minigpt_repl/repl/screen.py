"""Shows outputs on a terminal: texts as they stream, tables, blocks redrawn in place.

The model's words and what commands say go to stdout, notices dimmed to stderr; both are
the same terminal as a rule.
"""

import io
import threading
import time
from collections.abc import Callable
from os import terminal_size
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
    from rich import live
    from rich.console import RenderableType

CLEAR_SCREEN = "\x1b[H\x1b[2J"
LONGEST_PROMPT = 1 / 3
"""Part of the screen that the prompt may take when it is shown again."""


class Screen:
    """A terminal of the `size` that it has now: texts go to `out`, notices to `err`.

    If it `can_move`, it understands escape sequences. Colours are not allowed at first.
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
        return self._block is None

    @property
    def width(self) -> int:
        """Columns of the terminal now."""
        return self._size().columns

    def show(self, output: Output) -> None:
        """Show an output that asks for nothing back."""
        if not isinstance(output, TextDelta | TextReplaced | Live):
            self.finish()
        match output:
            case TextDelta(delta):
                self._text().append(delta)
            case TextReplaced(text):
                self._text().replace(text)
            case Live(content):
                self._show_live(content)
            case TextStarted(prompt):
                self._text().start(self._end_of(prompt))
            case Say(content):
                self._say(content)
            case Notice(text):
                self.notice(text)
            case ClearScreen() if self._can_move:
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
        rows = self._wrapped(text)
        self._err.write("".join(f"{on}{row}{off}\n" for row in rows))
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
            rows = self._wrapped(content)
        else:
            rows = self._render(content)
        self._write("".join(f"{row}\n" for row in rows))

    def _wrapped(self, text: str) -> list[str]:
        text = on_terminal(text)
        rows = wrap(text, self.width - 1) if self._can_move else [text]
        return [row.rstrip() for row in rows]

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
        draw(content, drawn, size.columns, size.lines, self.color)
        return drawn.getvalue().removesuffix("\n").split("\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


DELAY = 0.25


class Spinner:
    """Shows that work goes on, after `DELAY` seconds without any output.

    The `label` tells what the wait is for, and is asked for each frame; it is `None`
    where the terminal can't take anything back, so that nothing is shown.
    """

    def __init__(self, err: TextIO, label: Callable[[], str] | None) -> None:
        self._err = err
        self._label = label
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._live: live.Live | None = None

    def __enter__(self) -> "Spinner":
        self.resume()
        return self

    def __exit__(self, *error: object) -> None:
        self.hold()

    def hold(self) -> None:
        """Take the line away, if it is there; none is drawn until `resume`."""
        if self._timer is None:
            return
        with self._lock:
            self._timer.cancel()
            self._timer = None
            live, self._live = self._live, None
        if live is not None:
            live.stop()

    def resume(self) -> None:
        """The wait begins again; the cursor is at the start of a line."""
        self.hold()
        if self._label is not None:
            started = (self._label, time.monotonic())
            self._timer = threading.Timer(DELAY, self._show, started)
            self._timer.daemon = True
            self._timer.start()

    def _show(self, label: Callable[[], str], since: float) -> None:
        """Runs in the timer's thread."""
        from rich import live
        from rich.console import Console
        from rich.spinner import Spinner as Frames

        console = Console(file=self._err, force_terminal=True, color_system=None)
        frames = Frames("line" if console.options.ascii_only else "dots")

        def draw() -> Frames:
            seconds = int(time.monotonic() - since)
            tail = f" ({seconds} s)" if seconds else ""
            frames.update(text=f"{label()}{tail}")
            return frames

        with self._lock:
            if self._timer is threading.current_thread():
                # `rich.status` would take over stdout and stderr while it is shown.
                self._live = live.Live(
                    console=console,
                    get_renderable=draw,
                    refresh_per_second=10,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._live.start()
