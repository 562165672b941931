"""Commands that change settings, all of a change or nothing, or show what holds:
`:sampler`, `:set`, `:unset`, `:reset`, `:show`.
"""

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

from rich.text import Text

from minigpt_repl.compare.pieces import stats_line
from minigpt_repl.engine.inspection import bits
from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.engine.wording import Wording
from minigpt_repl.errors import CheckpointError, UsageError
from minigpt_repl.models.record import read_record
from minigpt_repl.paths import RECORD_FILE, known_checkpoints
from minigpt_repl.repl.completion import assignment_words, setting_words, switch_words
from minigpt_repl.repl.context import Context, Outputs, Steps
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Notice, Output, Say
from minigpt_repl.repl.tables import (
    NAME,
    STRONG,
    FittingTable,
    Row,
    facts_table,
    history_table,
    origin_word,
    origins_table,
    other_settings_table,
    rules_table,
    samplers_table,
    settings_table,
    stats_table,
)
from minigpt_repl.sampling import chain
from minigpt_repl.sampling.parameters import format_value, format_values
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.settings import Change, Settings
from minigpt_repl.shown import (
    as_perplexity,
    did_you_mean,
    in_bits,
    in_bits_a_byte,
    in_seconds,
    plain,
    quoted,
)


@command("sampler", usage="[NAME [k=v ...] | CHAIN]", complete=switch_words)
def switch_sampler(context: Context, arguments: str) -> Steps:
    """Switch the sampler, or show all samplers and rules with their parameters.

    Parameters may be set in the same line: `:sampler top_k k=5 temperature=0.8`.
    Each sampler keeps its own parameters while another is in use. `topk`, `top-k`
    and `top_k` are the same. Rules are stacked with `+` and apply from left to right:
    `:sampler top_k=50 + min_p=0.05 + temperature=0.8`; see `:chain`. `llama.cpp` and
    `transformers` are what those do by default.
    """
    settings = context.session.settings
    if not arguments:
        yield Say(samplers_table(settings))
        yield Say("")
        yield Say(rules_table(settings.limits))
        return context.session
    arguments = chain.unquoted(arguments)
    if "+" in arguments:
        after, _ = settings.set({"sampler": arguments})
        return (yield from switch_to_chain(context, after))
    name, *rest = chain.words(arguments)
    if len(rest) == 1 and "=" not in rest[0]:
        if rest[0] in find_sampler(name).parameter_names:
            raise UsageError(
                f"{rest[0]} needs a value: write :sampler {plain(name)} {rest[0]}=VALUE"
            )
        raise UsageError(
            f"{plain(rest[0])} is no NAME=VALUE: write :sampler {plain(name)}="
            f"{plain(rest[0])} for the main parameter, or name another"
        )
    pairs = read_assignments(" ".join(rest), ":sampler NAME k=v ...")
    if "sampler" in pairs:
        raise UsageError(":sampler NAME [k=v ...]: the sampler is named twice")
    after, changes = settings.set({"sampler": name, **pairs})
    if after.sampler.stages:
        return (yield from switch_to_chain(context, after))
    now = format_values(after.parameters(), shows_off=True)
    before = settings.sampler.name
    switched = after.sampler.name
    if before != switched:
        switched = f"{before} -> {switched}"
    elif not pairs:
        switched = f"{switched}, as before"
    told = f"sampler: {switched}" + (f" ({now})" if now else "")
    return (yield from _changed(context, after, told, *describe_changes(changes[1:])))


def switch_to_chain(context: Context, after: Settings) -> Steps:
    """Say which chain holds now, and have it compiled while nothing else is to do."""
    _check_words(context, after)
    before = context.session.settings
    was, now = (each.sampler.text(each.parameters()) for each in (before, after))
    told = f"{now}, as before" if was == now else f"{was} -> {now}"
    return (yield from _changed(context, after, f"sampler: {told}"))


def _changed(context: Context, after: Settings, *lines: str) -> Steps:
    """Tell what has changed."""
    yield from map(Notice, lines)
    prepare(context, after)
    return replace(context.session, settings=after)


