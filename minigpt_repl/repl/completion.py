"""What may come next on the line: pure, without a terminal.

Whatever stands on the line, it answers at once and raises nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from minigpt_repl.errors import MiniGPTError
from minigpt_repl.repl import commands  # noqa: F401 - fills the table of commands
from minigpt_repl.repl.command import Desk, all_commands, find_command
from minigpt_repl.sampling.registry import find_sampler


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


def complete(line_before_cursor: str, desk: Desk) -> list[Candidate]:
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
    try:
        command = find_command(name)
    except MiniGPTError:
        return []
    if command.complete is None:
        return []
    words = command.complete(desk, typed)
    return list(_going_on(words, typed, len(line), desk))


def _going_on(
    words: Iterable[str], typed: str, cursor: int, desk: Desk
) -> Iterable[Candidate]:
    """The words that go on from all that was typed, or from its last word."""
    argument = typed.lstrip()
    last = "" if not typed or typed[-1].isspace() else typed.split()[-1]
    for word in words:
        if argument and word.startswith(argument):
            yield Candidate(word, cursor - len(argument), _meaning(word, desk))
        elif word.startswith(last):
            yield Candidate(word, cursor - len(last), _meaning(word, desk))


def _meaning(word: str, desk: Desk) -> str:
    """What a word stands for: a command, a setting or a sampler."""
    name = word.removesuffix("=")
    for command in all_commands():
        if command.name == name:
            return command.summary
    try:
        return desk.session.settings.parameter(name).help
    except MiniGPTError:
        pass
    try:
        return find_sampler(name).summary
    except MiniGPTError:
        return ""
