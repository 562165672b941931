"""How far the training's long stages are: what they tell, and how it is shown.

The stages, downloads as well as training, know the interface of `Progress` only. On a
terminal it is shown as a bar, elsewhere as a plain line a few times a minute. It goes
to stderr: stdout stays free.
"""

import time
from collections.abc import Callable, Iterable

from rich import progress
from rich.console import Console, RenderableType
from rich.text import Text

from minigpt_repl.shown import as_perplexity, in_tokens_per_second, shown

PLAIN_EVERY = 20.0
"""Seconds between the plain lines of a stage."""

_UNITS = {"bytes": (1e6, "MB")}


class Progress:
    """Watches stages that come one after another. This one shows nothing of them."""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """A stage begins.

        Args:
            stage: what is done, in a word or two, such as `"download"`.
            total: how many units there will be, or `None` if nobody knows.
            unit: what is counted: `"bytes"`, `"lines"`, `"words"`, `"steps"`, `"%"`.
        """

    def advance(self, done: int, **figures: float | str) -> None:
        """`done` units are done by now, counted from the start of the stage.

        Args:
            done: absolute, not since the last call.
            **figures: what else is worth showing, such as `loss=4.2`.
        """

    def finish(self) -> None:
        """The stage has ended well."""

    def say(self, text: str) -> None:
        """A line of text that stays, such as a notice or a sample."""


SILENT = Progress()
"""For a stage that nobody watches."""


class Display(Progress):
    """Shows stages on a console: a bar on a terminal, plain lines elsewhere.

    Args:
        console: where to; no escape sequence is written if it is no terminal.
        clock: seconds that only grow.
    """

    def __init__(
        self, console: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._clock = clock
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._stage: _Stage | None = None
        self._bar: _Bar | None = None
        self._shown = 0.0

    def start(self, stage: str, total: int | None, unit: str) -> None:
        self.close()
        self._shown = self._clock()
        self._stage = _Stage(stage, total, unit, self._shown)
        if not self._is_live:
            self.say(f"{stage}: started")
            return
        self._bar = _Bar(
            progress.TextColumn("[bold]{task.description}"),
            progress.BarColumn(bar_width=30),
            progress.TextColumn("{task.fields[counts]}"),
            console=self._console,
            refresh_per_second=4,
            transient=True,
        )
        self._bar.add_task(stage, total=total, counts="", told=[])
        self._bar.start()

    def advance(self, done: int, **figures: float | str) -> None:
        stage, now = self._stage, self._clock()
        if stage is None:
            return
        stage.advance(done, figures, now)
        told = [part for part in (stage.results(), stage.tempo(now)) if part]
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0], completed=done, counts=stage.counts(), told=told
            )
        elif now - self._shown >= PLAIN_EVERY:
            self._shown = now
            self.say(f"{stage.name}: {', '.join([stage.counts(), *told])}")

    def finish(self) -> None:
        stage = self._stage
        self.close()
        if stage is not None:
            took = duration(self._clock() - stage.began)
            self.say(f"{stage.name}: {stage.counts()}, done in {took}")

    def say(self, text: str) -> None:
        """See `Progress`. A sample or the name of a file steers no terminal."""
        text = shown(text)
        if self._is_live:
            self._console.print(Text(text))
        else:  # not wrapped
            self._console.file.write(f"{text}\n")
            self._console.file.flush()

    def close(self) -> None:
        """Take the bar away, so that an error is read on a clean line."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._stage = None


class _Bar(progress.Progress):
    """A bar, and its figures in lines of their own below it."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            for line in task.fields["told"]:
                yield Text(f"  {line}", style="dim")


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
        """`done/total unit` in readable numbers, or `done%`."""
        if self.unit == "%":
            return f"{self.done}%"
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
            parts.append(in_tokens_per_second(float(figures["tokens_per_second"])))
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
        formats: dict[str, tuple[str, Callable[..., str]]] = {
            "step": ("step", "{:,.0f}".format),
            "loss": ("loss", "{:.3f}".format),
            "val_perplexity": ("validation perplexity", as_perplexity),
            "learning_rate": ("rate", "{:.2e}".format),
        }
        parts = []
        for name, value in self.figures.items():
            if name in ("tokens_per_second", "seconds_left"):
                continue
            if name == "step" and self.unit == "steps":
                continue
            label, form = formats.get(name, (name.replace("_", " "), str))
            parts.append(f"{label} {form(value)}")
        return ", ".join(parts)


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
