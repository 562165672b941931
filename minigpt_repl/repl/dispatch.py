"""One line of input, carried out: a command, a prompt, or nothing.

The terminal loop, the plain loop, `:source` and the tests all come through here.
Raises nothing but `MiniGPTError`, whatever the line holds.
"""

from minigpt_repl.errors import UsageError
from minigpt_repl.models.text.normalize import normalize_text
from minigpt_repl.repl import commands  # noqa: F401 - fills the table of commands
from minigpt_repl.repl.command import Command, Desk, Steps, find_command
from minigpt_repl.repl.continuation import continue_prompt
from minigpt_repl.suggest import quoted

MARK = ":"
ESCAPED_MARK = "\\:"


def run_line(line: str, desk: Desk) -> Steps:
    """Carry out a line; returns the session after it.

    A line that starts with a colon is a command, anything else a prompt. A
    leading space or a backslash makes a prompt of a line that starts with a
    colon. Control characters are left out; an empty line does nothing.

    Raises:
        MiniGPTError: what was wrong, in one line; the session is unchanged.
    """
    line = normalize_text(line)
    if line.startswith(MARK):
        return (yield from _run_command(line.removeprefix(MARK), desk))
    if line.startswith(ESCAPED_MARK):
        line = line.removeprefix("\\")
    prompt = line.strip()
    if not prompt:
        return desk.session
    return (yield from continue_prompt(desk, prompt))


def leaves(line: str) -> bool:
    """Whether a line that was carried out was `:quit`."""
    line = normalize_text(line)
    if not line.startswith(MARK):
        return False
    return _split(line.removeprefix(MARK))[0].name == "quit"


def _run_command(line: str, desk: Desk) -> Steps:
    command, arguments = _split(line)
    if arguments and not command.usage:
        raise UsageError(f":{command.name} takes no arguments; got {quoted(arguments)}")
    return (yield from command.run(desk, arguments))


def _split(line: str) -> tuple[Command, str]:
    name, *rest = line.split(maxsplit=1) or [""]
    return find_command(name), rest[0].strip() if rest else ""
