"""Commands that make texts and go about in the tree of them: `:again`, `:continue`,
`:undo`, `:raw`, `:edit`, `:score`, `:tree`, `:goto`, `:branch`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from minigpt_repl.compare.pieces import (
    FAINT,
    beginning_in_a_line,
    describe_sampler,
    display_pieces,
    ending,
    ending_in_a_line,
    maker,
    visible,
)
from minigpt_repl.compare.spec import read_count, read_whole, read_wholes
from minigpt_repl.engine import inspection
from minigpt_repl.engine.inspection import as_generation, score
from minigpt_repl.engine.request import Generation, Request, Token
from minigpt_repl.engine.wording import Wording
from minigpt_repl.errors import UsageError
from minigpt_repl.models.text.codec import as_typed
from minigpt_repl.repl.commands.setting import undo_chain
from minigpt_repl.repl.context import (
    Context,
    Node,
    Outputs,
    Session,
    Steps,
    again_request,
    current_ids,
    inspect_text,
    is_of_this_model,
    last_node,
    last_prompted,
)
from minigpt_repl.repl.continuation import (
    SHOWN_BEFORE,
    continue_prompt,
    continue_rows,
    requests_from,
)
from minigpt_repl.repl.dispatch import command
from minigpt_repl.repl.output import AskEditor, Notice, Say
from minigpt_repl.repl.tables import NAME, STRONG
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.shown import percent, quoted, shown

if TYPE_CHECKING:
    import numpy as np

MOST_AGAIN = 100
GROWN = "--auto"
MOST_DEPTH = 8
MOST_CHILDREN = 10
MOST_GROWN = 150
"""Tokens of a tree that grows by itself; each costs a pass of the model."""
GUIDE_WIDTH = 4
LABEL_WIDTH = 30


@command("again", usage="[N]")
def again(context: Context, arguments: str) -> Steps:
    """Continue the last prompt once more, with the settings as they are now.

    With a number, that many texts together, each with a new seed. If a seed is set,
    the seeds count up from that of the last text.
    """
    node = last_prompted(context.session, ":again")
    times = read_count(arguments or "1", MOST_AGAIN, ":again takes")
    request = again_request(context, node)
    shown = _shown_of(context.session, node)
    counts_up = arguments and request.seed is not None
    seed = node.generation.seed + 1 if counts_up else None
    requests = requests_from(request, seed, times)
    session = yield from continue_rows(context, requests, shown, node.parent)
    made = session.node
    is_same = made and made.generation.token_ids == node.generation.token_ids
    if is_same and times == 1:
        yield Notice(_why_the_same(request))
    return session


@command("continue")
def go_on(context: Context, arguments: str) -> Steps:
    """Go on from the end of the last text, by its exact tokens."""
    node = last_node(context.session, ":continue")
    return (yield from _continued(context, node.text, node.generation, node.id))


def _continued(
    context: Context, text: str, made: Generation, parent: int | None
) -> Steps:
    """Go on from a text that ends in some tokens, or from its words where another
    model made them."""
    request = context.session.settings.request(text)
    if is_of_this_model(context, made):
        request = replace(request, prompt_ids=made.whole_ids)
    shown_before = ending(text, SHOWN_BEFORE)
    return (yield from continue_rows(context, [request], shown_before, parent))


@command("undo")
def undo(context: Context, arguments: str) -> Steps:
    """Drop the newest text, or take back what :chain did since."""
    session = context.session
    if session.edits and session.edits[-1][0] >= len(session.nodes):
        return (yield from undo_chain(context))
    if not session.nodes:
        raise UsageError(":undo: there is no text to drop")
    *rest, dropped = session.nodes
    current = session.current
    if current == dropped.id:
        current = dropped.parent or (rest[-1].id if rest else None)
    words = quoted(ending(dropped.text, 40))
    yield Notice(f"dropped text {dropped.id}: {words}")
    return replace(session, nodes=tuple(rest), current=current)


@command("raw")
def raw(context: Context, arguments: str) -> Outputs:
    """Show the new tokens of the last text as the model made them."""
    node = last_node(context.session, ":raw")
    words = (token.text for token in node.generation.tokens)
    yield Say(Text(shown(" ".join(words))))


@command("edit")
def edit(context: Context, arguments: str) -> Steps:
    """Edit the last prompt in $EDITOR, then continue it."""
    node = context.session.prompted
    before = "" if node is None else _shown_of(context.session, node)
    edited = yield AskEditor(before)
    prompt = as_typed(edited or "").strip()
    if not prompt:
        yield Notice("nothing to continue")
        return context.session
    return (yield from continue_prompt(context, prompt))


@command("score", usage="TEXT")
def score_text(context: Context, arguments: str) -> Steps:
    """Tell how little the model expects a text of yours.

    It becomes the current text: `:heat` shows every token's surprisal, `:why N` tells
    about one, and `:continue` goes on from it.
    """
    if not arguments:
        raise UsageError(":score takes a text")
    scored = score(context.engine, arguments)
    yield Notice(f"{scored.summary}; :heat and :why N look into it")
    made = as_generation(scored, arguments, context.engine)
    return context.session.add("", made)


def _why_the_same(request: Request) -> str:
    if find_sampler(request.sampler).is_random and request.seed is not None:
        return "the same text, because the seed is set: :unset seed draws new ones"
    return f"the same text: {describe_sampler(request)} draws nothing at random"


def _shown_of(session: Session, node: Node) -> str:
    """The part of a text's prompt that the user typed: what comes after the parent."""
    parent = None if node.parent is None else session.find(node.parent)
    if parent is None or not node.prompt.startswith(parent.text):
        return node.prompt
    typed = node.prompt.removeprefix(parent.text).strip()
    return typed or ending(node.prompt, SHOWN_BEFORE)


