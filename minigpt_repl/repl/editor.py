"""A text in the user's editor: `$VISUAL`, `$EDITOR`, or what the system has."""

import click

from minigpt_repl.errors import MiniGPTError


def edit_text(text: str) -> str | None:
    """The text as the user left it, or `None` if it was not saved.

    Raises:
        MiniGPTError: if the editor can't be run.
    """
    try:
        edited = click.edit(text, extension=".txt")
    except (click.ClickException, OSError) as error:
        reason = getattr(error, "message", str(error))
        raise MiniGPTError(f"can't edit ({reason}): set EDITOR to an editor") from error
    return None if edited is None else edited.removesuffix("\n")
