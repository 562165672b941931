"""Commands that read and write files: `:save`, `:load`, `:source`, `:export`.

`formats.Session` is the shape of a saved session. What fits the shape may still not fit
together: a text before its parent, a sampler or a value that does not exist.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import astuple

from minigpt_repl import formats
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import Generation, Token, TokenScore
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.files import read_user_file, user_path, write_user_file
from minigpt_repl.models.text.codec import as_typed
from minigpt_repl.repl.commands.setting import (
    describe_changes,
    describe_fitting,
    prepare,
)
from minigpt_repl.repl.commands.tree import ranges, runs_of
from minigpt_repl.repl.completion import file_words
from minigpt_repl.repl.context import (
    Context,
    Node,
    Outputs,
    Session,
    Steps,
    is_of_this_model,
    last_node,
)
from minigpt_repl.repl.dispatch import Lines, command, leaves, run_line, whole_inputs
from minigpt_repl.repl.output import Mistake, Notice
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.settings import Settings
from minigpt_repl.shown import quoted, shown_path

if TYPE_CHECKING:
    from minigpt_repl.compare.page import Branch


@command("save", usage="FILE", complete=file_words)
def save(context: Context, arguments: str) -> Outputs:
    """Write the texts, their seeds and the settings to a file, as JSON.

    A file that is there already is replaced only if it is a saved session.
    """
    path = user_path(arguments, ":save FILE")
    # os.path: unlike pathlib's, it is no error for it to ask of any name. Pipes and
    # devices are there too, and are refused by who reads them.
    is_there = os.path.exists(path) and not os.path.isdir(path)
    if is_there and not formats.is_one(read_user_file(path), formats.Session):
        raise UsageError(
            f"{shown_path(path)} is there and is not a saved session; "
            "choose another name"
        )
    write_user_file(path, dump_session(context.session))
    yield Notice(f"saved {_texts(len(context.session.nodes))} to {shown_path(path)}")


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
    before = context.session.settings
    yield from map(Notice, describe_changes(before.changes_to(settings)))
    prepare(context, settings)
    return replace(session, settings=settings)


OF_THE_TERMINAL = ("color", "keys")
"""Settings that belong to the user's terminal and not to a session."""


def dump_session(session: Session) -> str:
    """The text of a saved session. The last comparison is not part of it."""
    settings = session.settings
    names = [name for name in settings.names() if name not in OF_THE_TERMINAL]
    content = formats.Session(
        version=1,
        settings={name: settings.value(name) for name in names},
        current=session.current,
        turns=msgspec.convert(
            session.nodes, tuple[formats.Turn, ...], from_attributes=True
        ),
    )
    return formats.encode(content, indent=True) + "\n"


def parse_session(text: str, name: str, settings: Settings) -> Session:
    """The session that the text of a file holds; `name` is the file's, for messages,
    and the settings that it does not say stay.

    Raises:
        MiniGPTError: if it is no saved session, a newer or a damaged one.
    """
    content = formats.decode(text, name, formats.Session)
    nodes: dict[int, Node] = {}
    try:
        for turn in content.turns:
            nodes[turn.id] = _read_turn(turn, nodes)
        if content.current is not None and content.current not in nodes:
            raise UsageError(f"there is no turn {content.current}")
        after = _read_settings(content.settings, settings)
    except UsageError as error:
        raise MiniGPTError(f"{name} is damaged: {error}") from None
    return Session(after, tuple(nodes.values()), content.current)


def _read_settings(values: Mapping[str, Value], settings: Settings) -> Settings:
    """The present settings, with what the file says in the layer of `:set`."""
    terminal = settings.layers.get("set", {})
    layer = {key: terminal[key] for key in OF_THE_TERMINAL if key in terminal}
    unset = settings.reset()
    unqualified = Settings()  # where no chain in use gives names another meaning
    for key, value in values.items():
        if key == "sampler":
            value = find_sampler(str(value)).name
        elif unqualified.key(key) != key or key in OF_THE_TERMINAL:
            raise UsageError(f"a setting {quoted(key)}")
        else:
            value = unqualified.parameter(key).check(value)
        if value != unset.value(key):
            layer[key] = value
    return Settings({**settings.layers, "set": layer}, settings.limits)


def _read_turn(turn: formats.Turn, earlier: dict[int, Node]) -> Node:
    number, parent = turn.id, turn.parent
    if number <= next(reversed(earlier), 0):
        raise UsageError(f"turn {number} does not come after the one before")
    if parent is not None and parent not in earlier:
        raise UsageError(f"turn {number}: its parent {parent} does not come before it")
    try:
        generation = _read_generation(turn.generation)
    except UsageError as error:
        raise UsageError(f"turn {number}: {error}") from None
    return Node(number, parent, as_typed(turn.prompt), generation)