def node_words(context: Context, typed: str) -> Iterable[str]:
    """Numbers of the texts."""
    return (str(node.id) for node in context.session.nodes)


@command("tree", usage="[--auto [DEPTH] [CHILDREN]]")
def tree(context: Context, arguments: str) -> Outputs:
    """Draw the texts of the session as a tree, the current one marked.

    Tokens that were stepped one after the other stand in one line; `:goto N`
    goes to any of them. `:tree --auto 4 2` draws the likeliest continuations of the
    current text instead, 4 tokens deep with 2 children each, under the model alone.
    """
    if arguments.split()[:1] == [GROWN]:
        yield Say(grown_tree(context, arguments.removeprefix(GROWN)))
        return
    if arguments:
        raise UsageError(f":tree takes {GROWN} or nothing; got {quoted(arguments)}")
    last_node(context.session, ":tree")
    yield Say(draw_tree(context.session, context.width))


@command("goto", usage="N", complete=node_words)
def goto(context: Context, arguments: str) -> Steps:
    """Make another text of the tree the current one, and go on from there."""
    nodes = context.session.nodes
    node = context.session.find(read_whole(arguments) or 0)
    if node is None:
        there = f"{nodes[0].id}..{nodes[-1].id}" if nodes else "none"
        raise UsageError(
            f":goto takes the number of a text, there are {there}; "
            f"got {quoted(arguments)}"
        )
    words = quoted(ending_in_a_line(node.text))
    yield Notice(f"at text {node.id}: {words}; :continue goes on from it")
    return replace(context.session, current=node.id)


@command("branch", usage="[N [TOKEN]]")
def branch(context: Context, arguments: str) -> Steps:
    """Cut the current text after N of its new tokens, and go on from there.

    With a token, such as `:branch 3 king`, that one stands in the place of token N.
    Both texts stay in the tree. Without N it is cut where the model was least sure.
    """
    text = inspect_text(context, ":branch")
    node = last_node(context.session, ":branch")
    made, info = node.generation, context.engine.info
    number, _, word = arguments.strip().partition(" ")
    count = len(made.tokens)
    if arguments:
        kept = read_count(number, count, ":branch takes", ", the tokens to keep")
    else:
        shares = map(inspection.probabilities, text.rows)
        unsure = [inspection.entropy(share) for share in shares]
        kept = max(range(count), key=unsure.__getitem__)
        yield Notice(f"cut after token {kept} of {count}, before the least sure")
    start = made.tokens[:kept]
    if word:
        token_id = _token_named(context, word.strip(), text.rows[kept - 1])
        start = (*start[:-1], Token(token_id, info.text.piece(token_id)))
        share = inspection.probabilities(text.rows[kept - 1])[token_id]
        yield Notice(f"{visible(token_id, info)} had {percent(float(share))}")
    cut = replace(made, tokens=start)
    cut = replace(
        cut,
        text="".join(display_pieces(cut, info)),
        raw_text=info.text.raw_text(cut.token_ids),
        stop_reason="picked" if word or made.is_own_text else "interrupted",
    )
    session, parent = context.session, node.parent
    if start:
        session = session.add(node.prompt, cut, node.parent)
        parent = session.current
    place = replace(context, session=session)
    return (yield from _continued(place, node.prompt + cut.text, cut, parent))


