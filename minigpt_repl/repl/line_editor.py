"""The parts of the line editor: its toolbar, its colours, its keys, its completion.

The toolbar tells what the next text is made with and how the engine is. Only the
terminal's own palette is used, so that its owner's choice of colours holds.
"""

from collections.abc import Callable, Iterable, Mapping

from prompt_toolkit.application import get_app
from prompt_toolkit.completion import (
    CompleteEvent,
    Completer,
    Completion,
    get_common_complete_suffix,
)
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import emacs_insert_mode, has_focus, vi_insert_mode
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from minigpt_repl.engine.request import EngineInfo, State, Status
from minigpt_repl.paths import PACKAGE
from minigpt_repl.repl.context import Context, Node, Session
from minigpt_repl.repl.dispatch import whole_input
from minigpt_repl.sampling.parameters import format_values
from minigpt_repl.shown import in_tokens_per_second, shortened, shown_line

CONTINUATION = ". "

_MENU = ("bg:ansibrightblack ansiwhite", "bg:ansiwhite ansiblack")
_MENU_CURRENT = ("bg:ansicyan ansiblack", "bg:ansiblue ansiwhite")
_STRONG = ("bold ansibrightcyan", "bold ansiblue")
_FAINT = ("ansibrightblack", "ansibrightblack")
_COLORS = {
    "prompt": _STRONG,
    "continuation": _FAINT,
    "auto-suggestion": _FAINT,
    "bottom-toolbar": (
        "noreverse bg:ansiblack ansiwhite",
        "noreverse bg:ansiwhite ansiblack",
    ),
    "bottom-toolbar.strong": _STRONG,
    "bottom-toolbar.busy": ("ansibrightyellow", "bold ansimagenta"),
    "bottom-toolbar.bad": ("bold ansibrightred", "bold ansired"),
    "completion-menu.completion": _MENU,
    "completion-menu.completion.current": _MENU_CURRENT,
    "completion-menu.meta.completion": _MENU,
    "completion-menu.meta.completion.current": _MENU_CURRENT,
}
"""Styles on a dark and on a light background."""

_LIGHT_BACKGROUNDS = ("7", "15")

Fragment = tuple[str, str]
"""A style class of prompt_toolkit and the words that have it."""

SEPARATOR = " · "
STATES: dict[State, tuple[str, str]] = {
    "stopped": (".bad", "engine not running"),
    "starting": (".busy", "starting"),
    "loading": (".busy", "loading"),
    "warming": ("", "ready, warming"),
    "ready": ("", "ready"),
    "failed": (".bad", "not loaded"),
}
"""Style and words of an engine's state."""


def toolbar(
    session: Session, directory: str, status: Status, columns: int
) -> list[Fragment]:
    """The toolbar's words, as many as fit.

    Where there is little room, the first of these go: checkpoint, seed, speed,
    context, parameters. The sampler and the engine's state stay.
    """
    settings, node = session.settings, session.node
    values = settings.parameters()
    name, shown = settings.sampler.name, format_values(values)
    style, state = STATES[status.state]
    if settings.sampler.stages:
        room = columns - len(SEPARATOR) - len(state)
        name, shown = settings.sampler.text(values), ""
        if len(name) > room:
            name = shortened(settings.sampler.name, max(room - len("..."), 1))
    seed, speed, used = settings.value("seed"), 0.0, ""
    if node is not None:
        speed = node.generation.tokens_per_second
        used = "" if status.info is None else _context(node, status.info)
    # By importance, the least one first: (place, style, words).
    parts = [
        (0, "", shown_line(directory.rstrip("/").split("/")[-1] or str(PACKAGE))),
        (3, "", "" if seed is None else f"seed {seed}"),
        (5, "", in_tokens_per_second(speed) if speed else ""),
        (4, "", used),
        (2, "", shown),
        (6, style, state),
        (1, ".strong", name),
    ]
    parts = [part for part in parts if part[2]]
    while len(parts) > 1 and _width([words for _, _, words in parts]) > columns:
        del parts[0]
    fragments: list[Fragment] = []
    for place, style, words in sorted(parts):
        if fragments:
            # The parameters belong to the sampler's name.
            fragments.append(("", " " if place == 2 else SEPARATOR))
        fragments.append((f"class:bottom-toolbar{style}", words))
    return fragments


