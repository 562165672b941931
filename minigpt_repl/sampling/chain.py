"""Rules one after another: `min_p=0.05 + temperature=0.8`.

One grammar for the terminal, flags, files and programs: `STAGE (+ STAGE)*`, a stage
being `name`, `name=value`, which sets its main parameter, or `name:k=v,k=v`. Quotes
hold a value with spaces, `+` or commas together. A chain's parameters are named
`top_k` for a stage's main one and `xtc.threshold` for another.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

from minigpt_repl.errors import UsageError
from minigpt_repl.sampling import history, noise, shape, truncation
from minigpt_repl.sampling.parameters import Parameter, Value, format_value
from minigpt_repl.sampling.stage import Left, Stage
from minigpt_repl.shown import did_you_mean, quoted

_RULES = [
    rule
    for module in (truncation, shape, history)
    for rule in vars(module).values()
    if isinstance(rule, Stage)
]
STAGES: dict[str, Stage] = {
    rule.name: rule for rule in sorted(_RULES, key=lambda rule: rule.is_last)
}
"""Every rule of a chain by its name, in the order in which they are shown."""

SEPARATOR = " + "

CHANCE_TRIAL = 1 << 30
"""Number of the random number that a rule acts by; no draw gets as far."""

QUOTES = "\"'"


class Typed(NamedTuple):
    """A stage as it was typed: the value behind `=`, or the pairs behind `:`."""

    name: str
    main: str | None = None
    values: tuple[tuple[str, str], ...] = ()


def parse(text: str) -> tuple[Typed, ...]:
    """The stages of a chain, as they were typed.

    Raises:
        UsageError: if a name or a value is missing, or a quote is not closed.
    """
    return tuple(_stage(part.strip(), text) for part in split(text, "+"))


def split(text: str, at: str) -> list[str]:
    """A text cut at a character, not within quotes.

    Raises:
        UsageError: if a quote is not closed.
    """
    ends, quote = [-1], ""
    for place, letter in enumerate(text):
        if letter == at and not quote:
            ends.append(place)
        elif letter in QUOTES:
            quote = "" if letter == quote else quote or letter
    if quote:
        raise UsageError(f"a quote is not closed in {quoted(text)}")
    return [text[a + 1 : b] for a, b in pairwise([*ends, len(text)])]


def words(text: str) -> list[str]:
    """The words of a line; quotes hold one together, and stay.

    Raises:
        UsageError: if a quote is not closed.
    """
    spaced = re.sub(r"\s", " ", text)
    return [word for word in split(spaced, " ") if word]


def unquoted(text: str) -> str:
    """A value without the quotes around it."""
    if len(text) > 1 and text[0] in QUOTES and text[-1] == text[0]:
        return text[1:-1]
    return text


def _stage(part: str, text: str) -> Typed:
    found = re.search("[=:]", part)
    name = part[: found.start()].strip() if found else part
    if not name:
        raise UsageError(
            f"a chain is NAME=VALUE + NAME:K=V,K=V + ...; got {quoted(text)}"
        )
    if found is None:
        return Typed(name)
    rest = part[found.end() :]
    if found[0] == "=":
        return Typed(name, _value(rest, name))
    pairs = []
    for pair in split(rest, ","):
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(
                f"a strategy is SAMPLER:NAME=VALUE,...; got {quoted(part)}"
            )
        pairs.append((key.strip(), _value(value, key.strip())))
    return Typed(name, values=tuple(pairs))


def _value(text: str, name: str) -> str:
    text = text.strip()
    if not text:
        raise UsageError(f"{name} needs a value: write {name}=VALUE")
    return unquoted(text)


def plain(name: str) -> str:
    """A name as it is compared: case, `-` and `_` do not matter."""
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def find_stage(name: str) -> Stage | None:
    """The rule of a name, however it is spelled."""
    named = (stage for stage in STAGES.values() if plain(stage.name) == plain(name))
    return next(named, None)


def stages_of(names: Sequence[str]) -> tuple[Stage, ...]:
    """The rules of a chain.

    Raises:
        UsageError: for one that is unknown, named twice, or behind the last choice.
    """
    stages: list[Stage] = []
    for name in names:
        stage = find_stage(name)
        if stage is None:
            near = did_you_mean(name.replace("-", "_"), STAGES)
            raise UsageError(
                f"no rule {quoted(name)} for a chain: there are "
                f"{', '.join(STAGES)}{near}"
            )
        if stage in stages:
            raise UsageError(f"{stage.name} is in the chain twice")
        stages.append(stage)
    for stage, after in pairwise(stages):
        if stage.is_last:
            raise UsageError(
                f"{stage.name} chooses the token: {after.name} can't stand behind it"
            )
    return tuple(stages)


def parameters_of(stages: Sequence[Stage]) -> tuple[Parameter, ...]:
    """The parameters of a chain, each named by its stage."""
    return tuple(
        replace(parameter, name=_name(stage, parameter))
        for stage in stages
        for parameter in stage.parameters
    )


def find_name(stages: Sequence[Stage], name: str) -> str | None:
    """The full name of a parameter of a chain: of `p`, `min_p.p` and `min_p` alike.

    Raises:
        UsageError: if several stages have one of that name.
    """
    names = {
        f"{stage.name}.{parameter.name}": _name(stage, parameter)
        for stage in stages
        for parameter in stage.parameters
    }
    if name in names.values():
        return name
    found = [each for each in names if name in (each, each.partition(".")[2])]
    if len(found) > 1:
        raise UsageError(f"several stages have a {name}: write {' or '.join(found)}")
    return names[found[0]] if found else None


def own_values(stage: Stage, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of one stage by their own names, of those of its chain."""
    return {p.name: values[_name(stage, p)] for p in stage.parameters}


