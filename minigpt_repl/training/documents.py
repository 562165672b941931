"""What a document is in a text that is kept as it was written: file, paragraph, line.

A document is what has an end of its own. Nothing of it is changed. Knows text; no
tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["file", "paragraph", "line"]
KINDS: tuple[Kind, ...] = ("file", "paragraph", "line")

_LONG = 80
"""Characters: a longer line may be a sentence or more, with any mark of prose."""

_MARKED_UP = re.compile(r"[=<>{}\[\]|\t]|://|,\w")
_STRUCTURED = re.compile(rf"{_MARKED_UP.pattern}|[:;]")
_FEW = 20
"""Documents: of fewer than these parts are put aside for validation, not whole ones."""

_VALIDATED = 20
_SMALLEST_BLOCK, _LARGEST_BLOCK = 64, 20_000


@dataclass(frozen=True)
class Piece:
    """A part of a document that is trained on, or validated with, as a whole.

    Attributes:
        text: as it was written.
        is_end: whether the document ends with it.
    """

    text: str
    is_end: bool


def find_kind(texts: Sequence[str], is_wrapped: bool) -> Kind:
    """What a document is in the texts of a corpus' files.

    Args:
        texts: what the files hold.
        is_wrapped: whether the lines of the first are cut paragraphs or speeches.
    """
    if len(texts) != 1:
        return "file"
    (text,) = texts
    lines = text.split("\n")
    full = [line for line in lines if line.strip()]
    if len(full) < 2:
        return "file"
    if is_wrapped:
        return "paragraph"
    count = len(full)
    indented = sum(line[0].isspace() for line in full)
    structured = sum(_is_structured(line) for line in full)
    if indented > 0.05 * count or structured > 0.1 * count:
        return "file"  # code, a table, a conversation: what is above a line matters
    # Paragraphs and stanzas stand apart, entries of a list do not.
    return "paragraph" if len(lines) - len(full) > 0.05 * count + 1 else "line"


def _is_structured(line: str) -> bool:
    pattern = _STRUCTURED if len(line) <= _LONG else _MARKED_UP
    return pattern.search(line) is not None


def split_documents(texts: Sequence[str], kind: Kind) -> list[str]:
    """The documents of texts, as they were written; blank ones are left out."""
    documents: list[str] = []
    for text in texts:
        if kind == "line":
            documents += text.split("\n")
        elif kind == "paragraph":
            documents += re.split(r"\n(?:[^\S\n]*\n)+", text.strip("\n"))
        else:
            documents.append(text)
    return [document for document in documents if document.strip()]


def in_blocks(documents: Sequence[str]) -> tuple[list[Piece], list[Piece]]:
    """Training and validation pieces of a few documents: 5% in parts of each.

    Documents are cut at the end of a paragraph, a line or a word. What is left for
    training between two cuts stays together.
    """
    size = sum(map(len, documents)) // (3 * _VALIDATED)
    size = min(max(size, _SMALLEST_BLOCK), _LARGEST_BLOCK)
    blocks = [
        (n, block) for n, text in enumerate(documents) for block in cut(text, size)
    ]
    count = len(blocks)
    sides = [place % _VALIDATED == _VALIDATED - 1 for place in range(count)]
    if count > 1 and not any(sides):
        sides[-1] = True
    train: list[Piece] = []
    valid: list[Piece] = []
    last = None
    for place, (number, block) in enumerate(blocks):
        is_end = place + 1 == count or blocks[place + 1][0] != number
        side = valid if sides[place] else train
        if last == (number, sides[place]):
            block = side.pop().text + block
        side.append(Piece(block, is_end))
        last = (number, sides[place])
    return train, valid


def has_few(documents: Sequence[str]) -> bool:
    """Whether parts of documents are put aside rather than whole ones."""
    return len(documents) < _FEW


def cut(text: str, size: int) -> list[str]:
    """A text in parts of about `size` characters; put together they are the text."""
    parts = []
    start = 0
    while len(text) - start > 1.5 * size:
        end = start + size
        for mark in ("\n\n", "\n", " "):
            found = text.rfind(mark, start + size // 2 + 1, end)
            if found >= 0:
                end = found + (0 if mark == " " else len(mark))
                break
        parts.append(text[start:end])
        start = end
    return [*parts, text[start:]]
