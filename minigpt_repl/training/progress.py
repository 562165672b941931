"""How far the training's long stages are: what they tell, and how it is shown.

The stages, downloads as well as training, know the interface of `Progress` only.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rich import progress
from rich.console import Console, RenderableType
from rich.text import Text

from minigpt_repl.shown import as_perplexity, in_tokens_per_second, shown

PLAIN_EVERY = 20.0
"""Seconds between the plain lines of a stage."""

FIGURES: dict[str, tuple[str, Callable[..., str]]] = {
    "step": ("step", "{:,.0f}".format),
    "loss": ("loss", "{:.3f}".format),
    "val_perplexity": ("validation perplexity", as_perplexity),
    "learning_rate": ("rate", "{:.2e}".format),
}
"""How figures of a stage are called and written, if not just as they come."""

TEMPO = ("tokens_per_second", "seconds_left")
"""Figures that tell how fast it goes."""

Item = TypeVar("Item")


class Progress:
    """Watches stages that come one after another. This one shows nothing of them."""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """A stage such as `"download"` begins.

        Args:
            stage: its name.
            total: how many units there will be, or `None` if nobody knows.
            unit: what is counted: `"bytes"`, `"lines"`, `"words"`, `"steps"`, `"%"`.
        """

    def advance(self, done: int, **figures: float) -> None:
        """`done` units are done since the start of the stage.

        Figures are what else is worth showing, such as `loss=4.2`.
        """

    def finish(self) -> None:
        """The stage has ended well."""

    def say(self, text: str) -> None:
        """A line of text that stays, such as a notice or a sample."""

    def blocks(
        self, stage: str, items: Sequence[Item], unit: str, size: int
    ) -> Iterator[Sequence[Item]]:
        """A stage that goes through items, so many at once."""
        self.start(stage, len(items), unit)
        for start in range(0, len(items), size):
            block = items[start : start + size]
            yield block
            self.advance(start + len(block))
        self.finish()


SILENT = Progress()
"""For a stage that nobody watches."""


class Display(Progress):
    """Shows stages on a console: a bar on a terminal, plain lines elsewhere."""

    def __init__(
        self, console: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._clock = clock
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._bar: _Bar | None = None
        self._shown = 0.0

    def start(self, stage: str, total: int | None, unit: str) -> None:
        self.close()
        self._shown = self._clock()
        self._bar = _Bar(
            progress.TextColumn("[bold]{task.description}"),
            progress.BarColumn(bar_width=30),
            progress.TextColumn("{task.fields[counts]}"),
            console=self._console,
            refresh_per_second=4,
            speed_estimate_period=float("inf"),  # a step may take a minute
            transient=True,
            get_time=self._clock,
            disable=not self._is_live,
        )
        scale, unit = (1e6, "MB") if unit == "bytes" else (1.0, unit)
        self._bar.add_task(
            stage, total=total, unit=unit, scale=scale, counts="", figures={}
        )
        self._bar.start()
        if not self._is_live:
            self.say(f"{stage}: started")

    def advance(self, done: int, **figures: float) -> None:
        if self._bar is None:
            return
        [task] = self._bar.tasks
        # Not by `update`, which would take no time for a first call that says 0. A
        # resumed stage begins where it was: rich counts its speed from there.
        self._bar.advance(task.id, done - task.completed)
        self._bar.update(task.id, counts=_counts(task), figures=figures)
        now = self._clock()
        if not self._is_live and now - self._shown >= PLAIN_EVERY:
            self._shown = now
            told = ", ".join([_counts(task), *_told(task)])
            self.say(f"{task.description}: {told}")

    def finish(self) -> None:
        if self._bar is None:
            return
        [task] = self._bar.tasks
        self.close()
        took = duration(task.elapsed or 0.0)
        self.say(f"{task.description}: {_counts(task)}, done in {took}")

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
        # Before version 14.1 of rich a disabled one would write an empty line.
        if self._bar is not None and not self._bar.disable:
            self._bar.stop()
        self._bar = None


class _Bar(progress.Progress):
    """A bar, and its figures in lines of their own below it.

    Without a terminal it is disabled: it draws nothing and keeps the figures.
    """

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            for line in _told(task):
                yield Text(f"  {line}", style="dim")


def _counts(task: progress.Task) -> str:
    """`done/total unit` in readable numbers, or `done%`."""
    unit, scale = task.fields["unit"], task.fields["scale"]
    if unit == "%":
        return f"{task.completed:.0f}%"
    digits = 1 if scale > 1 else 0
    done = f"{task.completed / scale:,.{digits}f}"
    if task.total is None:
        return f"{done} {unit}"
    return f"{done}/{task.total / scale:,.{digits}f} {unit}"


def _told(task: progress.Task) -> list[str]:
    """What is known besides: what came of it, how fast it goes."""
    return [line for line in (_results(task), _tempo(task)) if line]


def _results(task: progress.Task) -> str:
    """Loss, perplexity and the like."""
    parts = []
    for name, value in task.fields["figures"].items():
        if name not in TEMPO and name != task.fields["unit"].removesuffix("s"):
            label, form = FIGURES.get(name, (name.replace("_", " "), str))
            parts.append(f"{label} {form(value)}")
    return ", ".join(parts)


def _tempo(task: progress.Task) -> str:
    """Rate and time left, as far as they are known."""
    figures, speed, left = task.fields["figures"], task.speed, None
    parts = []
    if tokens_per_second := figures.get("tokens_per_second"):
        parts.append(in_tokens_per_second(tokens_per_second))
    elif speed:
        rate = speed / task.fields["scale"]
        digits = 0 if rate >= 100 else 1
        parts.append(f"{rate:,.{digits}f} {task.fields['unit']}/s")
    if speed and task.remaining is not None:
        left = task.remaining / speed
    left = figures.get("seconds_left", left)
    if left is not None and left < float("inf"):
        parts.append(f"{duration(left)} left")
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
