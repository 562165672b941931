"""Drives a command: takes its outputs one by one and hands back the replies.

Whoever carries the outputs out decides what they look like. Knows no terminal.
"""

from collections.abc import Callable
from functools import partial

from minigpt_repl.errors import MiniGPTError
from minigpt_repl.repl.context import Steps
from minigpt_repl.repl.output import Output
from minigpt_repl.repl.session import Session


def perform(steps: Steps, carry_out: Callable[[Output], object]) -> Session:
    """Run a command to its end.

    Args:
        steps: the command.
        carry_out: shows an output, or asks; its result is the command's reply.
            What it raises as `MiniGPTError` is raised into the command.

    Returns:
        The session after the command.

    Raises:
        MiniGPTError: what the command raised.
    """
    advance: Callable[[], Output] = partial(next, steps)
    try:
        while True:
            output = advance()
            try:
                reply = carry_out(output)
            except MiniGPTError as error:
                advance = partial(steps.throw, error)
            else:
                advance = partial(steps.send, reply)
    except StopIteration as stop:
        session: Session = stop.value
        return session
    finally:
        steps.close()
