"""How long work is shown: a live panel on a terminal, plain lines elsewhere.

Implements `Progress` for every stage alike, downloads as well as training. Writes
to stderr: stdout stays free. Knows terminals; nothing of corpora or models.
"""

import time
from collections.abc import Callable
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_EVERY = 20.0
"""Seconds between the plain lines of a stage."""

_UNITS = {"bytes": (1e6, "MB")}


def make_progress(
    stream: TextIO, color: bool | None = None
) -> "LiveProgress | PlainProgress":
    """The display that suits a stream.

    Args:
        stream: usually stderr.
        color: `False` for none on a terminal either; `None` to follow `NO_COLOR`.
    """
    console = Console(file=stream, no_color=None if color is None else not color)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveProgress(console)
    return PlainProgress(stream)


class _Stage:
    """What is known of the stage that runs."""

    def __init__(self, name: str, total: int | None, unit: str, now: float) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.began = now
        self.done = 0
        # A resumed stage begins where it was: its rate counts from there.
        self.first: tuple[int, float] | None = None
        self.figures: dict[str, float | str] = {}

    def advance(self, done: int, figures: dict[str, float | str], now: float) -> None:
        if self.first is None:
            self.first = (done, now)
        self.done = done
        self.figures = figures

    def counts(self) -> str:
        """`done/total unit` in readable numbers."""
        scale, unit = _UNITS.get(self.unit, (1, self.unit))
        digits = 1 if scale > 1 else 0
        done = f"{self.done / scale:,.{digits}f}"
        if self.total is None:
            return f"{done} {unit}"
        return f"{done}/{self.total / scale:,.{digits}f} {unit}"

    def rate(self, now: float) -> float:
        """Units a second."""
        if self.first is None or now <= self.first[1]:
            return 0.0
        return (self.done - self.first[0]) / (now - self.first[1])

    def tempo(self, now: float) -> str:
        """Rate and time left, as far as they are known."""
        scale, unit = _UNITS.get(self.unit, (1, self.unit))
        figures, parts = self.figures, []
        if "tokens_per_second" in figures:
            parts.append(f"{figures['tokens_per_second']:,.0f} tokens/s")
        elif self.rate(now):
            rate = self.rate(now) / scale
            parts.append(f"{rate:,.{0 if rate >= 100 else 1}f} {unit}/s")
        left = figures.get("seconds_left")
        if left is None and self.total is not None and self.rate(now):
            left = (self.total - self.done) / self.rate(now)
        if isinstance(left, (int, float)) and left < float("inf"):
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def results(self) -> str:
        """Loss, perplexity and the like."""
        formats = {
            "step": ("step", "{:,.0f}"),
            "loss": ("loss", "{:.3f}"),
            "val_perplexity": ("validation perplexity", "{:.2f}"),
            "learning_rate": ("rate", "{:.2e}"),
        }
        parts = []
        for name, value in self.figures.items():
            if name in ("tokens_per_second", "seconds_left"):
                continue
            if name == "step" and self.unit == "steps":
                continue
            label, form = formats.get(name, (name.replace("_", " "), "{}"))
            parts.append(f"{label} {form.format(value)}")
        return ", ".join(parts)


class PlainProgress:
    """A line a few times a minute, for logs and pipes. No escape sequences.

    Args:
        stream: where the lines go.
        clock: seconds that only grow.
    """

    def __init__(
        self, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._stage: _Stage | None = None
        self._shown = 0.0

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """See `Progress`."""
        self._stage = _Stage(stage, total, unit, self._clock())
        self._shown = self._clock()
        self.say(f"{stage}: started")

    def advance(self, done: int, **figures: float | str) -> None:
        """See `Progress`."""
        if self._stage is None:
            return
        now = self._clock()
        self._stage.advance(done, figures, now)
        if now - self._shown >= PLAIN_EVERY:
            self._shown = now
            self._line(now)

    def finish(self) -> None:
        """See `Progress`."""
        if self._stage is not None:
            now = self._clock()
            took = duration(now - self._stage.began)
            self.say(f"{self._stage.name}: {self._stage.counts()}, done in {took}")
            self._stage = None

    def say(self, text: str) -> None:
        """See `Progress`."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left open."""
        self._stage = None

    def _line(self, now: float) -> None:
        stage = self._stage
        assert stage is not None  # only called while one runs
        parts = [stage.counts(), stage.results(), stage.tempo(now)]
        self.say(f"{stage.name}: {', '.join(part for part in parts if part)}")


class LiveProgress:
    """A bar with its figures, drawn anew a few times a second.

    Args:
        console: a terminal.
        clock: seconds that only grow.
    """

    def __init__(
        self, console: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._clock = clock
        self._stage: _Stage | None = None
        self._live: Live | None = None

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """See `Progress`."""
        self.close()
        self._stage = _Stage(stage, total, unit, self._clock())
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=4,
            transient=True,
        )
        self._live.start()

    def advance(self, done: int, **figures: float | str) -> None:
        """See `Progress`."""
        if self._stage is not None:
            self._stage.advance(done, figures, self._clock())

    def finish(self) -> None:
        """See `Progress`."""
        stage = self._stage
        self.close()
        if stage is not None:
            took = duration(self._clock() - stage.began)
            self.say(f"{stage.name}: {stage.counts()}, done in {took}")

    def say(self, text: str) -> None:
        """See `Progress`."""
        self._console.print(Text(text))

    def close(self) -> None:
        """Take the panel away, so that an error is read on a clean line."""
        if self._live is not None:
            self._live.stop()
        self._live = None
        self._stage = None

    def _render(self) -> Any:
        stage, now = self._stage, self._clock()
        if stage is None:
            return Text("")
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=stage.total, completed=stage.done, width=30)
        # With no total the bar would claim something.
        bar_cell = bar if stage.total else Text("")
        head.add_row(Text(stage.name, style="bold"), bar_cell, Text(stage.counts()))
        lines = [text for text in (stage.results(), stage.tempo(now)) if text]
        return Group(head, *(Text(f"  {line}", style="dim") for line in lines))


def duration(seconds: float) -> str:
    """`4.2s`, `3m05s` or `2h07m`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
