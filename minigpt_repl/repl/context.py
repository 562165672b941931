"""What a command has at hand, and the text that it works on."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt_repl.engine.request import Engine, Generation, Request
from minigpt_repl.errors import UsageError
from minigpt_repl.repl.output import Output
from minigpt_repl.settings import Settings

if TYPE_CHECKING:
    from minigpt_repl.compare.choice import ScoredText


@dataclass(frozen=True)
class Node:
    """One text in the tree.

    Attributes:
        id: 1 for the first text of the session, then counted up.
        parent: id of the node that it goes on from, or `None`.
        prompt: the text before the continuation, as the user sees it.
    """

    id: int
    parent: int | None
    prompt: str
    generation: Generation

    @property
    def text(self) -> str:
        """Prompt and continuation together."""
        return self.prompt + self.generation.text


@dataclass(frozen=True)
class Session:
    """A frozen value: settings, every text so far, and where in their tree the user is.

    Attributes:
        settings: what the next text is made with.
        nodes: all texts, in the order of their ids.
        current: id of the node that `:continue`, `:why` and the like mean.
        comparison: the last comparison, for `:export`.
        edits: the chains that were rearranged, as the user would type them, each with
            the number of texts there were; for `:undo`.
    """

    settings: Settings
    nodes: tuple[Node, ...] = ()
    current: int | None = None
    comparison: Any = None
    edits: tuple[tuple[int, str], ...] = ()

    @property
    def node(self) -> Node | None:
        """The current node, or `None` before the first text."""
        return None if self.current is None else self.find(self.current)

    @property
    def prompted(self) -> Node | None:
        """The current node, or where that is the user's own text, the last one that
        went on from a prompt; `None` if there is none."""
        if self.node is None or not self.node.generation.is_own_text:
            return self.node
        prompted = (n for n in reversed(self.nodes) if not n.generation.is_own_text)
        return next(prompted, None)

    def find(self, node_id: int) -> Node | None:
        """The node of that id, or `None`."""
        return next((node for node in self.nodes if node.id == node_id), None)

    def add(
        self, prompt: str, generation: Generation, parent: int | None = None
    ) -> "Session":
        """The session with one more text, which becomes the current one."""
        node_id = 1 + max((node.id for node in self.nodes), default=0)
        node = Node(node_id, parent, prompt, generation)
        return replace(self, nodes=(*self.nodes, node), current=node_id)


Steps = Generator[Output, Any, Session]
"""What a command does, output by output; it returns the session after it."""

Outputs = Generator[Output, Any, None]
"""The same of a command that leaves the session as it is."""


@dataclass(frozen=True)
class Context:
    """What a command has at hand.

    Attributes:
        engine: generates text; its calls wait until the model is loaded.
        width: columns of the terminal, or of the page if there is none.
        is_terminal: whether a person is looking.
        sources: the files that `:source` is in the middle of, outermost first.
        has_keys: whether a command can ask for single keys.
    """

    session: Session
    engine: Engine
    width: int = 80
    is_terminal: bool = False
    sources: tuple[Path, ...] = ()
    has_keys: bool = False


def again_request(context: Context, node: Node) -> Request:
    """The request for another text from where a node's text began: by the tokens that
    it went on from, if there were some and the model is still the same."""
    request = context.session.settings.request(node.prompt)
    if is_of_this_model(context, node.generation):
        return replace(request, prompt_ids=node.generation.request.prompt_ids)
    return request


def prompt_ids_of(context: Context, node: Node) -> tuple[int, ...]:
    """The tokens of a node's prompt, as the model that is loaded sees them."""
    if is_of_this_model(context, node.generation):
        return node.generation.started.prompt_ids
    return context.engine.encode(node.prompt)


def is_of_this_model(context: Context, generation: Generation) -> bool:
    """Whether the model that is loaded made a text."""
    return generation.checkpoint_sha256 == context.engine.info.checkpoint_sha256


def last_node(session: Session, wanted_for: str) -> Node:
    """The current text, which a command is wanted for."""
    return _found(session.node, wanted_for)


def last_prompted(session: Session, wanted_for: str) -> Node:
    """The text whose prompt is the last one; see `Session.prompted`."""
    return _found(session.prompted, wanted_for)


def _found(node: Node | None, wanted_for: str) -> Node:
    if node is None:
        raise UsageError(f"{wanted_for} needs a text: type a prompt first")
    return node


def inspect_text(context: Context, wanted_for: str) -> "ScoredText":
    """The current text with the scores of the model, which must have made it."""
    # Not at the start: the prompt would come a little later.
    from minigpt_repl.compare.choice import inspect

    node = last_node(context.session, wanted_for)
    if not is_of_this_model(context, node.generation):
        raise UsageError(
            f"{wanted_for}: another model made the last text; :again makes it anew"
        )
    if not node.generation.tokens:
        raise UsageError(f"{wanted_for}: the last text has no new tokens; :again")
    return inspect(context.engine, node.prompt, node.generation)


def current_ids(context: Context) -> tuple[int, ...]:
    """Tokens of the whole current text; none before the first text."""
    node = context.session.node
    if node is None:
        return ()
    if is_of_this_model(context, node.generation):
        return node.generation.whole_ids
    return context.engine.encode(node.text)
