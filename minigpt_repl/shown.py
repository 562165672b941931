"""Strings of others on their way out: what a terminal would obey is made visible.

Whatever comes from a model, a file or a user goes through `shown` before it is
written to a terminal, a pipe or a page. A terminal is a machine that obeys escape
sequences, and text that runs from right to left can hide what it says.
"""

import re

HIDDEN = (
    "\x00-\x08\x0b-\x1f"  # C0, but for the tab and the end of a line
    "\x7f-\x9f"  # DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the direction of text
    "\u2028\u2029"  # ends of lines that only some programs know
    "\ud800-\udfff"  # half a character: it can't be encoded
)
"""The characters, as in the brackets of a regular expression."""

_HIDDEN = re.compile(f"[{HIDDEN}]")


def shown(text: str) -> str:
    """The text with every such character written as Python would: `\\x1b`."""
    return _HIDDEN.sub(lambda found: repr(found[0])[1:-1], text)


def shown_line(text: str) -> str:
    """As `shown`, on one line: the tab and the end of a line are written too."""
    return shown(text.replace("\t", "\\t").replace("\n", "\\n"))
