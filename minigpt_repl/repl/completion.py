"""What may come next on the line: pure, without a terminal.

Whatever stands on the line, it answers at once, raises nothing and does not wait for
the model. A `Completer` gives every word that could stand where the last word of
`typed` stands.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from minigpt_repl.errors import MiniGPTError
from minigpt_repl.repl.context import Context
from minigpt_repl.repl.dispatch import all_commands, find_command
from minigpt_repl.repl.tables import all_keys
from minigpt_repl.sampling import chain
from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.parameters import Parameter, format_value
from minigpt_repl.sampling.presets import DEFAULTS
from minigpt_repl.sampling.registry import (
    SamplerSpec,
    all_names,
    all_samplers,
    find_sampler,
)
from minigpt_repl.settings import Settings


@dataclass(frozen=True)
class Candidate:
    """Something to insert.

    Attributes:
        text: what takes the place of the line from `start` to the cursor.
        start: index in the line.
        meaning: one line on it; may be empty.
    """

    text: str
    start: int
    meaning: str = ""


def complete(line_before_cursor: str, context: Context) -> list[Candidate]:
    """Candidates for the word before the cursor; none in a prompt."""
    line = line_before_cursor
    if not line.startswith(":") or "\n" in line:
        return []
    name, space, typed = line[1:].partition(" ")
    if not space:
        return [
            Candidate(command.name, 1, command.summary)
            for command in all_commands()
            if command.name.startswith(name)
        ]
    with suppress(MiniGPTError):
        offer = find_command(name).complete
        if offer is not None:
            is_setting = offer in (setting_words, assignment_words)
            return [
                Candidate(word, start, _meaning(word, context, is_setting))
                for word, start in _going_on(offer(context, typed), typed, len(line))
            ]
    return []


def _going_on(
    words: Iterable[str], typed: str, cursor: int
) -> Iterable[tuple[str, int]]:
    """The words that go on from all that was typed, or from its last word."""
    argument = typed.lstrip()
    last = "" if not typed or typed[-1].isspace() else typed.split()[-1]
    for word in words:
        if argument and word.startswith(argument):
            yield word, cursor - len(argument)
        elif word.startswith(last):
            yield word, cursor - len(last)


def _meaning(word: str, context: Context, is_setting: bool) -> str:
    """What a word stands for: a command, a setting or a sampler."""
    name = word.removesuffix("=")
    if name in DEFAULTS:
        return f"what {name} does by default"
    if is_setting:
        with suppress(MiniGPTError):
            return context.session.settings.parameter(name).help
    if summary := summary_of(name):
        return summary
    for command in all_commands():
        if command.name == name:
            return command.summary
    with suppress(MiniGPTError):
        return context.session.settings.parameter(name).help
    return ""


def summary_of(strategy: str) -> str:
    """What a sampler, or the last rule of a chain, does; empty if it is none."""
    *_, name = strategy.rpartition("+")
    with suppress(MiniGPTError):
        sampler = find_sampler(name)
        return STAGES[name].summary if sampler.stages else sampler.summary
    return ""


_WHOLE_NUMBERS = ("1", "2", "3", "5", "10", "20", "40", "50", "80", "100", "200", "500")
_NUMBERS = ("0", "0.1", "0.3", "0.5", "0.6", "0.7", "0.8", "0.9", "0.95", "1", "1.2")
MOST_FILES = 200


def sampler_words(context: Context, typed: str) -> Iterable[str]:
    """Names of samplers, and of rules for a chain."""
    return all_names()


def setting_words(context: Context, typed: str) -> Iterable[str]:
    """Names of settings, and `sampler`."""
    return ("sampler", *all_keys(context.session.settings))


def assignment_words(context: Context, typed: str) -> Iterator[str]:
    """For `:set`: a name, the value after a name, or the value in `name=`."""
    return _assignments(context.session.settings, typed)


def switch_words(context: Context, typed: str) -> Iterator[str]:
    """For `:sampler`: a sampler, then its parameters and their values."""
    settings = context.session.settings
    before, plus, part = typed.rpartition("+")
    if plus:
        # Without a space before it a stage is the end of a longer word.
        *_, last = f" {typed}".split(" ")
        glued = last.removesuffix(part) if "+" in last else ""
        words = stage_words(settings, part.lstrip(), stages_in(before))
        yield from (f"{glued}{word}" for word in words)
        return
    name, space, rest = typed.lstrip().partition(" ")
    if space:
        with suppress(MiniGPTError):
            after, _ = settings.set({"sampler": name})
            yield from _assignments(after, rest, find_sampler(name))
    elif re.search("[=:]", name):
        yield from spec_words(settings, name)
    else:
        yield from sampler_words(context, typed)
        yield from DEFAULTS


def spec_words(settings: Settings, word: str) -> Iterator[str]:
    """A strategy of a comparison: `top_k:k=10,temperature=0.8`, or `min_p+xtc`."""
    before, plus, part = word.rpartition("+")
    name, colon, rest = word.partition(":")
    if plus or "=" in name or _is_rule_only(name):
        for each in stage_words(settings, part, stages_in(before)):
            yield f"{before}{plus}{each}"
    elif not colon:
        yield from all_names()
    else:
        with suppress(MiniGPTError):
            yield from _pairs(settings, f"{name}:", rest, find_sampler(name).parameters)


def stage_words(
    settings: Settings, typed: str, taken: Collection[str]
) -> Iterator[str]:
    """A stage of a chain, its main value behind `=` or its parameters behind `:`.

    The rules that are `taken` are in the chain already; each can be there once.
    """
    found = re.search("[=:]", typed)
    if found is None:
        yield from (name for name in STAGES if name not in taken)
        return
    stage = chain.find_stage(typed[: found.start()])
    if stage is None or not stage.parameters:
        return
    head, rest = typed[: found.end()], typed[found.end() :]
    if found[0] == "=":
        yield from (f"{head}{v}" for v in value_words(stage.parameters[0], settings))
    else:
        yield from _pairs(settings, head, rest, stage.parameters)


def _pairs(
    settings: Settings, head: str, typed: str, parameters: Iterable[Parameter]
) -> Iterator[str]:
    """What may stand behind `NAME:`, a parameter or its value, with all before it."""
    *done, pair = typed.split(",")
    head += "".join(f"{each}," for each in done)
    key, equals, _ = pair.partition("=")
    for parameter in parameters:
        if not equals:
            yield f"{head}{parameter.name}="
        elif key == parameter.name:
            for value in value_words(parameter, settings):
                yield f"{head}{key}={value}"


def stages_in(typed: str) -> set[str]:
    """Names of the rules in what was typed of a chain."""
    parts = (re.split("[=:]", part)[0].strip() for part in typed.split("+"))
    return {stage.name for part in parts if (stage := chain.find_stage(part))}


def _is_rule_only(name: str) -> bool:
    """Whether it is a rule of a chain and no sampler by itself."""
    stage = chain.find_stage(name)
    return stage is not None and bool(find_sampler(stage.name).stages)


def file_words(
    context: Context, typed: str, only_folders: bool = False
) -> Iterator[str]:
    """Files and folders that start with what was typed; folders end in a slash."""
    from prompt_toolkit.completion import CompleteEvent, PathCompleter
    from prompt_toolkit.document import Document

    typed = typed.lstrip("\"'")
    folder, slash, start = typed.rpartition("/")
    completer = PathCompleter(only_directories=only_folders, expanduser=True)
    names = (
        completion.display_text  # unlike its text, a folder's has a slash
        for completion in completer.get_completions(Document(typed), CompleteEvent())
    )
    shown = (n for n in names if start.startswith(".") or not n.startswith("."))
    for name in islice(shown, MOST_FILES):
        yield f"{folder}{slash}{name}"


def value_words(parameter: Parameter, settings: Settings) -> Iterator[str]:
    """Values worth offering for a parameter: all of a few, some of many."""
    if parameter.kind is bool:
        yield from ("on", "off")
        return
    if parameter.kind is str:
        for word in parameter.choices:
            with suppress(MiniGPTError):  # the checkpoint may not allow it
                settings.set({parameter.name: word})
                yield word
        return
    numbers = _WHOLE_NUMBERS if parameter.kind is int else _NUMBERS
    default = [] if parameter.default is None else [format_value(parameter.default)]
    for text in dict.fromkeys((*default, *numbers)):
        with suppress(MiniGPTError):
            parameter.parse(text, settings.limits)
            yield text
    if parameter.optional:
        yield "off"


def _assignments(
    settings: Settings, typed: str, spec: SamplerSpec | None = None
) -> Iterator[str]:
    words = typed.split()
    last = "" if not words or typed[-1].isspace() else words.pop()
    name, equals, _ = last.partition("=")
    is_waiting = False  # whether the last word is a name whose value comes next
    for word in words:
        is_waiting = not is_waiting and "=" not in word
    if equals:
        yield from (f"{name}={value}" for value in _values(settings, name))
    elif is_waiting:
        yield from _values(settings, words[-1])
    elif spec is not None:
        yield from (f"{name}=" for name in spec.parameter_names)
    else:
        yield from ("sampler", *all_keys(settings))


def _values(settings: Settings, name: str) -> Iterator[str]:
    if name == "sampler":
        yield from (spec.name for spec in all_samplers())
        return
    with suppress(MiniGPTError):
        yield from value_words(settings.parameter(name), settings)
