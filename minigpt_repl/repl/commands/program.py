"""Commands about the program itself: `:help`, `:quit`, `:clear`, `:model`, `:show`."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

from rich.text import Text

from minigpt_repl.compare.pieces import stats_line
from minigpt_repl.engine.inspection import bits
from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.errors import CheckpointError, UsageError
from minigpt_repl.files import user_path
from minigpt_repl.glossary import find_entry, terms
from minigpt_repl.models.record import find_record, read_record
from minigpt_repl.paths import RECORD_FILE, find_checkpoint, known_checkpoints
from minigpt_repl.repl.commands.setting import describe_fitting
from minigpt_repl.repl.completion import file_words
from minigpt_repl.repl.context import Context, Outputs, Steps
from minigpt_repl.repl.dispatch import Command, all_commands, command, find_command
from minigpt_repl.repl.output import ClearScreen, Notice, Output, Quit, Say, SwitchModel
from minigpt_repl.repl.tables import (
    NAME,
    STRONG,
    FittingTable,
    Row,
    facts_table,
    history_table,
    origins_table,
    settings_table,
    stats_table,
)
from minigpt_repl.sampling.registry import all_names, find_sampler
from minigpt_repl.settings import Settings, limits_of
from minigpt_repl.shown import (
    as_perplexity,
    did_you_mean,
    in_bits,
    in_bits_a_byte,
    in_seconds,
    plain,
    quoted,
)

GROUPS = {
    "begin": "tour help quit",
    "make texts": "again continue edit undo",
    "choose how": "sampler chain load-preset set unset reset",
    "look into a text": "why heat diff next explain step raw score",
    "see a search": "beams candidates drafts",
    "compare": "compare sweep export",
    "go about the texts": "tree goto branch save load source",
    "the program": "model show clear",
}
"""Commands by what one wants to do."""

HINTS = """\
:help all has a line on each. :help NAME tells more of one, of a sampler, a
setting, or a word that is on the screen, such as perplexity, run, kept or ±.

