"""`:help`: everything that a person who knows only the prompt needs."""

from contextlib import suppress

from rich.text import Text

from minigpt_repl.errors import UsageError
from minigpt_repl.repl.command import Command, Desk, Steps, all_commands, command
from minigpt_repl.repl.command import find_command as find
from minigpt_repl.repl.outputs import Output, Say
from minigpt_repl.repl.sheet import NAME
from minigpt_repl.repl.tables import commands_table, sampler_facts, settings_table
from minigpt_repl.repl.words import command_words
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.settings import Settings

HINTS = """\
Anything else you type is a prompt, and the model goes on from it.
A leading space or \\: makes a prompt of a line that starts with a colon.
Names may be cut short (:sam top_k). Tab completes. ^C stops a text, ^D leaves.
:help COMMAND tells more; so does :help with a sampler or a setting."""


@command("help", usage="[COMMAND]", aliases=("h", "?"), complete=command_words)
def show_help(desk: Desk, arguments: str) -> Steps:
    """List the commands, or tell more about one.

    The name of a sampler or of a setting may stand in the place of a command.
    """
    word = arguments.removeprefix(":")
    if not word:
        yield Say(commands_table(all_commands()))
        yield Say(Text(HINTS))
        return desk.session
    try:
        yield Say(_command_help(find(word)))
    except UsageError:
        other = _other_help(word, desk.session.settings)
        if other is None:
            raise
        yield from other
    return desk.session


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
