"""What a token is: a word, a piece of one, or a mark that touches its neighbours.

Knows Unicode categories; knows no language and no state.
"""

import unicodedata
from typing import Literal

PIECE = "##"

SPACE_MARK = "·"
"""Stands for a space in front of a token where it has to be seen."""

DOUBLE_QUOTES = frozenset('"“”„‟«»')
SINGLE_QUOTES = frozenset("'’‘`‚")
SENTENCE_ENDS = frozenset(".!?…。！？")

_TIGHT = frozenset("-‐‑–—―/\\_~⁄=^@")
_CLOSERS = frozenset(",.;:!?%…°‰")
_OPENERS = frozenset("£$€¥#¿¡")

Kind = Literal["start", "word", "close", "open", "tight", "alone", "quote"]
"""A `close` mark touches what is before it, an `open` one what is behind it,
a `tight` one both, one that is `alone` neither."""


def split_piece(token: str) -> tuple[str, bool]:
    """Returns a token's characters and whether it continues the word before it."""
    if token.startswith(PIECE) and len(token) > len(PIECE):
        return token[len(PIECE) :], True
    return token, False


def is_unspaced_script(character: str) -> bool:
    """Whether a character is of Chinese or Japanese, which write no spaces.

    Hangul is not: Korean does.
    """
    code = ord(character)
    return (
        0x2E80 <= code <= 0x30FF  # radicals, punctuation, kana
        or 0x3400 <= code <= 0x4DBF
        or 0x4E00 <= code <= 0x9FFF
        or 0xF900 <= code <= 0xFAFF
        or 0xFF00 <= code <= 0xFF9F  # full and half width forms
        or 0x20000 <= code <= 0x3FFFF
    )


def kind_of(text: str) -> Kind:
    """How a token, without its `##`, behaves towards its neighbours."""
    if len(text) != 1 or text.isalnum():
        return "word"
    if text in DOUBLE_QUOTES or text in SINGLE_QUOTES:
        return "quote"
    if text in _TIGHT:
        return "tight"
    if text in _CLOSERS:
        return "close"
    if text in _OPENERS:
        return "open"
    category = unicodedata.category(text)
    if category in ("Ps", "Pi"):
        return "open"
    if category in ("Pe", "Pf") or (category == "Po" and is_unspaced_script(text)):
        return "close"
    return "alone" if category[0] in "PS" else "word"