Anything else you type is a prompt, and the model goes on from it.
A leading space or \\: makes a prompt of a line that starts with a colon.
Names may be cut short (:sam top_k). Tab completes. ^C stops a text, ^D leaves."""
"""With the names above them they fit a screen of 24 rows."""

EACH = "all"
SUBJECTS = ("settings", "model", "history", "stats")


def help_words(context: Context, typed: str) -> Iterator[str]:
    """Commands, then the words of the glossary."""
    yield from (entry.name for entry in all_commands())
    yield EACH
    yield from terms()


@command("help", usage="[all | NAME]", aliases=("h", "?"), complete=help_words)
def show_help(context: Context, arguments: str) -> Outputs:
    """List the commands, or tell more about one, or about a word on the screen.

    With `all` it tells of every command in a line. NAME is a command, a sampler, a
    setting, or a word such as perplexity, kept or ±.
    """
    word = arguments.removeprefix(":")
    if word == EACH:
        rows: list[Row] = []
        for group, commands in grouped_commands().items():
            rows.append((Text(group, style=STRONG),))
            for one in commands:
                rows.append((Text(f"  :{one.name}", style=NAME), one.summary))
        yield Say(FittingTable(("", ""), rows))
    elif word:
        yield from _help_on(word, context.session.settings)
    else:
        rows = [
            (Text(group, style=STRONG), " ".join(f":{each.name}" for each in commands))
            for group, commands in grouped_commands().items()
        ]
        yield Say(FittingTable(("", ""), rows))
        yield Say("")
        yield Say(Text(HINTS))


def grouped_commands() -> dict[str, list[Command]]:
    """Every command, under what one wants to do."""
    by_name = {entry.name: entry for entry in all_commands()}
    return {
        group: [by_name[name] for name in names.split()]
        for group, names in GROUPS.items()
    }


def _help_on(word: str, settings: Settings) -> Iterator[Output]:
    """All that there is to say of a name, or of its unique beginning."""
    found = [*_of_name(word, settings)]
    if not found:
        with suppress(UsageError):
            found = [Say(_command_help(find_command(word)))]
    if not found:
        commands = [f":{entry.name}" for entry in all_commands()]
        names = [*commands, *terms(), *all_names(), *list(settings.names())[1:]]
        raise UsageError(
            f"no command, sampler, rule, setting or word {quoted(word)}"
            f"{did_you_mean(word, names)}; :help lists the commands"
        )
    yield from found


def _of_name(word: str, settings: Settings) -> Iterator[Output]:
    """Of the command, the word of the glossary, the sampler or setting of a name."""
    commands = [e for e in all_commands() if word in (e.name, *e.aliases)]
    yield from (Say(_command_help(entry)) for entry in commands)
    term = find_entry(word)
    # The name of a command is no beginning of a word.
    if term is not None and (not commands or word in term.names):
        names = ", ".join(term.names)
        yield Say(Text.assemble((names, NAME), f"\n{term.text}"))
    with suppress(UsageError):
        spec = find_sampler(word)
        yield Say(Text(spec.story))
        if spec.parameters:
            keys = [f"{spec.name}.{name}" for name in spec.parameter_names]
            yield Say(settings_table(settings, keys))
        return
    with suppress(UsageError):
        yield Say(settings_table(settings, [word]))


def _command_help(entry: Command) -> Text:
    usage = f" {entry.usage}" if entry.usage else ""
    names = ", ".join(f":{alias}" for alias in entry.aliases)
    also = f"\n\nAlso {names}" if names else ""
    return Text.assemble((f":{entry.name}", NAME), f"{usage}\n{entry.help}{also}")


@command("quit", aliases=("q", "exit"))
def quit_program(context: Context, arguments: str) -> Outputs:
    """Leave the program; ^D on an empty line does the same."""
    yield Quit()


@command("clear")
def clear(context: Context, arguments: str) -> Outputs:
    """Clear the screen; the texts and the settings stay."""
    yield ClearScreen()


@command("show", usage="settings|model|history|stats", complete=lambda *_: SUBJECTS)
def show(context: Context, arguments: str) -> Outputs:
    """Show the settings, the model, the texts so far or their figures.

    `settings` tells where each value came from: default, config, environment,
    flag or :set.
    """
    names = [name for name in SUBJECTS if arguments and name.startswith(arguments)]
    session, node = context.session, context.session.node
    match names:
        case ["settings"]:
            yield Say(origins_table(session.settings))
        case ["model"]:
            yield from show_model(context)
        case ["history"] if session.nodes:
            yield Say(history_table(session, context.width))
        case ["stats"] if node is not None:
            yield Say(stats_table(session))
            yield Notice(f"text {node.id}: {stats_line(node.generation)}")
        case [_]:
            yield Notice("no texts yet: type a prompt")
        case _:
            raise UsageError(
                f":show takes one of {', '.join(SUBJECTS)}; got {quoted(arguments)}"
                f"{did_you_mean(arguments, SUBJECTS)}"
            )


def checkpoint_words(context: Context, typed: str) -> Iterator[str]:
    """Names of known checkpoints, then folders."""
    yield from known_checkpoints()
    yield from file_words(context, typed, only_folders=True)


@command("model", usage="[NAME | DIR]", complete=checkpoint_words)
def model(context: Context, arguments: str) -> Steps:
    """Show the checkpoint and those there are, or load another one without leaving.

    It is called by its name or by its folder. If it can't be loaded, the present one
    stays. Texts and settings stay too; a setting that the new model does not allow is
    taken back, and that is told before the models are switched.
    """
    if not arguments:
        yield from show_model(context)
        return context.session
    if context.sources:
        raise UsageError(
            ":model DIR can't be used in a sourced file; type it, "
            "or run the file with --script"
        )
    path = find_checkpoint(user_path(arguments, ":model DIR")).absolute()
    settings = context.session.settings
    if (record := find_record(path)) is not None:
        settings, changes = settings.fitted_to(limits_of(record))
        yield from map(Notice, describe_fitting(changes))
    info = yield SwitchModel(str(path))
    settings, changes = settings.fitted_to(limits_of(info))
    yield Notice(
        f"model: {plain(info.directory)} ({info.parameter_count:,} parameters, "
        f"{info.vocabulary_size:,} words, context {info.context_length})"
    )
    yield from map(Notice, describe_fitting(changes))
    return replace(context.session, settings=settings)


def show_model(context: Context) -> Iterator[Output]:
    """The checkpoint that is loaded, then those that can be called by name."""
    info = context.engine.info
    yield Say(facts_table(model_facts(info)))
    if known_checkpoints():
        yield Say("")
        yield Say(checkpoints_table(info.directory))


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


def checkpoints_table(directory: str) -> FittingTable:
    """The checkpoints that can be called by name, the one in use marked."""
    rows: list[Row] = []
    for name, folder in known_checkpoints().items():
        mark = Text("*" if folder == Path(directory) else " ", style=STRONG)
        cells = ["can't be read"]
        with suppress(CheckpointError, OSError):
            record = read_record(folder)
            when = time.localtime((folder / RECORD_FILE).stat().st_mtime)
            cells = [f"{record.parameter_count:,}", time.strftime("%Y-%m-%d", when)]
            metrics = record.training.get("metrics")
            figures = metrics if isinstance(metrics, dict) else {}
            for key in ("perplexity", "bits_per_byte"):
                value = figures.get(key)
                cells.append(_fact(key, value)[1] if _is_figure(value) else "")
        rows.append((mark, Text(name, style=NAME), *cells))
    headings = ("", "name", "parameters", "date", "perplexity", "bits a byte")
    return FittingTable(headings, rows, right=" ".join(headings[2:]), whole=6)
