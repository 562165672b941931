"""Commands about the program itself: `:help`, `:quit`, `:clear`, `:model`."""

import os
from contextlib import suppress
from pathlib import Path

from rich.text import Text

from minigpt_repl.errors import UsageError
from minigpt_repl.files import user_path
from minigpt_repl.models.record import check_folder
from minigpt_repl.repl.commands.setting import model_facts
from minigpt_repl.repl.completion import command_words, folder_words
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.dispatch import Command, all_commands, command
from minigpt_repl.repl.dispatch import find_command as find
from minigpt_repl.repl.output import ClearScreen, Notice, Output, Quit, Say, SwitchModel
from minigpt_repl.repl.tables import (
    NAME,
    commands_table,
    facts_table,
    sampler_facts,
    settings_table,
)
from minigpt_repl.sampling.parameters import format_value
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.settings import Settings, limits_of
from minigpt_repl.suggest import plain

HINTS = """\
Anything else you type is a prompt, and the model goes on from it.
A leading space or \\: makes a prompt of a line that starts with a colon.
Names may be cut short (:sam top_k). Tab completes. ^C stops a text, ^D leaves.
:help COMMAND tells more; so does :help with a sampler or a setting."""


@command("help", usage="[COMMAND]", aliases=("h", "?"), complete=command_words)
def show_help(context: Context, arguments: str) -> Steps:
    """List the commands, or tell more about one.

    The name of a sampler or of a setting may stand in the place of a command.
    """
    word = arguments.removeprefix(":")
    if not word:
        yield Say(commands_table(all_commands()))
        yield Say(Text(HINTS))
        return context.session
    try:
        yield Say(_command_help(find(word)))
    except UsageError:
        other = _other_help(word, context.session.settings)
        if other is None:
            raise
        yield from other
    return context.session


def _command_help(entry: Command) -> Text:
    text = Text(f":{entry.name}", style=NAME)
    text.append(f" {entry.usage}\n" if entry.usage else "\n", style="not bold default")
    text.append(entry.help, style="not bold default")
    if entry.aliases:
        names = ", ".join(f":{alias}" for alias in entry.aliases)
        text.append(f"\n\nAlso {names}", style="not bold default")
    return text


def _other_help(word: str, settings: Settings) -> list[Output] | None:
    """Help on a sampler or a setting of that name, if there is one."""
    with suppress(UsageError):
        spec = find_sampler(word)
        outputs: list[Output] = [Say(Text(spec.story))]
        if spec.parameters:
            outputs.append(Say(sampler_facts(spec, settings.limits)))
        return outputs
    with suppress(UsageError):
        settings.key(word)
        return [Say(settings_table(settings, [word]))]
    return None


@command("quit", aliases=("q", "exit"))
def quit_program(context: Context, arguments: str) -> Steps:
    """Leave the program; ^D on an empty line does the same."""
    yield Quit()
    return context.session


@command("clear")
def clear(context: Context, arguments: str) -> Steps:
    """Clear the screen; the texts and the settings stay."""
    yield ClearScreen()
    return context.session


@command("model", usage="[DIR]", complete=folder_words)
def model(context: Context, arguments: str) -> Steps:
    """Show the checkpoint, or load another one without leaving.

    If the other one can't be loaded, the present one stays. Texts and settings
    stay too; a setting that is beyond the new model's vocabulary is taken back.
    """
    if not arguments:
        yield Say(facts_table(model_facts(context.engine.info)))
        return context.session
    if context.sources:
        raise UsageError(
            ":model DIR can't be used in a sourced file; type it, "
            "or run the file with --script"
        )
    path = Path(os.path.abspath(user_path(arguments, ":model DIR")))
    check_folder(path)
    info = yield SwitchModel(str(path))
    settings, changes = context.session.settings.fitted_to(
        limits_of(info.vocabulary_size, info.document)
    )
    yield Notice(
        f"model: {plain(info.directory)} ({info.parameter_count:,} parameters, "
        f"{info.vocabulary_size:,} words, context {info.context_length})"
    )
    for change in changes:
        before, after = format_value(change.before), format_value(change.after)
        why = ", the vocabulary is smaller" if change.name != "stop" else ""
        yield Notice(f"{change.name}: {before} -> {after}{why}")
    return context.session.with_settings(settings)
