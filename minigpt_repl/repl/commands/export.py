"""`:export`: the last comparison, or the session, as a file to keep or to show."""

from collections.abc import Iterator
from dataclasses import replace

from minigpt_repl.compare.comparison import Comparison, score
from minigpt_repl.engine.inspection import has_scores
from minigpt_repl.errors import UsageError
from minigpt_repl.files import user_path
from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.outputs import Notice
from minigpt_repl.repl.words import file_words
from minigpt_repl.suggest import shown_path

SESSION_FLAG = "--session"
USAGE = ":export [--session] FILE.md|.html|.json"


def export_words(desk: Desk, typed: str) -> Iterator[str]:
    """`--session`, then files."""
    rest = typed.lstrip().removeprefix(SESSION_FLAG)
    if rest == typed.lstrip():
        yield SESSION_FLAG
    yield from file_words(desk, rest)


@command("export", usage="[--session] FILE.md|.html|.json", complete=export_words)
def export(desk: Desk, arguments: str) -> Steps:
    """Write the last comparison to a file: Markdown, HTML or JSON.

    With `--session` it is every text of the session. The HTML file needs nothing
    else. `minigpt-repl replay FILE.json` runs the JSON again. A file that is there
    is replaced only if it is an export.
    """
    from minigpt_repl.compare.render import check_suffix
    from minigpt_repl.compare.render import export as write

    is_session = arguments.split(maxsplit=1)[:1] == [SESSION_FLAG]
    if is_session:
        arguments = arguments.removeprefix(SESSION_FLAG)
    path = user_path(arguments, USAGE)
    check_suffix(path)
    if is_session:
        comparisons = list(_session(desk))
    elif desk.session.comparison is None:
        raise UsageError(
            ":export writes the last comparison: :compare first, or :export --session"
        )
    else:
        comparisons = [desk.session.comparison]
    write(comparisons, path, desk.engine.info)
    what = "the session" if is_session else "the comparison"
    yield Notice(f"wrote {what} to {shown_path(path)}")
    return desk.session


def _session(desk: Desk) -> Iterator[Comparison]:
    from minigpt_repl.compare.render import comparison_of

    if not desk.session.nodes:
        raise UsageError(":export --session: there is no text yet; type a prompt")
    info = desk.engine.info
    for node in desk.session.nodes:
        made = node.generation
        is_ours = made.checkpoint_sha256 == info.checkpoint_sha256
        if not has_scores(made) and is_ours:
            made = score(desk.engine, made)
        if not is_ours:
            # Another model's tokens: their words are known, their places are not.
            made = replace(made, started=replace(made.started, prompt_ids=()))
        yield comparison_of(node.prompt, made, info.directory)
