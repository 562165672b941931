"""Commands that read and write files: `:save`, `:load`, `:source`, `:export`."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt_repl.compare.comparison import Comparison, score
from minigpt_repl.engine.inspection import has_scores
from minigpt_repl.engine.request import Generation
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.files import read_user_file, user_path, write_user_file
from minigpt_repl.repl.commands.setting import describe_fitting
from minigpt_repl.repl.commands.tree import ranges, runs_of
from minigpt_repl.repl.completion import file_words
from minigpt_repl.repl.context import Context, Steps
from minigpt_repl.repl.dispatch import LineJoiner, command, leaves, run_line
from minigpt_repl.repl.output import Mistake, Notice
from minigpt_repl.repl.session import (
    Node,
    Session,
    dump_session,
    is_saved_session,
    parse_session,
)
from minigpt_repl.shown import shown_path


@command("save", usage="FILE", complete=file_words)
def save(context: Context, arguments: str) -> Steps:
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
    write_user_file(path, dump_session(context.session))
    yield Notice(f"saved {_texts(len(context.session.nodes))} to {shown_path(path)}")
    return context.session


@command("load", usage="FILE", complete=file_words)
def load(context: Context, arguments: str) -> Steps:
    """Go on with a saved session: its texts and settings replace the present ones.

    A setting that the model does not allow is taken back, and that is told.
    """
    path = user_path(arguments, ":load FILE")
    content = read_user_file(path)
    session = parse_session(content, shown_path(path), context.session.settings)
    yield Notice(f"loaded {_texts(len(session.nodes))} from {shown_path(path)}")
    settings, changes = session.settings.fitted_to(session.settings.limits)
    yield from map(Notice, describe_fitting(changes))
    return session.with_settings(settings)


@command("source", usage="FILE", complete=file_words)
def source(context: Context, arguments: str) -> Steps:
    """Run the lines of a file as if they had been typed.

    It ends at the first line that fails; what the lines before it did holds.
    """
    path = user_path(arguments, ":source FILE")
    lines = read_user_file(path).splitlines()
    shown = shown_path(path)
    if _real(path) in context.sources:
        raise UsageError(f"{shown} would run itself, without end")
    context = replace(context, sources=(*context.sources, _real(path)))
    joiner = LineJoiner()
    for number, line in enumerate(lines, start=1):
        whole = joiner.feed(line)
        if whole is None:
            continue
        try:
            session = yield from run_line(whole, context)
        except MiniGPTError as error:
            yield Mistake(f"{shown}:{number}: {error}")
            return context.session
        if leaves(whole) or _was_interrupted(context.session, session):
            return session
        context = replace(context, session=session)
    try:
        joiner.end()
    except MiniGPTError as error:
        yield Mistake(f"{shown}:{len(lines)}: {error}")
    return context.session


def _was_interrupted(before: Session, after: Session) -> bool:
    """Whether the user stopped a text of this line, and so the rest of the file."""
    new = after.nodes[len(before.nodes) :]
    cut = {node.parent for node in new}  # by :branch, which went on from there
    return any(
        node.generation.stop_reason == "interrupted" and node.id not in cut
        for node in new
    )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _texts(count: int) -> str:
    return "1 text" if count == 1 else f"{count} texts"


if TYPE_CHECKING:
    from minigpt_repl.compare.page import Branch

SESSION_FLAG = "--session"
USAGE = ":export [--session] FILE.md|.html|.json"


def export_words(context: Context, typed: str) -> Iterator[str]:
    """`--session`, then files."""
    rest = typed.lstrip().removeprefix(SESSION_FLAG)
    if rest == typed.lstrip():
        yield SESSION_FLAG
    yield from file_words(context, rest)


@command("export", usage="[--session] FILE.md|.html|.json", complete=export_words)
def export(context: Context, arguments: str) -> Steps:
    """Write the last comparison to a file: Markdown, HTML or JSON.

    With `--session` it is every text of the session. The HTML file needs nothing
    else. `minigpt-repl replay FILE.json` runs the JSON again. A file that is there
    is replaced only if it is an export.
    """
    from minigpt_repl.compare.page import session_page
    from minigpt_repl.compare.render import check_suffix, write_page
    from minigpt_repl.compare.render import export as write

    is_session = arguments.split(maxsplit=1)[:1] == [SESSION_FLAG]
    if is_session:
        arguments = arguments.removeprefix(SESSION_FLAG)
    path = user_path(arguments, USAGE)
    check_suffix(path)
    if is_session and not context.session.nodes:
        raise UsageError(":export --session: there is no text yet; type a prompt")
    if is_session and path.suffix.lower() == ".html":
        write_page(path, session_page(_branches(context), context.engine))
        yield Notice(f"wrote the session to {shown_path(path)}")
        return context.session
    if is_session:
        comparisons = list(_session(context))
    elif context.session.comparison is None:
        raise UsageError(
            ":export writes the last comparison: :compare first, or :export --session"
        )
    else:
        comparisons = [context.session.comparison]
    write(comparisons, path, context.engine)
    what = "the session" if is_session else "the comparison"
    yield Notice(f"wrote {what} to {shown_path(path)}")
    return context.session


def _session(context: Context) -> Iterator[Comparison]:
    from minigpt_repl.compare.render import comparison_of

    directory = context.engine.info.directory
    for node in context.session.nodes:
        yield comparison_of(node.prompt, _scored(context, node), directory)


def _scored(context: Context, node: Node) -> Generation:
    made = node.generation
    if made.checkpoint_sha256 != context.engine.info.checkpoint_sha256:
        # Another model's tokens: their words are known, their places are not.
        return replace(made, started=replace(made.started, prompt_ids=()))
    return made if has_scores(made) else score(context.engine, made)


def _branches(context: Context) -> list["Branch"]:
    """The tree of texts; steps of a token each are one text."""
    from minigpt_repl.compare.page import Branch

    roots: list[Branch] = []
    drawn: dict[int, Branch] = {}  # by the id of the first text of each run
    for run, before in runs_of(context.session):
        branch = Branch(
            number=ranges(run),
            prompt=run[0].prompt if before is None else "",
            generations=[_scored(context, node) for node in run],
            is_current=any(node.id == context.session.current for node in run),
        )
        drawn[run[0].id] = branch
        (roots if before is None else drawn[before[0].id].children).append(branch)
    return roots
