"""What a session holds: settings and a tree of texts, as frozen values; and as a file.

`formats.Session` is the file's shape. What fits the shape may still not fit
together: a text before its parent, a sampler or a value that does not exist. That is
told here, so that a damaged or foreign file gives one line and never half a session.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec.structs import asdict, astuple

from minigpt_repl import formats
from minigpt_repl.engine.request import (
    Generation,
    Request,
    Started,
    Timings,
    Token,
    TokenScore,
)
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.models.text.normalize import as_typed
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.settings import Settings
from minigpt_repl.shown import quoted


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


OF_THE_TERMINAL = ("color", "keys")
"""Settings that belong to the user's terminal and not to a session."""


def dump_session(session: Session) -> str:
    """The text of a saved session. The last comparison is not part of it."""
    settings = session.settings
    names = [name for name in settings.names() if name not in OF_THE_TERMINAL]
    content = formats.Session(
        version=1,
        settings={name: settings.shown(name) for name in names},
        current=session.current,
        turns=msgspec.convert(
            session.nodes, tuple[formats.Turn, ...], from_attributes=True
        ),
    )
    return formats.encode(content, indent=True) + "\n"


def is_saved_session(text: str) -> bool:
    """Whether a file's content is a saved session, of any version."""
    return formats.is_one(text, formats.Session)


def parse_session(text: str, name: str, settings: Settings) -> Session:
    """The session that a file holds.

    Args:
        text: the file's content.
        name: of the file, for messages.
        settings: of the present session; what the file does not say stays.

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
        if value != unset.shown(key):
            layer[key] = value
    return Settings({**settings.layers, "set": layer}, settings.limits)


def _read_turn(turn: formats.Turn, earlier: dict[int, Node]) -> Node:
    if turn.id <= next(reversed(earlier), 0):
        raise UsageError(f"turn {turn.id} does not come after the one before")
    if turn.parent is not None and turn.parent not in earlier:
        raise UsageError(
            f"turn {turn.id}: its parent {turn.parent} does not come before it"
        )
    try:
        generation = _read_generation(turn.generation)
    except UsageError as error:
        raise UsageError(f"turn {turn.id}: {error}") from None
    return Node(turn.id, turn.parent, as_typed(turn.prompt), generation)


def _read_generation(saved: formats.SavedGeneration) -> Generation:
    spec = find_sampler(saved.request.sampler)
    asked = {
        "prompt": as_typed(saved.request.prompt),
        "sampler": spec.name,
        "parameters": spec.check(saved.request.parameters),
    }
    unknown_words = tuple(map(as_typed, saved.started.unknown_words))
    made = {
        "request": Request(**(asdict(saved.request) | asked)),
        "started": Started(
            **(asdict(saved.started) | {"unknown_words": unknown_words})
        ),
        "tokens": tuple(map(_read_token, saved.tokens)),
        "text": as_typed(saved.text),
        "raw_text": as_typed(saved.raw_text),
        "timings": Timings(**asdict(saved.timings)),
    }
    return Generation(**(asdict(saved) | made))


def _read_token(token: formats.SavedToken) -> Token:
    figures = () if token.score is None else astuple(token.score)
    # A figure that was NaN or infinite is null in the file: scored anew when needed.
    score = TokenScore(*figures) if figures and None not in figures else None
    return Token(token.id, as_typed(token.text), score)
