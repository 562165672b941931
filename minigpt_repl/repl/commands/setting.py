"""Commands that change settings, all of a change or nothing, and the chain in use:
`:sampler`, `:set`, `:unset`, `:reset`, `:chain`, `:load-preset`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from minigpt_repl.compare.choice import next_distribution, rulings, stage_columns
from minigpt_repl.compare.pieces import next_token_place
from minigpt_repl.compare.spec import Strategy, read_count
from minigpt_repl.engine import inspection
from minigpt_repl.engine.wording import Wording
from minigpt_repl.errors import UsageError
from minigpt_repl.files import read_user_file, user_path
from minigpt_repl.repl.completion import (
    assignment_words,
    file_words,
    setting_words,
    stage_words,
    switch_words,
    value_words,
)
from minigpt_repl.repl.context import Context, Steps, current_ids
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import Notice, Say
from minigpt_repl.repl.tables import (
    facts_table,
    origin_word,
    other_settings_table,
    rules_table,
    samplers_table,
    settings_table,
)
from minigpt_repl.sampling import chain
from minigpt_repl.sampling.parameters import format_value, format_values
from minigpt_repl.sampling.presets import read_preset
from minigpt_repl.sampling.registry import as_chain
from minigpt_repl.settings import Change, Settings
from minigpt_repl.shown import (
    did_you_mean,
    plain,
    quoted,
    shortened,
    shown_path,
)

LARGEST_PRESET = 1024 * 1024
"""Bytes of a preset that is read."""
CHAIN_USAGE = ":chain add STAGE [at N], :chain move STAGE N or :chain drop STAGE"


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
        return (yield from _switched_to(context, arguments))
    name, *rest = chain.words(arguments)
    usage = f":sampler {plain(name)}=VALUE or :sampler {plain(name)} NAME=VALUE ..."
    pairs = read_assignments(" ".join(rest), usage)
    if "sampler" in pairs:
        raise UsageError(f"the sampler is named twice: write {usage}")
    after, changes = settings.set({"sampler": name, **pairs})
    if after.sampler.stages:
        return (yield from changed(context, after, _chain_change(settings, after)))
    now = format_values(after.parameters(), shows_off=True)
    before = settings.sampler.name
    switched = after.sampler.name
    if before != switched:
        switched = f"{before} -> {switched}"
    elif not pairs:
        switched = f"{switched}, as before"
    told = f"sampler: {switched}" + (f" ({now})" if now else "")
    return (yield from changed(context, after, told, *describe_changes(changes[1:])))


def _switched_to(context: Context, text: str) -> Steps:
    """Use a chain from now on."""
    settings = context.session.settings
    after, _ = settings.set({"sampler": text})
    return (yield from changed(context, after, _chain_change(settings, after)))


def _chain_change(before: Settings, after: Settings) -> str:
    """Which chain holds now."""
    was, now = (each.sampler.text(each.parameters()) for each in (before, after))
    return f"sampler: {now}, as before" if was == now else f"sampler: {was} -> {now}"


def changed(context: Context, after: Settings, *lines: str) -> Steps:
    """Tell what has changed, and have compiled what is new while it is read.

    Raises:
        UsageError: if a chain names words that the model does not have.
    """
    spec, values = after.sampler, after.parameters()
    has_words = any(p.tokens and values[p.name] != p.default for p in spec.parameters)
    if has_words or any("end_id" in stage.needs for stage in spec.stages):
        engine = context.engine
        wording = Wording(engine.info.text, engine.encode)
        wording.values(spec, values, engine.info.vocabulary_size)
    yield from map(Notice, lines)
    before = context.session.settings
    is_same = (before.sampler, before.parameters()) == (spec, values)
    for stage in () if is_same else spec.stages:
        (main, *_) = stage.parameters or [None]
        if main is not None and main.tokens and values[stage.name] is None:
            yield Notice(f"{stage.name} has no words, so it does nothing: {main.help}")
    prepare(context, after)
    return replace(context.session, settings=after)


def prepare(context: Context, after: Settings) -> None:
    """Let the engine compile what the next text needs, while the user types it."""
    was, now = (
        (each.sampler.name, each.parameters(), each.value("noise"))
        for each in (context.session.settings, after)
    )
    if was != now and context.is_terminal:
        context.engine.prepare(after.request(""))


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
    elif arguments == "sampler":
        yield Say(samplers_table(settings))
    elif len(arguments.split()) == 1 and "=" not in arguments:
        yield Say(settings_table(settings, [arguments]))
    else:
        usage = ":set NAME VALUE or :set NAME=VALUE ..."
        after, changes = settings.set(read_assignments(arguments, usage))
        return (yield from changed(context, after, *describe_changes(changes)))
    return context.session


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
    return (yield from changed(context, after, *lines))


@command("reset")
def reset(context: Context, arguments: str) -> Steps:
    """Take back everything that :set and :sampler changed."""
    before = context.session.settings
    after = before.reset()
    lines = [*map(_arrow, before.changes_to(after))] or ["nothing was set"]
    return (yield from changed(context, after, *lines))


def read_assignments(text: str, usage: str) -> dict[str, str]:
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
    """A line for each setting that is another with a model, and why."""
    reasons = {
        "end": "this model knows where a document ends",
        "none": "this model does not know where a document ends",
        "sampler": "the model has no draft model",
    }
    for change in changes:
        key = change.after if change.name == "stop" else change.name
        why = reasons.get(str(key), "the model's vocabulary is smaller")
        yield f"{_arrow(change)}, {why}"


def _arrow(change: Change) -> str:
    before, after = format_value(change.before), format_value(change.after)
    if before == after:
        return f"{change.name}: {after}, as before"
    return f"{change.name}: {before} -> {after}"


@command("load-preset", usage="FILE", complete=file_words)
def load_preset(context: Context, arguments: str) -> Steps:
    """Use the chain of a preset file of SillyTavern or llama.cpp's server.

    It is JSON with names such as `temp` and `rep_pen`, or `temperature` and
    `repeat_penalty`. What is off there is left out; what is not known here is named.
    `:sampler llama.cpp` and `:sampler transformers` are what those do by default.
    """
    path = user_path(arguments, ":load-preset FILE")
    preset = read_preset(read_user_file(path, LARGEST_PRESET), shown_path(path))
    session = yield from _switched_to(context, as_chain(preset.text))
    if preset.unknown:
        names = shortened(", ".join(map(plain, preset.unknown)), 1000)
        yield Notice(f"not known here: {names}")
    return session


def chain_words(context: Context, typed: str) -> Iterator[str]:
    """For `:chain`: what to do, then the stage, its value and its place."""
    settings = context.session.settings
    has = [stage.name for stage in settings.sampler.stages]
    done = typed.split()
    last = "" if not done or typed[-1].isspace() else done.pop()
    match done:
        case []:
            yield from ("add", "move", "drop")
        case ["add"]:
            yield from stage_words(settings, last, has)
        case ["add", *_, "at"]:
            yield from map(str, range(1, len(has) + 2))
        case ["add", name, *value] if "at" not in value:
            stage = chain.find_stage(name)
            if stage is not None and stage.parameters and not value:
                yield from value_words(stage.parameters[0], settings)
            yield "at"
        case ["move" | "drop"]:
            yield from has
        case ["move", _]:
            yield from map(str, range(1, len(has) + 1))


@command(
    "chain",
    usage="[add STAGE [at N] | move STAGE N | drop STAGE]",
    complete=chain_words,
)
def show_chain(context: Context, arguments: str) -> Steps:
    """Show what each rule of the chain leaves of the next token, or rearrange it.

    The rules apply in this order, each to what the ones before it left. `:chain add
    typical_p=0.9 at 2` puts one in; `:chain move typical_p 1` and `:chain drop
    typical_p` do as they say, and `:undo` takes it back. `:sampler` lists
    the rules, `:set` changes their values.
    """
    settings = context.session.settings
    texts = _stages_of(settings)
    if arguments:
        before = settings.sampler.text(settings.parameters())
        text = chain.SEPARATOR.join(_edited(texts, arguments))
        session = yield from _switched_to(context, as_chain(text))
        edit = (len(session.nodes), before)
        return replace(session, edits=(*session.edits, edit))
    if not settings.sampler.stages:
        settings, _ = settings.set({"sampler": as_chain(chain.SEPARATOR.join(texts))})
    spec, values = settings.sampler, settings.parameters()
    ids, info = current_ids(context), context.engine.info
    logits = inspection.next_logits(context.engine, ids)
    place = inspection.next_place(ids, context.engine)
    made = list(rulings(Strategy(spec.name, values), logits, place))
    node = context.session.node
    where = next_token_place("" if node is None else node.text)
    yield Notice(f"{spec.text(values)}, {where}")
    for stage in spec.stages:
        if "chance" in stage.needs:
            yield Notice(f"{stage.name} acts now and then; it is shown as it acts")
    names = (chain.stage_text(stage, values) for stage in spec.stages)
    yield Say(
        facts_table(
            (f"{number} {name}", ruling.in_words(info))
            for number, (name, ruling) in enumerate(zip(names, made, strict=True), 1)
        )
    )
    yield Say("")
    yield Say(next_distribution(logits, stage_columns(made), info))
    return context.session


def undo_chain(context: Context) -> Steps:
    """Go back to the chain before the last edit."""
    *edits, (_, text) = context.session.edits
    session = yield from _switched_to(context, text)
    return replace(session, edits=tuple(edits))


def _stages_of(settings: Settings) -> list[str]:
    """The stages of the chain in use, each as the user would type it; of another
    sampler, the rules that it is made of."""
    spec, values = settings.sampler, settings.parameters()
    if spec.stages:
        return [chain.stage_text(stage, values) for stage in spec.stages]
    if spec.name not in chain.STAGES:
        raise UsageError(
            f"{spec.name} is no rule of a chain; write :sampler STAGE + STAGE ..."
        )
    texts = []
    # KerasHub's samplers apply the temperature first.
    if values.get("temperature", 1.0) != 1.0:
        texts.append(f"temperature={values['temperature']}")
    main = next(iter(chain.STAGES[spec.name].parameters), None)
    texts.append(spec.name if main is None else f"{spec.name}={values[main.name]}")
    for other in values.keys() - {"temperature", main and main.name}:
        if values[other] is not None:
            raise UsageError(
                f"{spec.name} with {other} is no chain: :set {other} off first"
            )
    return texts


def _edited(texts: list[str], arguments: str) -> list[str]:
    """The stages after `add`, `move` or `drop`."""
    names = [chain.parse(text)[0].name for text in texts]
    words, number = chain.words(arguments), None
    if words[-2:-1] == ["at"]:
        *words, _, number = words
    match words:
        case ["add", stage]:
            pass
        case ["add", name, value] if "=" not in value:
            stage = f"{name}={value}"  # `add typical_p 0.9`
        case ["move", name, number]:
            stage = texts.pop(_place_of(name, names))
        case ["drop", name] if len(texts) > 1:
            del texts[_place_of(name, names)]
            return texts
        case ["drop", _]:
            raise UsageError("a chain has at least one stage; :sampler NAME ends it")
        case _:
            raise UsageError(f"{CHAIN_USAGE}; got {quoted(arguments)}")
    added = chain.find_stage(chain.parse(stage)[0].name)
    if added is not None and added.name in names and words[0] == "add":
        raise UsageError(
            f"{added.name} is in the chain already: :set {added.name} VALUE changes "
            f"it, :chain move {added.name} N moves it"
        )
    count = len(texts) + 1
    if number is not None:
        place = read_count(number, count, "a place in the chain is")
    else:
        # Behind all that can be: nothing stands behind a stage that chooses the token.
        is_before = texts and _is_last(texts[-1]) and not _is_last(stage)
        place = count - 1 if is_before else count
    return [*texts[: place - 1], stage, *texts[place - 1 :]]


def _is_last(text: str) -> bool:
    """Whether a stage chooses the token."""
    stage = chain.find_stage(chain.parse(text)[0].name)
    return stage is not None and stage.is_last


def _place_of(name: str, names: Sequence[str]) -> int:
    """Where a stage stands, from 0, of its name or its number on the screen."""
    if name.isdecimal() and 1 <= int(name) <= len(names):
        return int(name) - 1
    for place, each in enumerate(names):
        if chain.plain(each) == chain.plain(name):
            return place
    has, near = ", ".join(names), did_you_mean(name, names)
    raise UsageError(f"the chain has no stage {quoted(name)}: it has {has}{near}")
