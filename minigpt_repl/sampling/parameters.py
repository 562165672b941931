"""Settings as data: a name, a type, a range, a default and a line of help.

Samplers own their parameters and the session owns its settings; both are described by
`Parameter`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from minigpt_repl.errors import UsageError
from minigpt_repl.shown import quoted

Value = int | float | str | bool | None
"""What a setting can hold; `None` means that it is off."""

Limits = Mapping[str, int]
"""Bounds that only the checkpoint knows, such as `{"vocabulary": 4911}`."""

OFF_WORDS = ("off", "none", "unset")
SWITCH = {
    **dict.fromkeys(("on", "true", "yes", "1"), True),
    **dict.fromkeys(("off", "false", "no", "0"), False),
}
MOST_BITS = 63
"""Of a whole number; a file may hold one that is too large to compare or to write."""


@dataclass(frozen=True)
class Parameter:
    """One setting and the values that it allows.

    Attributes:
        name: what the user types.
        kind: the type of its values: `int`, `float`, `str` or `bool`.
        default: the value that holds when nobody set another.
        help: one line, without a full stop at the end.
        minimum: smallest allowed number, or `None`.
        maximum: largest allowed number, the name of a limit, or `None`.
        exclusive_minimum: whether `minimum` itself is not allowed.
        choices: the allowed words of a `str` setting; empty for any text.
        optional: whether `off` is allowed, held as `None`.
        smallest: positive numbers below it are taken as 0, because arithmetic
            with them overflows.
        tokens: what words a `str` setting holds that a rule gets as token ids:
            `pushes`, `bans` or `breakers`; empty for any other.
        is_structural: whether a new value changes the shape of the decoding
            graph, so that the first use of each value costs a trace.
    """

    name: str
    kind: type
    default: Value
    help: str
    minimum: float | None = None
    maximum: float | str | None = None
    exclusive_minimum: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False
    smallest: float | None = None
    is_structural: bool = False
    tokens: str = ""

    @property
    def is_live(self) -> bool:
        """Whether a new value needs no new graph."""
        if self.tokens:
            return True
        if self.is_structural or self.kind not in (int, float):
            return False
        # "Off" stands for more than there can be of what only the model limits.
        return not self.optional or isinstance(self.maximum, str)

    def parse(self, text: str, limits: Limits | None = None) -> Value:
        """The value that a user typed.

        Raises:
            UsageError: if the text is of the wrong type or out of range.
        """
        word = text.strip()
        if self.optional and word.lower() in OFF_WORDS:
            return None
        try:
            value = SWITCH[word.lower()] if self.kind is bool else self.kind(word)
        except (KeyError, ValueError):
            raise self._error(text, limits) from None
        return self.check(value, limits)

    def check(self, value: Value, limits: Limits | None = None) -> Value:
        """The same value, if it is allowed.

        Raises:
            UsageError: if it is of the wrong type or out of range.
        """
        if value is None and self.optional:
            return None
        if type(value) is int and value.bit_length() > MOST_BITS:
            raise self._error(value, limits)
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind or not self._is_in_range(value, limits):
            raise self._error(value, limits)
        if isinstance(value, float) and 0 < value < (self.smallest or 0):
            return 0.0
        return value

    def _is_in_range(self, value: Value, limits: Limits | None) -> bool:
        if isinstance(value, str):
            return not self.choices or value in self.choices
        assert value is not None
        low, high = self.minimum, self._maximum(limits)
        if low is not None and (
            value < low or (self.exclusive_minimum and value == low)
        ):
            return False
        is_below = high is None or isinstance(high, str) or value <= high
        return is_below and math.isfinite(value)

    def allowed(self, limits: Limits | None = None) -> str:
        """The allowed values in words, such as `a whole number 1..4911`."""
        if self.kind is bool:
            words = "on or off"
        elif self.kind is str:
            words = ", ".join(self.choices) or "text"
        else:
            noun = "a whole number" if self.kind is int else "a number"
            words = f"{noun} {self.range_text(limits)}".rstrip()
        return f"{words}, or off" if self.optional else words

    def range_text(self, limits: Limits | None = None) -> str:
        """The range in short, such as `1..4911`, `0 < p <= 1`; may be empty."""
        low, high = self.minimum, self._maximum(limits)
        if low is None:
            return "" if high is None else f"{self.name} <= {_bound(high)}"
        if self.exclusive_minimum:
            right = "" if high is None else f" <= {_bound(high)}"
            return f"{_bound(low)} < {self.name}{right}"
        return (
            f"{_bound(low)} or more"
            if high is None
            else f"{_bound(low)}..{_bound(high)}"
        )

    def _maximum(self, limits: Limits | None) -> float | str | None:
        """The highest allowed number, or the name of a limit that is not known."""
        if isinstance(self.maximum, str):
            return (limits or {}).get(self.maximum, self.maximum)
        return self.maximum

    def _error(self, got: object, limits: Limits | None = None) -> UsageError:
        return UsageError(
            f"{self.name} must be {self.allowed(limits)}; got {quoted(got)}"
        )


def format_value(value: Value) -> str:
    """A value as the user would type it."""
    if value is None:
        return "off"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def format_values(
    values: Mapping[str, Value], sep: str = " ", shows_off: bool = False
) -> str:
    """Values by their names, as the user would type them: `k=10 temperature=1`.

    Args:
        values: the values.
        sep: what stands between two.
        shows_off: whether what is off is there too.
    """
    return sep.join(
        f"{name}={format_value(value)}"
        for name, value in values.items()
        if shows_off or value is not None
    )


def _bound(bound: float | str) -> str:
    if isinstance(bound, str):
        return bound
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"
