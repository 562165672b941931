"""Commands about the terminal itself."""

from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.outputs import ClearScreen, Quit


@command("quit", aliases=("q", "exit"))
def quit_program(desk: Desk, arguments: str) -> Steps:
    """Leave the program; ^D on an empty line does the same."""
    yield Quit()
    return desk.session


@command("clear")
def clear(desk: Desk, arguments: str) -> Steps:
    """Clear the screen; the texts and the settings stay."""
    yield ClearScreen()
    return desk.session