def _name(stage: Stage, parameter: Parameter) -> str:
    is_main = parameter is stage.parameters[0]
    return stage.name if is_main else f"{stage.name}.{parameter.name}"


def stage_text(stage: Stage, values: Mapping[str, Value]) -> str:
    """One stage as the user would type it: `xtc:probability=0.5,threshold=0.2`."""
    given: dict[str, str] = {}
    for p in stage.parameters:
        value = values.get(_name(stage, p), p.default)
        if not given or value != p.default:
            given[p.name] = _quoted(format_value(value))
    if not given:
        return stage.name
    if len(given) == 1:
        return f"{stage.name}={next(iter(given.values()))}"
    return f"{stage.name}:" + ",".join(f"{k}={v}" for k, v in given.items())


def _quoted(text: str) -> str:
    if not re.search(r"[\s+,'\"]", text):
        return text
    quote = "'" if '"' in text else '"'
    return f"{quote}{text}{quote}"


def steps(
    ns: Any,
    logits: Any,
    stages: Sequence[Stage],
    values: Mapping[str, Any],
    seen: Any,
    seeds: Any = None,
    end_id: int | None = None,
    learned: Any = 0.0,
) -> list[Left]:
    """What each stage of a chain leaves.

    Args:
        ns: `numpy` or `keras.ops`.
        logits: `(rows, vocabulary)`, from the model.
        stages: the rules.
        values: the chain's parameters: numbers, or arrays `(rows, 1)`; words as
            token ids, as the rules want them.
        seen: the tokens so far, int `(rows, length)`, at the end; before them -1.
        seeds: int `(rows, 2)`: the seed of a row and the number of its next token;
            without them a rule that acts at random acts, and the next token is
            the first.
        end_id: what ends a document.
        learned: what the last stage learned from its own choices; see `Stage`.
    """
    given = {"chance": 0.0, "made": 0, "end_id": end_id, "learned": learned}
    if seeds is not None:
        given["made"] = seeds[:, 1:]
        # The same wherever it is taken, so that chains are compared by one noise.
        if any("chance" in stage.needs for stage in stages):
            given["chance"] = noise.uniform(
                ns, seeds[:, :1], given["made"], CHANCE_TRIAL
            )
    left: list[Left] = []
    for stage in stages:
        left.append(stage.apply(ns, logits, own_values(stage, values), seen, given))
        logits = left[-1].logits
    return left
