"""What a rule of a chain is: its function is the whole feature.

A rule makes of the logits of the next token, `(rows, vocabulary)`, other logits; what
it removes gets minus infinity. The same function serves numpy and compiled graphs: its
first argument is the array namespace, `numpy` or `keras.ops`. What it sees comes next
and says by its name what kind of rule it is:

- `shares`, truncation: probabilities, what earlier rules removed at 0; it answers which
  tokens it keeps, as bool.
- `logits`, shape.
- `logits, seen`, history: besides them the tokens so far, int `(rows, length)`, the
  last one at the end and -1 where there is none.

The others are its parameters, numbers or arrays `(rows, 1)`, float where they are not
whole.

A rule that would leave nothing leaves the most probable token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, NamedTuple

from minigpt_repl.sampling.parameters import Parameter

MINUS_INFINITY = float("-inf")

GIVEN = ("chance", "made", "end_id", "learned")
"""What a function may take besides, by these names: see `Stage.needs`."""


class Left(NamedTuple):
    """What a rule left: logits `(rows, vocabulary)`, and whether it would have left
    nothing, bool `(rows, 1)`."""

    logits: Any
    is_rescued: Any


@dataclass(frozen=True)
class Stage:
    """A rule that can be part of a chain.

    Attributes:
        name: what the user types.
        kind: `truncation`, `shape` or `history`; see the module.
        summary: one line, without a full stop.
        formula: the first paragraph of its function's docstring.
        story: the second one, three sentences for `:explain`.
        use: the last one: when to use the rule, and when not.
        origin: paper or program that it is from.
        parameters: the first one is the main one, which `name=value` sets.
        function: from the array namespace, what its kind sees, and its parameters.
        needs: what else its function takes, by name:
            `chance`: uniform numbers `(rows, 1)`, below which it is to act;
            `made`: new tokens so far, int `(rows, 1)`;
            `end_id`: what ends a document;
            `learned`: float `(rows, 1)`, what `learns` gave after the last token, at
            the beginning of a text 0.
        is_last: whether it chooses the token, so that none can stand behind it.
        is_random: whether it leaves a choice to chance.
        can_empty: whether it can remove all tokens.
        learns: of a rule that follows its own choices, from the array namespace,
            `learned`, the probability of the token that was chosen before the rule
            and behind it, each `(rows, 1)`, and its parameters: `learned` for the
            next token.
    """

    name: str
    kind: str
    summary: str
    story: str
    formula: str
    use: str
    origin: str
    parameters: tuple[Parameter, ...]
    function: Callable[..., Any]
    needs: tuple[str, ...]
    is_last: bool = False
    is_random: bool = True
    can_empty: bool = False
    learns: Callable[..., Any] | None = None

    def apply(
        self,
        ns: Any,
        logits: Any,
        values: dict[str, Any],
        seen: Any,
        given: dict[str, Any],
    ) -> Left:
        """What it leaves of logits `(rows, vocabulary)`.

        Args:
            ns: `numpy` or `keras.ops`.
            logits: from the model or the rule before.
            values: its parameters by name.
            seen: the tokens so far, as the module says.
            given: everything in `GIVEN`, by name.
        """
        values = {
            p.name: number(ns, values[p.name]) if p.kind is float else values[p.name]
            for p in self.parameters
        } | {name: given[name] for name in self.needs}
        if self.kind == "truncation":
            shares = probabilities(ns, logits)
            kept = self.function(ns, shares, **values) & (shares > 0)
            changed = ns.where(kept, logits, MINUS_INFINITY)
        elif self.kind == "history":
            changed = self.function(ns, logits, seen, **values)
        else:
            changed = self.function(ns, logits, **values)
        if not self.can_empty:  # to look costs as much as the rule
            return Left(changed, ns.zeros_like(logits[..., :1], dtype="bool"))
        is_left = ns.any(changed > MINUS_INFINITY, axis=-1, keepdims=True)
        only_best = ns.where(best(ns, logits), logits, MINUS_INFINITY)
        return Left(ns.where(is_left, changed, only_best), ns.logical_not(is_left))


def stage(
    summary: str, origin: str, *parameters: Parameter, **more: Any
) -> Callable[[Callable[..., Any]], Stage]:
    """Make a function the rule of its name; `more` is as for `Stage`."""

    def made(function: Callable[..., Any]) -> Stage:
        takes = signature(function).parameters
        kind = "shape"
        if "shares" in takes:
            kind = "truncation"
        elif "seen" in takes:
            kind = "history"
        return Stage(
            name=function.__name__,
            kind=kind,
            summary=summary,
            origin=origin,
            parameters=parameters,
            function=function,
            needs=tuple(name for name in takes if name in GIVEN),
            **told(function.__doc__ or ""),
            **more,
        )

    return made


def told(text: str) -> dict[str, Any]:
    """The formula, the story and the use: the paragraphs of a text."""
    formula, _, rest = text.partition("\n\n")
    story, _, use = rest.partition("\n\n")
    parts = {"formula": formula.removesuffix("."), "story": story, "use": use}
    return {name: " ".join(part.split()) for name, part in parts.items()}


def probabilities(ns: Any, logits: Any) -> Any:
    """softmax(logits) along the last axis."""
    weights = ns.exp(logits - ns.max(logits, axis=-1, keepdims=True))
    return weights / ns.sum(weights, axis=-1, keepdims=True)


def best(ns: Any, scores: Any) -> Any:
    """bool of the same shape: the highest score alone, of equal ones the lowest id."""
    # `argmax` takes XLA four times as long.
    ids = ns.arange(scores.shape[-1])
    is_highest = scores >= ns.max(scores, axis=-1, keepdims=True)
    first = ns.where(is_highest, ids, scores.shape[-1])
    return ids == ns.min(first, axis=-1, keepdims=True)


def entropy(ns: Any, shares: Any) -> Any:
    """-sum p ln p along the last axis, which stays with length 1."""
    terms = shares * ns.log(ns.where(shares > 0, shares, 1.0))
    return -ns.sum(terms, axis=-1, keepdims=True)


def number(ns: Any, value: Any) -> Any:
    """A parameter as a float of the namespace."""
    return ns.cast(value, "float32") if hasattr(ns, "cast") else value


def cast(ns: Any, value: Any, dtype: str) -> Any:
    """An array of another type."""
    return ns.cast(value, dtype) if hasattr(ns, "cast") else value.astype(dtype)


def share(name: str, default: float, help: str, **more: Any) -> Parameter:
    """A parameter from 0 to 1."""
    more = {"minimum": 0, "maximum": 1, **more}
    return Parameter(name, float, default, help, **more)