def _token_named(context: Context, word: str, logits: "np.ndarray") -> int:
    """The token that a word is, at its place; of several the most probable one."""
    wording = Wording(context.engine.info.text, context.engine.encode)
    ways = wording.spellings(":branch", word)
    if single := [ids[0] for ids in ways if len(ids) == 1]:
        return max(single, key=logits.__getitem__)
    count = min(map(len, ways))
    raise UsageError(f":branch takes one token; {quoted(word)} is {count}")


Run = list[Node]
"""Texts of a token each that go on from one another, or a single text."""


def runs_of(session: Session) -> list[tuple[Run, Run | None]]:
    """What stands in one line of a tree, and what it goes on from."""
    runs: dict[int, list[Node]] = {}  # by id of each node in it
    parents: list[tuple[Run, Run | None]] = []
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
    return parents


def draw_tree(session: Session, width: int) -> Tree:
    """Every text under the one that it goes on from."""
    root = Tree("", hide_root=True, guide_style=FAINT)
    drawn: dict[int, Tree] = {}  # by id of the first node of a run
    for run, before in runs_of(session):
        under = root if before is None else drawn[before[0].id]
        drawn[run[0].id] = under.add(_label(run, before is None, session, width))
    return root


def _is_step(node: Node) -> bool:
    return len(node.generation.tokens) == 1


def _label(run: Sequence[Node], is_root: bool, session: Session, width: int) -> Text:
    first, last = run[0], run[-1]
    is_current = any(node.id == session.current for node in run)
    label = Text(ranges(run), style=STRONG if is_current else "")
    if is_current:
        where = "" if first is last else f" {session.current}"
        label.append(f" *{where}", style=STRONG)
    label.append(f" {maker(first.generation)}", style=f"not bold {NAME}")
    words = "".join(node.generation.text for node in run)
    if is_root:
        words = f"{first.prompt}|{words}"
    cut = beginning_in_a_line(words, max(20, width - 40))
    label.append(f" {shown(cut)}", style="not bold default")
    return label


def ranges(run: Sequence[Node]) -> str:
    """Numbers of nodes in short: `2,6-7`."""
    spans: list[list[int]] = []
    for node in run:
        if spans and node.id == spans[-1][-1] + 1:
            spans[-1][1:] = [node.id]
        else:
            spans.append([node.id])
    return ",".join("-".join(map(str, span)) for span in spans)


def grown_tree(context: Context, typed: str) -> Tree:
    """The likeliest continuations of the current text, under the model alone.

    Raises:
        UsageError: if `DEPTH CHILDREN` was typed otherwise, or is too much to draw.
    """
    most = min(MOST_DEPTH, (context.width - LABEL_WIDTH) // GUIDE_WIDTH)
    depth, children, *more = read_wholes(typed.split(), (3, 3))
    if more or not (1 <= depth <= most and 1 <= children <= MOST_CHILDREN):
        raise UsageError(
            f":tree --auto takes a depth 1..{most} and children 1..{MOST_CHILDREN}; "
            f"got {quoted(typed)}"
        )
    if sum(children**level for level in range(1, depth + 1)) > MOST_GROWN:
        raise UsageError(
            f":tree --auto draws at most {MOST_GROWN} tokens; {depth} deep with "
            f"{children} children are more"
        )
    root = Tree("", hide_root=True, guide_style=FAINT)

    def grow(under: Tree, ids: tuple[int, ...], share: float, left: int) -> None:
        logits = inspection.next_logits(context.engine, ids)
        shares = inspection.probabilities(logits)
        for token_id in inspection.top_ids(shares, children):
            word, own = visible(token_id, context.engine.info), float(shares[token_id])
            label = Text(word, style=NAME, no_wrap=True, overflow="ellipsis")
            label.append(f" {percent(own)}", style="not bold default")
            if left < depth:
                whole = percent(share * own)
                label.append(f", {whole} together", style="not bold default dim")
            branch = under.add(label)
            if left > 1:
                grow(branch, (*ids, token_id), share * own, left - 1)

    grow(root, current_ids(context), 1.0, depth)
    return root
