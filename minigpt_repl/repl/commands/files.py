"""Commands that read and write files: `:save`, `:load`, `:source`."""

import os
from dataclasses import replace
from pathlib import Path

from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.files import read_user_file, user_path, write_user_file
from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.lines import LineJoiner
from minigpt_repl.repl.outputs import Mistake, Notice
from minigpt_repl.repl.saved import dump_session, is_saved_session, parse_session
from minigpt_repl.repl.session import Session
from minigpt_repl.repl.words import file_words
from minigpt_repl.suggest import shown_path


@command("save", usage="FILE", complete=file_words)
def save(desk: Desk, arguments: str) -> Steps:
    """Write the texts, their seeds and the settings to a file, as JSON.

    A file that is there already is replaced only if it is a saved session.
    """
    path = user_path(arguments, ":save FILE")
    # os.path: unlike pathlib's, it is no error for it to ask of any name. Pipes and
    # devices are there too, and are refused by who reads them.
    is_there = os.path.exists(path) and not os.path.isdir(path)
    if is_there and not is_saved_session(read_user_file(path)):
        raise UsageError(
            f"{shown_path(path)} is there and is not a saved session; "
            "choose another name"
        )
    write_user_file(path, dump_session(desk.session))
    yield Notice(f"saved {_texts(len(desk.session.nodes))} to {shown_path(path)}")
    return desk.session


@command("load", usage="FILE", complete=file_words)
def load(desk: Desk, arguments: str) -> Steps:
    """Go on with a saved session: its texts and settings replace the present ones."""
    path = user_path(arguments, ":load FILE")
    content = read_user_file(path)
    session = parse_session(content, shown_path(path), desk.session.settings)
    yield Notice(f"loaded {_texts(len(session.nodes))} from {shown_path(path)}")
    return session


@command("source", usage="FILE", complete=file_words)
def source(desk: Desk, arguments: str) -> Steps:
    """Run the lines of a file as if they had been typed.

    It ends at the first line that fails; what the lines before it did holds.
    """
    # The dispatcher imports the commands.
    from minigpt_repl.repl.dispatch import leaves, run_line

    path = user_path(arguments, ":source FILE")
    lines = read_user_file(path).splitlines()
    shown = shown_path(path)
    if _real(path) in desk.sources:
        raise UsageError(f"{shown} would run itself, without end")
    desk = replace(desk, sources=(*desk.sources, _real(path)))
    joiner = LineJoiner()
    for number, line in enumerate(lines, start=1):
        whole = joiner.feed(line)
        if whole is None:
            continue
        try:
            session = yield from run_line(whole, desk)
        except MiniGPTError as error:
            yield Mistake(f"{shown}:{number}: {error}")
            return desk.session
        if leaves(whole) or _was_interrupted(desk.session, session):
            return session
        desk = replace(desk, session=session)
    try:
        joiner.end()
    except MiniGPTError as error:
        yield Mistake(f"{shown}:{len(lines)}: {error}")
    return desk.session


def _was_interrupted(before: Session, after: Session) -> bool:
    """Whether the user stopped a text of this line, and so the rest of the file."""
    new = after.nodes[len(before.nodes) :]
    return any(node.generation.stop_reason == "interrupted" for node in new)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _texts(count: int) -> str:
    return "1 text" if count == 1 else f"{count} texts"
