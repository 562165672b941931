"""What a long stage of the training tells whoever watches it.

The stages know this interface only; a terminal display is one implementation.
"""

from typing import Protocol


class Progress(Protocol):
    """Watches stages that come one after another."""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """A stage begins.

        Args:
            stage: what is done, in a word or two, such as `"download"`.
            total: how many units there will be, or `None` if nobody knows.
            unit: what is counted: `"bytes"`, `"lines"`, `"words"`, `"steps"`.
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


class SilentProgress:
    """Shows nothing."""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """See `Progress`."""

    def advance(self, done: int, **figures: float | str) -> None:
        """See `Progress`."""

    def finish(self) -> None:
        """See `Progress`."""

    def say(self, text: str) -> None:
        """See `Progress`."""
