"""Commands that change settings: all of a change or nothing, and it is echoed."""

import re
from collections.abc import Iterable, Iterator

from minigpt_repl.errors import UsageError
from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.outputs import Notice, Say
from minigpt_repl.repl.tables import (
    origin_word,
    other_settings_table,
    samplers_table,
    settings_table,
)
from minigpt_repl.repl.words import assignment_words, setting_words, switch_words
from minigpt_repl.sampling.parameters import format_value
from minigpt_repl.settings import Change
from minigpt_repl.suggest import plain


@command("sampler", usage="[NAME [k=v ...]]", complete=switch_words)
def switch_sampler(desk: Desk, arguments: str) -> Steps:
    """Switch the sampler, or show all samplers with their parameters.

    Parameters may be set in the same line: `:sampler top_k k=5 temperature=0.8`.
    Each sampler keeps its own parameters while another is in use. `topk`, `top-k`
    and `top_k` are the same.
    """
    settings = desk.session.settings
    if not arguments:
        yield Say(samplers_table(settings))
        return desk.session
    name, *rest = arguments.split(maxsplit=1)
    pairs = read_assignments("".join(rest))
    if "sampler" in pairs:
        raise UsageError(":sampler NAME [k=v ...]: the sampler is named twice")
    after, changes = settings.set({"sampler": name, **pairs})
    values = after.parameters()
    now = " ".join(f"{key}={format_value(value)}" for key, value in values.items())
    before = settings.sampler.name
    switched = after.sampler.name
    if before != switched:
        switched = f"{before} -> {switched}"
    yield Notice(f"sampler: {switched}" + (f" ({now})" if now else ""))
    yield from map(Notice, describe_changes(changes[1:]))
    return desk.session.with_settings(after)


@command("set", usage="[NAME VALUE | NAME=VALUE ...]", complete=assignment_words)
def set_values(desk: Desk, arguments: str) -> Steps:
    """Change settings, or show every setting with its range.

    `:set k 10` and `:set k=10 temperature=0.8` are both understood; either all of
    a line holds or nothing is changed. A name alone shows that setting. `k` is the
    parameter of the sampler in use, `top_p.k` that of another.
    """
    settings = desk.session.settings
    if not arguments:
        yield Say(settings_table(settings))
        yield Say(other_settings_table(settings))
        return desk.session
    if len(arguments.split()) == 1 and "=" not in arguments:
        if arguments == "sampler":
            yield Say(samplers_table(settings))
        else:
            yield Say(settings_table(settings, [arguments]))
        return desk.session
    after, changes = settings.set(read_assignments(arguments))
    yield from map(Notice, describe_changes(changes))
    return desk.session.with_settings(after)


@command("unset", usage="NAME ...", complete=setting_words)
def unset_values(desk: Desk, arguments: str) -> Steps:
    """Take back what :set gave to settings; flag, config or default hold again."""
    after = desk.session.settings
    if not arguments:
        raise UsageError(":unset NAME: name a setting; :set shows them all")
    lines = []
    for name in arguments.split():
        key = name if name == "sampler" else after.key(name)
        after, change = after.unset(name)
        lines.append(f"{_arrow(change)} ({origin_word(after, key)})")
    yield from map(Notice, lines)
    return desk.session.with_settings(after)


@command("reset")
def reset(desk: Desk, arguments: str) -> Steps:
    """Take back everything that :set and :sampler changed."""
    before = desk.session.settings
    after = before.reset()
    changes = [
        Change(key, before.shown(key), after.shown(key))
        for key in before.names()
        if before.shown(key) != after.shown(key)
    ]
    yield from map(Notice, map(_arrow, changes))
    if not changes:
        yield Notice("nothing was set")
    return desk.session.with_settings(after)


def read_assignments(text: str) -> dict[str, str]:
    """Names and values of `k 10`, `k=10 p=0.9`, `k = 10 p 0.9`.

    Raises:
        UsageError: if a value is missing or a name comes twice.
    """
    values: dict[str, str] = {}
    for name, value in _pairs(re.sub(r"\s*=\s*", "=", text).split()):
        if not name or not value:
            what = f"{plain(name)} needs a value" if name else "a name is missing"
            raise UsageError(f"{what}: write :set NAME VALUE or :set NAME=VALUE ...")
        if name in values:
            raise UsageError(f"{plain(name)} is given twice")
        values[name] = value
    return values


def describe_changes(changes: Iterable[Change]) -> Iterator[str]:
    """A line for each change, and what a temperature of 0 means."""
    for change in changes:
        yield _arrow(change)
        if change.name.endswith("temperature") and change.after == 0:
            yield "temperature 0 means greedy: always the most probable token"


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        yield name, value if equals else next(remaining, "")


def _arrow(change: Change) -> str:
    before, after = format_value(change.before), format_value(change.after)
    if before == after:
        return f"{change.name}: {after}, as before"
    return f"{change.name}: {before} -> {after}"
