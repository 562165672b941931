"""What a session holds: settings and a tree of texts, as frozen values."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from minigpt_repl.engine.request import Generation
from minigpt_repl.settings import Settings


@dataclass(frozen=True)
class Node:
    """One text in the tree.

    Attributes:
        id: 1 for the first text of the session, then counted up.
        parent: the node that it goes on from, or `None`.
        prompt: the text before the continuation, as the user sees it.
        generation: the continuation and how it was made.
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
    """Settings, every text so far, and where in their tree the user is.

    Attributes:
        settings: what the next text is made with.
        nodes: all texts, by id in order.
        current: id of the node that `:continue`, `:why` and the like mean.
        comparison: the last comparison, for `:export`.
    """

    settings: Settings
    nodes: tuple[Node, ...] = ()
    current: int | None = None
    comparison: Any = None

    @property
    def node(self) -> Node | None:
        """The current node, or `None` before the first text."""
        return None if self.current is None else self.find(self.current)

    def find(self, node_id: int) -> Node | None:
        """The node of that id, or `None`."""
        return next((node for node in self.nodes if node.id == node_id), None)

    def path(self) -> Iterator[Node]:
        """The current node and its ancestors, the current one first."""
        known = {node.id: node for node in self.nodes}
        node = self.node
        while node is not None:
            yield node
            node = None if node.parent is None else known[node.parent]

    def add(
        self, prompt: str, generation: Generation, parent: int | None = None
    ) -> "Session":
        """The session with one more text, which becomes the current one."""
        node_id = 1 + max((node.id for node in self.nodes), default=0)
        node = Node(node_id, parent, prompt, generation)
        return replace(self, nodes=(*self.nodes, node), current=node_id)

    def with_settings(self, settings: Settings) -> "Session":
        """The session with other settings."""
        return replace(self, settings=settings)
