"""One spelling of every text, before anything else sees it.

Training lines and prompts go through the same function, so a prompt is spelled
as the model learned it. WordPiece splits at ASCII white space only; a no-break
or ideographic space would end up inside a vocabulary entry, and an entry that
ends in a space changes when the vocabulary is saved and loaded.
"""

import re
import unicodedata
from functools import cache

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HALF = re.compile("[\ud800-\udfff]")
_REPLACEMENT_CHARACTER = "\ufffd"

# Typed for an apostrophe so often that a space in its place would split words.
_ACUTE_ACCENT = "\u00b4"


def as_typed(text: str) -> str:
    """A text of a user or a file with nothing changed but what no text has.

    Line ends become newlines, control characters are left out, and half characters,
    as undecodable bytes of a terminal arrive, become U+FFFD. What a model can't read
    is the business of its tokenizer.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _HALF.sub(_REPLACEMENT_CHARACTER, _CONTROLS.sub("", text))


def normalize_text(text: str) -> str:
    """The text in the one spelling that the model is trained on.

    Composed characters (NFC: an accent is part of its letter, a Hangul syllable
    is one character), every Unicode space and control character a plain space,
    save tab and newline, no zero-width characters, any line end a newline. Lone
    surrogates, as undecodable bytes of a terminal arrive, become U+FFFD.
    Doing it twice changes nothing; the result can always be encoded as UTF-8.
    """
    if text.isascii() and not _CONTROLS.search(text):
        return text  # nearly every line of English prose
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Twice: the first pass turns look-alikes (U+2000, U+1FFD) into characters
    # that are known below, the second joins what a dropped character kept apart.
    text = "".join(map(_plain, unicodedata.normalize("NFC", text)))
    return unicodedata.normalize("NFC", text)


@cache
def _plain(character: str) -> str:
    """What one character is replaced by; itself in nearly every case."""
    category = unicodedata.category(character)
    if character in "\n\t":
        return character
    if category in ("Zs", "Zl", "Zp", "Cc"):
        # Controls too: old texts hold dashes of another encoding (U+0097), and
        # the words around them are two. The tokenizer splits there as well.
        return " "
    if category == "Cf":
        return ""  # byte order mark, zero-width characters, soft hyphen
    if category == "Cs":
        return _REPLACEMENT_CHARACTER  # cannot be written as UTF-8
    if character == _ACUTE_ACCENT:
        return "'"
    folded = unicodedata.normalize("NFKC", character)
    if " " in folded:
        # Lower-casing applies NFKC, which takes a spacing accent apart into a
        # space and a mark: a space inside a word, after words were split.
        return "".join(c for c in folded if not unicodedata.combining(c))
    return character
