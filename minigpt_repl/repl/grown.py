"""A tree that grows by itself: the likeliest continuations of a text."""

from typing import NamedTuple

from rich.text import Text
from rich.tree import Tree

from minigpt_repl.compare.pieces import visible
from minigpt_repl.compare.spec import read_whole
from minigpt_repl.engine import inspection
from minigpt_repl.errors import UsageError
from minigpt_repl.repl.context import Context, current_ids
from minigpt_repl.repl.tables import FAINT, NAME
from minigpt_repl.shown import as_share, quoted

MOST_DEPTH = 8
MOST_CHILDREN = 10
MOST_GROWN = 150
"""Tokens of a tree that grows by itself; each costs a pass of the model."""
GUIDE_WIDTH = 4
LABEL_WIDTH = 30


class Likely(NamedTuple):
    """A token that may come next, and its probability."""

    id: int
    word: str
    share: float


def grown_tree(context: Context, arguments: str) -> Tree:
    """The likeliest continuations of the current text, under the model alone.

    Args:
        context: with the text.
        arguments: `--auto [DEPTH] [CHILDREN]`.

    Raises:
        UsageError: for numbers that are not allowed.
    """
    depth, children = _read_growth(arguments, context.width)
    root = Tree("", hide_root=True, guide_style=FAINT)

    def grow(under: Tree, ids: tuple[int, ...], share: float, left: int) -> None:
        for token in _likeliest(context, ids, children):
            label = Text(token.word, style=NAME, no_wrap=True, overflow="ellipsis")
            label.append(f" {as_share(token.share)}", style="not bold default")
            if left < depth:
                whole = as_share(share * token.share)
                label.append(f", {whole} together", style="not bold default dim")
            branch = under.add(label)
            if left > 1:
                grow(branch, (*ids, token.id), share * token.share, left - 1)

    grow(root, current_ids(context), 1.0, depth)
    return root


def _likeliest(context: Context, ids: tuple[int, ...], count: int) -> list[Likely]:
    """The most probable next tokens."""
    info = context.engine.info
    shares = inspection.probabilities(context.engine.logits(ids)[-1])
    best = inspection.top_ids(shares, count)
    return [Likely(i, visible(i, info), float(shares[i])) for i in best]


def _read_growth(arguments: str, width: int) -> tuple[int, int]:
    """Depth and children of a tree that grows by itself."""
    numbers = [read_whole(word) or 0 for word in arguments.split()[1:]]
    depth, children = [*numbers, *(3, 3)[len(numbers) :]][:2]
    most = min(MOST_DEPTH, (width - LABEL_WIDTH) // GUIDE_WIDTH)
    if len(numbers) > 2 or not 1 <= depth <= most or not 1 <= children <= MOST_CHILDREN:
        raise UsageError(
            f":tree --auto takes a depth 1..{most} and children 1..{MOST_CHILDREN}; "
            f"got {quoted(arguments)}"
        )
    if sum(children**level for level in range(1, depth + 1)) > MOST_GROWN:
        raise UsageError(
            f":tree --auto draws at most {MOST_GROWN} tokens; {depth} deep with "
            f"{children} children are more"
        )
    return depth, children
