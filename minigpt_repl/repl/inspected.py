"""The current text with the model's scores for each of its tokens.

One call of the engine for a text. Knows the session; shows nothing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minigpt_repl.compare.pieces import display_pieces
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import Generation
from minigpt_repl.errors import UsageError
from minigpt_repl.repl.command import Desk
from minigpt_repl.repl.continuation import last_node
from minigpt_repl.repl.session import Node

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Inspected:
    """A text and what the model thought at each of its new tokens.

    Attributes:
        node: the text.
        rows: logits `(tokens, vocabulary)`, each from before its token.
        pieces: display form of each token, with the space before it.
    """

    node: Node
    rows: "np.ndarray"
    pieces: tuple[str, ...]

    @property
    def generation(self) -> Generation:
        """How the text was made."""
        return self.node.generation


def node_of_this_model(desk: Desk, wanted_for: str) -> Node:
    """The current text, if it has tokens of the model that is loaded.

    Raises:
        UsageError: if it is another model's, has no tokens, or there is none.
    """
    node = last_node(desk.session, wanted_for)
    if node.generation.checkpoint_sha256 != desk.engine.info.checkpoint_sha256:
        raise UsageError(
            f"{wanted_for}: another model made the last text; :again makes it anew"
        )
    if not node.generation.tokens:
        raise UsageError(f"{wanted_for}: the last text has no new tokens; :again")
    return node


def inspect_text(desk: Desk, wanted_for: str) -> Inspected:
    """The current text with the model's scores.

    Raises:
        UsageError: as `node_of_this_model`.
    """
    node = node_of_this_model(desk, wanted_for)
    made = node.generation
    logits = desk.engine.logits((*made.started.prompt_ids, *made.token_ids))
    rows = inspection.text_logits(logits, len(made.tokens))
    return Inspected(node, rows, tuple(display_pieces(made, desk.engine.info)))


def current_ids(desk: Desk) -> tuple[int, ...]:
    """Tokens of the whole current text; none before the first text."""
    node = desk.session.node
    if node is None:
        return ()
    made = node.generation
    if made.checkpoint_sha256 != desk.engine.info.checkpoint_sha256:
        return desk.engine.encode(node.text)
    return (*made.started.prompt_ids, *made.token_ids)
