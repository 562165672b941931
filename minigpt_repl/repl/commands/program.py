"""Commands about the program itself: `:help`, `:quit`, `:clear`, `:model`."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from rich.text import Text

from minigpt_repl.errors import UsageError
from minigpt_repl.files import user_path
from minigpt_repl.glossary import find_entry, terms
from minigpt_repl.models.record import find_record
from minigpt_repl.paths import find_checkpoint, known_checkpoints
from minigpt_repl.repl.commands.setting import describe_fitting, show_model
from minigpt_repl.repl.completion import file_words
from minigpt_repl.repl.context import Context, Outputs, Steps
from minigpt_repl.repl.dispatch import Command, all_commands, command, find_command
from minigpt_repl.repl.output import ClearScreen, Notice, Output, Quit, Say, SwitchModel
from minigpt_repl.repl.tables import (
    NAME,
    STRONG,
    FittingTable,
    commands_table,
    settings_table,
)
from minigpt_repl.sampling.registry import all_names, find_sampler
from minigpt_repl.settings import Settings, limits_of
from minigpt_repl.shown import did_you_mean, plain, quoted

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
        yield Say(commands_table(grouped_commands()))
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
    for entry in all_commands():
        if word in (entry.name, *entry.aliases):
            yield Say(_command_help(entry))
    term = find_entry(word)
    if term is not None:
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
