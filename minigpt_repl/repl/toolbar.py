"""The line at the foot of the terminal, and the colours of the line editor.

The line tells what the next text is made with and how the engine is. Pure: from a
session and the engine's state to styled words. Only the terminal's own palette is
used, so that its owner's choice of colours holds.
"""

from collections.abc import Mapping

from minigpt_repl.engine.remote import State, Status
from minigpt_repl.engine.request import EngineInfo
from minigpt_repl.paths import PACKAGE
from minigpt_repl.repl.session import Node, Session
from minigpt_repl.sampling.parameters import format_value
from minigpt_repl.shown import shown_line

DARK = {
    "prompt": "bold ansibrightcyan",
    "continuation": "ansibrightblack",
    "auto-suggestion": "ansibrightblack",
    "bottom-toolbar": "noreverse bg:ansiblack ansiwhite",
    "bottom-toolbar.strong": "bold ansibrightcyan",
    "bottom-toolbar.busy": "ansibrightyellow",
    "bottom-toolbar.bad": "bold ansibrightred",
    "completion-menu.completion": "bg:ansibrightblack ansiwhite",
    "completion-menu.completion.current": "bg:ansicyan ansiblack",
    "completion-menu.meta.completion": "bg:ansibrightblack ansiwhite",
    "completion-menu.meta.completion.current": "bg:ansicyan ansiblack",
}
LIGHT = {
    "prompt": "bold ansiblue",
    "continuation": "ansibrightblack",
    "auto-suggestion": "ansibrightblack",
    "bottom-toolbar": "noreverse bg:ansiwhite ansiblack",
    "bottom-toolbar.strong": "bold ansiblue",
    "bottom-toolbar.busy": "bold ansimagenta",
    "bottom-toolbar.bad": "bold ansired",
    "completion-menu.completion": "bg:ansiwhite ansiblack",
    "completion-menu.completion.current": "bg:ansiblue ansiwhite",
    "completion-menu.meta.completion": "bg:ansiwhite ansiblack",
    "completion-menu.meta.completion.current": "bg:ansiblue ansiwhite",
}

_LIGHT_BACKGROUNDS = ("7", "15")

Fragment = tuple[str, str]
"""A style class of prompt_toolkit and the words that have it."""

SEPARATOR = " · "
BUSY: dict[State, str] = {
    "stopped": "engine not running",
    "starting": "starting",
    "loading": "loading",
    "warming": "ready, warming",
    "ready": "ready",
    "failed": "not loaded",
}
STYLES: dict[State, str] = {
    "failed": ".bad",
    "stopped": ".bad",
    "ready": "",
    "warming": "",
}


def toolbar(
    session: Session, directory: str, status: Status, columns: int
) -> list[Fragment]:
    """The toolbar's words, as many as fit.

    Where there is little room, the first of these go: checkpoint, seed, speed,
    context, parameters. The sampler and the engine's state stay.
    """
    settings = session.settings
    values = settings.parameters()
    shown = " ".join(
        f"{k}={format_value(v)}" for k, v in values.items() if v is not None
    )
    name = settings.sampler.name
    if settings.sampler.stages:
        name, shown = settings.sampler.text(values), ""
    seed = settings.value("seed")
    node = session.node
    # By importance, the least one first: (place, style, words).
    parts = [
        (0, "", _name_of(directory)),
        (3, "", "" if seed is None else f"seed {seed}"),
        (5, "", "" if node is None else _speed(node)),
        (
            4,
            "",
            "" if node is None or status.info is None else _context(node, status.info),
        ),
        (2, "", shown),
        (6, STYLES.get(status.state, ".busy"), BUSY[status.state]),
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


def _name_of(directory: str) -> str:
    parts = directory.rstrip("/").split("/")
    return shown_line(parts[-1] or str(PACKAGE))


def _context(node: Node, info: EngineInfo) -> str:
    """Positions that the current text takes up, `[BOS]` included."""
    generation = node.generation
    used = 1 + len(generation.started.prompt_ids) + len(generation.tokens)
    return f"{min(used, info.context_length)}/{info.context_length}"


def _speed(node: Node) -> str:
    speed = node.generation.tokens_per_second
    return f"{speed:.0f} tokens/s" if speed else ""


def colors(environment: Mapping[str, str]) -> dict[str, str]:
    """Styles for prompt_toolkit, by the background that the terminal reports."""
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return LIGHT if background in _LIGHT_BACKGROUNDS else DARK
