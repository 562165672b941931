"""Plain text as people have it, made into one paragraph a line.

Books come wrapped at 70 columns, paragraphs apart by blank lines, with Project
Gutenberg's licence before and after. Knows the form of text; no files.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

# "*** START OF THE PROJECT GUTENBERG EBOOK TITLE ***", THIS in older files; a long
# title goes on in the next lines.
_BEFORE = re.compile(
    r"^\*\*\* ?START OF TH(?:E|IS) PROJECT GUTENBERG[^*]{0,400}\*\*\*[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_AFTER = re.compile(
    r"^(?:\*\*\* ?END OF TH(?:E|IS) PROJECT GUTENBERG"
    r"|End of (?:the |this )?Project Gutenberg)",
    re.MULTILINE | re.IGNORECASE,
)

_WIDEST_WRAP = 100
"""Columns: no one wraps wider."""

_FULL_LINE = 40
"""Columns: lines inside a wrapped paragraph are about this long or longer."""


def strip_gutenberg(text: str) -> str:
    """The book without Project Gutenberg's header and footer, if it has them."""
    before = _BEFORE.search(text)
    start = before.end() if before else 0
    after = _AFTER.search(text, start)
    return text[start : after.start() if after else len(text)]


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each as one line; blank ones are left out.

    If the text is wrapped, lines up to the next blank line are joined; else each
    line is a paragraph of its own.
    """
    lines = [line.strip() for line in text.split("\n")]
    if not is_wrapped(lines):
        return [line for line in lines if line]
    return [_join(block) for block in _blocks(lines)]


def is_wrapped(lines: Sequence[str]) -> bool:
    """Whether lines are pieces of paragraphs rather than paragraphs.

    They are if nearly all are narrow, blank lines stand between blocks of several,
    and within the blocks most lines are long enough to have been cut.
    """
    blocks = list(_blocks(lines))
    inner = [_columns(line) for block in blocks for line in block[:-1]]
    last = [_columns(block[-1]) for block in blocks]
    if len(blocks) < 2 or not inner:
        return False
    wide = sum(columns > _WIDEST_WRAP for columns in inner + last)
    full = sum(columns >= _FULL_LINE for columns in inner)
    return wide <= 0.02 * len(inner + last) and full >= 0.5 * len(inner)


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*lines, ""]:
        if line:
            block.append(line)
        elif block:
            yield block
            block = []


def _join(lines: list[str]) -> str:
    joined = lines[0]
    for line in lines[1:]:
        joined += _between(joined[-2:], line[0]) + line
    return joined


def _between(end: str, start: str) -> str:
    """What stood where a line was broken: a space, in most scripts."""
    if len(end) == 2 and end[0].isalpha() and end[1] == "-":
        return ""  # a compound broken at its hyphen, not a dash
    # Chinese and Japanese have no spaces between words; Korean has.
    no_spaces = _is_wide(end[-1]) and _is_wide(start)
    hangul = "HANGUL" in unicodedata.name(end[-1], "") + unicodedata.name(start, "")
    return "" if no_spaces and not hangul else " "


def _columns(line: str) -> int:
    if line.isascii():
        return len(line)
    return sum(1 + _is_wide(character) for character in line)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"