def _width(words: list[str]) -> int:
    return sum(map(len, words)) + len(SEPARATOR) * (len(words) - 1)


def _context(node: Node, info: EngineInfo) -> str:
    """Positions that the current text takes up, the start token included."""
    generation = node.generation
    used = 1 + len(generation.started.prompt_ids) + len(generation.tokens)
    return f"{min(used, info.context_length)}/{info.context_length}"


def colors(environment: Mapping[str, str]) -> dict[str, str]:
    """Styles for prompt_toolkit, by the background that the terminal reports."""
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    place = int(background in _LIGHT_BACKGROUNDS)
    return {name: styles[place] for name, styles in _COLORS.items()}


def make_keys() -> KeyBindings:
    """Key bindings of the line editor, for emacs and vi keys."""
    keys = KeyBindings()
    is_inserting = emacs_insert_mode | vi_insert_mode
    at_line = has_focus(DEFAULT_BUFFER)

    @keys.add("enter", filter=at_line)
    def _(event: KeyPressEvent) -> None:
        """Send the line; in an open block, begin another."""
        buffer = event.current_buffer
        if whole_input(buffer.text) is None:
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("tab", filter=at_line & is_inserting)
    def _(event: KeyPressEvent) -> None:
        """Complete as far as it is certain, then offer the rest."""
        buffer = event.current_buffer
        if buffer.complete_state is not None:
            buffer.complete_next()
            return
        # prompt_toolkit's own forgets the key while it looks for what to offer.
        document = buffer.document
        asked = CompleteEvent(completion_requested=True)
        found = list(buffer.completer.get_completions(document, asked))
        if len(found) == 1:
            buffer.apply_completion(found[0])
        elif found:
            buffer.insert_text(get_common_complete_suffix(document, found))
            buffer.start_completion()

    @keys.add("escape", "enter", filter=at_line & is_inserting)
    def _(event: KeyPressEvent) -> None:
        """A new line in the prompt."""
        event.current_buffer.newline(copy_margin=False)

    @keys.add("c-c", filter=at_line)
    @keys.add("<sigint>")
    def _(event: KeyPressEvent) -> None:
        """Clear the line; on an empty one, let the loop decide."""
        buffer = event.app.current_buffer
        if get_app().layout.has_focus(DEFAULT_BUFFER) and buffer.text:
            buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt(), style="class:aborting")

    return keys


class LineCompleter(Completer):
    """Offers what `completion.py` finds."""

    def __init__(self, context: Callable[[], Context]) -> None:
        self._context = context

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        before = document.text_before_cursor
        if not before.startswith(":"):
            return
        import minigpt_repl.repl.commands  # noqa: F401 - fills the table of commands
        from minigpt_repl.repl.completion import complete

        for candidate in complete(before, self._context()):
            yield Completion(
                candidate.text,
                start_position=candidate.start - len(before),
                display=shown_line(candidate.text),
                display_meta=shown_line(candidate.meaning),
            )


def continuation(width: int, line: int, is_soft: int) -> StyleAndTextTuples:
    """What stands before a further line of the input."""
    return [("class:continuation", " " * width if is_soft else CONTINUATION)]


NAMED_KEYS = {
    "enter": "enter",
    "c-j": "enter",
    "backspace": "backspace",
    "left": "left",
    "tab": "tab",
    "escape": "escape",
    "c-c": "escape",
    "c-d": "escape",
    "<sigint>": "escape",
}


def any_key() -> KeyBindings:
    """Key bindings that end an application with the first key."""
    keys = KeyBindings()

    def bind(key: str, name: str) -> None:
        @keys.add(key)
        def _(event: KeyPressEvent) -> None:
            event.app.exit(result=name)

    for key, name in NAMED_KEYS.items():
        bind(key, name)

    @keys.add("<any>")
    def _(event: KeyPressEvent) -> None:
        """A character; other keys, and what a terminal answers, are none."""
        if len(event.data) == 1 and event.data.isprintable():
            event.app.exit(result=event.data)

    return keys
