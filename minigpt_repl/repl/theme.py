"""Whether there is colour, and which; the same words for a dark and a light terminal.

Only the terminal's own palette is used, so that its owner's choice of colours holds.
"""

from collections.abc import Mapping

DIM = ("\x1b[2m", "\x1b[22m")
PLAIN = ("", "")
RED = ("\x1b[31m", "\x1b[39m")

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


def wants_color(
    setting: str, environment: Mapping[str, str], is_terminal: bool
) -> bool:
    """Whether to colour: `always` and `never` as set, `auto` by where it goes.

    https://no-color.org: a `NO_COLOR` that is not empty means no colour.
    """
    if setting != "auto":
        return setting == "always"
    if not is_terminal or environment.get("NO_COLOR"):
        return False
    return not is_dumb(environment)


def is_dumb(environment: Mapping[str, str]) -> bool:
    """Whether the terminal can do no more than print."""
    return environment.get("TERM", "dumb").lower() in ("dumb", "unknown", "")


def colors(environment: Mapping[str, str]) -> dict[str, str]:
    """Styles for prompt_toolkit, by the background that the terminal reports."""
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return LIGHT if background in _LIGHT_BACKGROUNDS else DARK
