"""The tree of texts: `:tree`, `:goto`, `:branch`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.text import Text
from rich.tree import Tree

from minigpt_repl.compare.pieces import display_pieces
from minigpt_repl.compare.spec import read_whole
from minigpt_repl.engine import inspection
from minigpt_repl.errors import UsageError
from minigpt_repl.repl.command import Desk, Steps, command
from minigpt_repl.repl.continuation import continue_text, ending, ending_in_a_line
from minigpt_repl.repl.inspected import inspect_text
from minigpt_repl.repl.outputs import Notice, Say
from minigpt_repl.repl.session import Node, Session
from minigpt_repl.repl.sheet import FAINT, NAME, STRONG
from minigpt_repl.suggest import quoted

SHOWN_BEFORE = 200
SHOWN_WORDS = 60


def node_words(desk: Desk, typed: str) -> Iterable[str]:
    """Numbers of the texts."""
    return (str(node.id) for node in desk.session.nodes)


@command("tree")
def tree(desk: Desk, arguments: str) -> Steps:
    """Draw the texts of the session as a tree, the current one marked.

    Tokens that were stepped one after the other stand in one line; `:goto N`
    goes to any of them.
    """
    if not desk.session.nodes:
        raise UsageError(":tree: there is no text yet; type a prompt")
    yield Say(draw_tree(desk.session, desk.width))
    return desk.session


@command("goto", usage="N", complete=node_words)
def goto(desk: Desk, arguments: str) -> Steps:
    """Make another text of the tree the current one, and go on from there."""
    nodes = desk.session.nodes
    node = desk.session.find(read_whole(arguments) or 0)
    if node is None:
        there = (
            f"there are {nodes[0].id}..{nodes[-1].id}" if nodes else "there are none"
        )
        raise UsageError(
            f":goto takes the number of a text, {there}; got {quoted(arguments)}"
        )
    shown = quoted(ending_in_a_line(node.text, SHOWN_WORDS))
    yield Notice(f"at text {node.id}: {shown}; :continue goes on from it")
    return replace(desk.session, current=node.id)


@command("branch", usage="[N]")
def branch(desk: Desk, arguments: str) -> Steps:
    """Cut the current text after N of its new tokens, and go on from there.

    Both stay in the tree. Without N it is cut where the model was least sure.
    """
    text = inspect_text(desk, ":branch")
    node, tokens = text.node, text.generation.tokens
    kept = _read_kept(arguments, len(tokens)) if arguments else None
    if kept is None:
        unsure = [
            inspection.entropy(inspection.probabilities(row)) for row in text.rows
        ]
        kept = max(range(len(unsure)), key=unsure.__getitem__)
        yield Notice(f"cut after token {kept} of {len(tokens)}, before the least sure")
    session, parent = desk.session, node.parent
    made = node.generation
    if kept:
        start = replace(
            made,
            tokens=tokens[:kept],
            text="".join(display_pieces(made, desk.engine.info)[:kept]),
            raw_text=" ".join(token.text for token in tokens[:kept]),
            stop_reason="interrupted",
        )
        session = session.add(node.prompt, start, node.parent)
        parent = session.current
    begun = node.prompt + (
        session.node.generation.text if kept and session.node else ""
    )
    ids = (*made.started.prompt_ids, *made.token_ids[:kept])
    request = replace(session.settings.request(begun), prompt_ids=ids)
    shown = ending(begun, SHOWN_BEFORE)
    place = replace(desk, session=session)
    return (yield from continue_text(place, request, shown, parent))


def draw_tree(session: Session, width: int) -> Tree:
    """Every text under the one that it goes on from."""
    runs: dict[int, list[Node]] = {}  # by id of each node in it
    parents: list[tuple[list[Node], list[Node] | None]] = []
    children = Counter(node.parent for node in session.nodes)
    for node in session.nodes:
        before = runs.get(node.parent) if node.parent is not None else None
        is_alone = children[node.parent] == 1
        if before is not None and is_alone and _is_step(node) and _is_step(before[-1]):
            runs[node.id] = before
            before.append(node)
        else:
            runs[node.id] = [node]
            parents.append((runs[node.id], before))
    root = Tree("", hide_root=True, guide_style=FAINT)
    drawn: dict[int, Tree] = {}  # by id of the first node of a run
    for run, before in parents:
        under = root if before is None else drawn[before[0].id]
        drawn[run[0].id] = under.add(_label(run, before is None, session, width))
    return root


def _is_step(node: Node) -> bool:
    return len(node.generation.tokens) == 1


def _label(run: Sequence[Node], is_root: bool, session: Session, width: int) -> Text:
    first, last = run[0], run[-1]
    is_current = any(node.id == session.current for node in run)
    label = Text(_ranges(run), style=STRONG if is_current else "")
    if is_current:
        where = "" if first is last else f" {session.current}"
        label.append(f" *{where}", style=STRONG)
    label.append(f" {first.generation.request.sampler}", style=f"not bold {NAME}")
    words = "".join(node.generation.text for node in run)
    if is_root:
        words = f"{first.prompt}|{words}"
    room = max(20, width - 40)
    words = " ".join(words.split())
    shown = words if len(words) <= room else f"{words[: room - 3]}..."
    label.append(f" {shown}", style="not bold default")
    return label


def _ranges(run: Sequence[Node]) -> str:
    """Numbers of nodes in short: `2,6-7`."""
    spans: list[list[int]] = []
    for node in run:
        if spans and node.id == spans[-1][-1] + 1:
            spans[-1][1:] = [node.id]
        else:
            spans.append([node.id])
    return ",".join("-".join(map(str, span)) for span in spans)


def _read_kept(arguments: str, count: int) -> int:
    kept = read_whole(arguments) or 0
    if not 1 <= kept <= count:
        raise UsageError(
            f":branch takes a whole number 1..{count}, the tokens to keep; "
            f"got {quoted(arguments)}"
        )
    return kept