@command("set", usage="[NAME VALUE | NAME=VALUE ...]", complete=assignment_words)
def set_values(context: Context, arguments: str) -> Steps:
    """Change settings, or show every setting with its range.

    `:set k 10` and `:set k=10 temperature=0.8` are both understood; either all of
    a line holds or nothing is changed. A name alone shows that setting. `k` is the
    parameter of the sampler in use, `top_p.k` that of another.
    """
    settings = context.session.settings
    if not arguments:
        yield Say(settings_table(settings))
        yield Say(other_settings_table(settings))
        return context.session
    if arguments == "sampler":
        yield Say(samplers_table(settings))
        return context.session
    if len(arguments.split()) == 1 and "=" not in arguments:
        yield Say(settings_table(settings, [arguments]))
        return context.session
    after, changes = settings.set(read_assignments(arguments))
    _check_words(context, after)
    return (yield from _changed(context, after, *describe_changes(changes)))


@command("unset", usage="NAME ...", complete=setting_words)
def unset_values(context: Context, arguments: str) -> Steps:
    """Take back what :set gave to settings; flag, config or default hold again."""
    after = context.session.settings
    if not arguments:
        raise UsageError(":unset NAME: name a setting; :set shows them all")
    lines = []
    for name in arguments.split():
        key = name if name == "sampler" else after.key(name)
        after, change = after.unset(name)
        lines.append(f"{_arrow(change)} ({origin_word(after, key)})")
    return (yield from _changed(context, after, *lines))


@command("reset")
def reset(context: Context, arguments: str) -> Steps:
    """Take back everything that :set and :sampler changed."""
    before = context.session.settings
    after = before.reset()
    lines = [*map(_arrow, before.changes_to(after))] or ["nothing was set"]
    return (yield from _changed(context, after, *lines))


def prepare(context: Context, after: Settings) -> None:
    """Let the engine compile what the next text needs, while the user types it."""
    was, now = (
        (each.sampler.name, each.parameters(), each.value("noise"))
        for each in (context.session.settings, after)
    )
    if was != now and context.is_terminal:
        context.engine.prepare(after.request(""))


def _check_words(context: Context, after: Settings) -> None:
    """Make sure that the model has the words that a chain names, if it names some."""
    spec, values = after.sampler, after.parameters()
    has_words = any(p.tokens and values[p.name] != p.default for p in spec.parameters)
    if has_words or any("end_id" in stage.needs for stage in spec.stages):
        engine = context.engine
        wording = Wording(engine.info.text, engine.encode)
        wording.values(spec, values, engine.info.vocabulary_size)


def read_assignments(
    text: str, usage: str = ":set NAME VALUE or :set NAME=VALUE ..."
) -> dict[str, str]:
    """Names and values of `k 10`, `k=10 p=0.9`, `k = 10 p 0.9`."""
    values: dict[str, str] = {}
    words = iter(chain.words(re.sub(r"\s*=\s*", "=", text)))
    for word in words:
        name, equals, value = word.partition("=")
        value = value if equals else next(words, "")
        if not name or not value:
            what = f"{plain(name)} needs a value" if name else "a name is missing"
            raise UsageError(f"{what}: write {usage}")
        if name in values:
            raise UsageError(f"{plain(name)} is given twice")
        values[name] = chain.unquoted(value)
    return values


def describe_changes(changes: Iterable[Change]) -> Iterator[str]:
    """A line for each change, and what a temperature of 0 means."""
    for change in changes:
        yield _arrow(change)
        if change.name.endswith("temperature") and change.after == 0:
            yield "temperature 0 means greedy: always the most probable token"


def describe_fitting(changes: Iterable[Change]) -> Iterator[str]:
    """A line for each setting that a model does not allow, and why."""
    reasons = {
        "stop": "not every model knows where a document ends",
        "sampler": "the model has no draft model",
    }
    for change in changes:
        why = reasons.get(change.name, "the model's vocabulary is smaller")
        yield f"{_arrow(change)}, {why}"


def _arrow(change: Change) -> str:
    before, after = format_value(change.before), format_value(change.after)
    if before == after:
        return f"{change.name}: {after}, as before"
    return f"{change.name}: {before} -> {after}"


SUBJECTS = ("settings", "model", "history", "stats")