def _read_generation(saved: formats.SavedGeneration) -> Generation:
    without_tokens = msgspec.structs.replace(saved, tokens=())
    made = msgspec.convert(without_tokens, Generation, from_attributes=True)
    spec = find_sampler(made.request.sampler)
    words = tuple(map(as_typed, made.started.unknown_words))
    return replace(
        made,
        request=replace(
            made.request,
            prompt=as_typed(made.request.prompt),
            sampler=spec.name,
            parameters=spec.check(made.request.parameters),
        ),
        started=replace(made.started, unknown_words=words),
        tokens=tuple(map(_read_token, saved.tokens)),
        text=as_typed(made.text),
        raw_text=as_typed(made.raw_text),
    )


def _read_token(token: formats.SavedToken) -> Token:
    figures = () if token.score is None else astuple(token.score)
    # A figure that was NaN or infinite is null in the file: scored anew when needed.
    score = TokenScore(*figures) if figures and None not in figures else None
    return Token(token.id, as_typed(token.text), score)


@command("source", usage="FILE", complete=file_words)
def source(context: Context, arguments: str) -> Steps:
    """Run the lines of a file as if they had been typed.

    It ends at the first line that fails; what the lines before it did holds.
    """
    path = user_path(arguments, ":source FILE")
    lines = Lines(shown_path(path), read_user_file(path).splitlines())
    real = Path(os.path.realpath(path))
    if real in context.sources:
        raise UsageError(f"{lines.name} would run itself, without end")
    context = replace(context, sources=(*context.sources, real))
    try:
        for whole in whole_inputs(lines):
            session = yield from run_line(whole, context)
            if leaves(whole) or _was_interrupted(context.session, session):
                return session
            context = replace(context, session=session)
    except MiniGPTError as error:
        yield Mistake(f"{lines.name}:{lines.number}: {error}")
    return context.session


def _was_interrupted(before: Session, after: Session) -> bool:
    """Whether the user stopped a text of this line, and so the rest of the file."""
    new = after.nodes[len(before.nodes) :]
    cut = {node.parent for node in new}  # by :branch, which went on from there
    return any(
        node.generation.stop_reason == "interrupted" and node.id not in cut
        for node in new
    )


def _texts(count: int) -> str:
    return "1 text" if count == 1 else f"{count} texts"


SESSION_FLAG = "--session"
USAGE = ":export [--session] FILE.md|.html|.json"


def export_words(context: Context, typed: str) -> Iterator[str]:
    """`--session`, then files."""
    if not typed.lstrip().startswith(SESSION_FLAG):
        yield SESSION_FLAG
    yield from file_words(context, typed.lstrip().removeprefix(SESSION_FLAG))


@command("export", usage="[--session] FILE.md|.html|.json", complete=export_words)
def export(context: Context, arguments: str) -> Outputs:
    """Write the last comparison to a file: Markdown, HTML or JSON.

    With `--session` it is every text of the session. The HTML file needs nothing
    else. `minigpt-repl replay FILE.json` runs the JSON again. A file that is there
    is replaced only if it is an export.
    """
    from minigpt_repl.compare.export import (
        check_place,
        check_suffix,
        comparison_of,
        render,
    )
    from minigpt_repl.compare.page import session_page

    is_session = arguments.split(maxsplit=1)[:1] == [SESSION_FLAG]
    if is_session:
        arguments = arguments.removeprefix(SESSION_FLAG)
    path = user_path(arguments, USAGE)
    suffix = check_suffix(path)
    check_place(path, suffix)
    session, engine = context.session, context.engine
    if is_session:
        last_node(session, ":export --session")
    elif session.comparison is None:
        raise UsageError(
            ":export writes the last comparison: :compare first, or :export --session"
        )
    if is_session and suffix == ".html":
        text = session_page(_branches(context), engine)
    elif is_session:
        texts = [comparison_of(n.prompt, _scored(context, n)) for n in session.nodes]
        text = render(texts, suffix, engine)
    else:
        text = render([session.comparison], suffix, engine)
    write_user_file(path, text)
    what = "the session" if is_session else "the comparison"
    yield Notice(f"wrote {what} to {shown_path(path)}")


def _scored(context: Context, node: Node) -> Generation:
    made = node.generation
    if not is_of_this_model(context, made):
        # Another model's tokens: their words are known, their places are not.
        return replace(made, started=replace(made.started, prompt_ids=()))
    if inspection.has_scores(made):
        return made
    return inspection.with_scores(made, context.engine)


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