@command("show", usage="settings|model|history|stats", complete=lambda *_: SUBJECTS)
def show(context: Context, arguments: str) -> Outputs:
    """Show the settings, the model, the texts so far or their figures.

    `settings` tells where each value came from: default, config, environment,
    flag or :set.
    """
    names = [name for name in SUBJECTS if arguments and name.startswith(arguments)]
    if len(names) != 1:
        got = f"got {quoted(arguments)}" if arguments else "got nothing"
        near = did_you_mean(arguments, SUBJECTS)
        allowed = ", ".join(SUBJECTS)
        raise UsageError(f":show takes one of {allowed}; {got}{near}")
    session, node = context.session, context.session.node
    match names[0]:
        case "settings":
            yield Say(origins_table(session.settings))
        case "model":
            yield from show_model(context)
        case "history" if session.nodes:
            yield Say(history_table(session, context.width))
        case "stats" if node is not None:
            yield Say(stats_table(session))
            yield Notice(f"text {node.id}: {stats_line(node.generation)}")
        case _:
            yield Notice("no texts yet: type a prompt")


def model_facts(info: EngineInfo) -> Iterator[tuple[str, str]]:
    """What there is to say of a loaded checkpoint, by name."""
    yield "folder", info.directory
    yield "checkpoint", info.checkpoint_sha256[:12]
    yield "parameters", f"{info.parameter_count:,}"
    yield "vocabulary", f"{info.vocabulary_size:,} words"
    yield "context", f"{info.context_length} tokens"
    yield "case", "lower case only" if info.lowercase else "kept"
    yield "draft model", "yes" if info.has_draft else "no"
    yield "loaded in", in_seconds(info.load_s)
    training = info.training
    for name, value in training.items():
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            yield _fact(name, value)
        elif name == "metrics" and isinstance(value, dict):
            # Where the last one was the best, its step is told already.
            is_last = value.get("step") == training.get("steps")
            left_out = ("step", "elapsed") if is_last else ()
            yield from (_fact(n, v) for n, v in value.items() if n not in left_out)


def _fact(name: str, value: object) -> tuple[str, str]:
    if name in FIGURES and _is_figure(value):
        heading, write = FIGURES[name]
        return heading, write(value)
    told = f"{value:.4g}" if isinstance(value, float) else plain(str(value))
    return name.replace("_", " "), told


def _is_figure(value: object) -> TypeGuard[float]:
    # A record may come from anyone: JSON has whole numbers that no float holds.
    return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max


FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "perplexity": ("perplexity", as_perplexity),
    "bits_per_byte": ("bits a byte", in_bits_a_byte),
    "steps": ("steps", "{:,.0f}".format),
    "step": ("best after step", "{:,.0f}".format),
    "elapsed": ("best after", in_seconds),
    "loss": ("loss", lambda nats: in_bits(bits(nats))),
    "wall_seconds": ("trained in", in_seconds),
}
"""The figures of a training, by their names in a record: name and form on the screen.
Those of the best evaluation are on held-out texts."""


def show_model(context: Context) -> Iterator[Output]:
    """The checkpoint that is loaded, then those that can be called by name."""
    info = context.engine.info
    yield Say(facts_table(model_facts(info)))
    if known_checkpoints():
        yield Say("")
        yield Say(checkpoints_table(info.directory))


def checkpoints_table(directory: str) -> FittingTable:
    """The checkpoints that can be called by name, the one in use marked."""
    rows: list[Row] = []
    for name, folder in known_checkpoints().items():
        is_current = folder == Path(directory)
        mark = Text("*" if is_current else " ", style=STRONG)
        try:
            record = read_record(folder)
            when = time.localtime((folder / RECORD_FILE).stat().st_mtime)
        except (CheckpointError, OSError):
            rows.append((mark, Text(name, style=NAME), "can't be read"))
            continue
        metrics = record.training.get("metrics")
        figures = metrics if isinstance(metrics, dict) else {}
        measured = [
            _fact(key, figures[key])[1] if _is_figure(figures.get(key)) else ""
            for key in ("perplexity", "bits_per_byte")
        ]
        date = time.strftime("%Y-%m-%d", when)
        count = f"{record.parameter_count:,}"
        rows.append((mark, Text(name, style=NAME), count, date, *measured))
    headings = ("", "name", "parameters", "date", "perplexity", "bits a byte")
    return FittingTable(headings, rows, right=" ".join(headings[2:]), whole=6)
