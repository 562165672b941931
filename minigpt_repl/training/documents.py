"""What a document is in a text: file, paragraph or line; and which are for validation.

A document is what has an end of its own.
"""

import hashlib
import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from minigpt_repl.formats import DocumentKind
from minigpt_repl.models.text.bytelevel import BETWEEN

_LONG = 80  # characters: a longer line may be a sentence, with any mark of prose

_MARKED_UP = re.compile(r"[=<>{}\[\]|\t]|://|,\w")
_STRUCTURED = re.compile(rf"{_MARKED_UP.pattern}|[:;]")
_FEW = 20  # documents: of fewer than these parts are for validation, not whole ones

# Every 20th block of neighbours is for validation: 5%. Blocks, since next to a
# paragraph one knows much of it; not one at the end, which may be notes.
_VALIDATED = 20
_SMALLEST_BLOCK, _LARGEST_BLOCK = 64, 20_000  # characters of a part
_MOST_NEIGHBOURS = 50

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

_WIDEST_WRAP = 100  # columns: no one wraps wider
_FULL_LINE = 40  # columns: of most lines inside a wrapped paragraph, or more


@dataclass(frozen=True)
class Lines:
    """Lines, normalized, one paragraph each; or documents, or parts of them, as they
    were written."""

    texts: tuple[str, ...]
    ends: tuple[bool, ...] = ()  # whether a document ends with each

    @cached_property
    def size(self) -> int:
        """UTF-8 bytes, the ends of lines not with them."""
        return sum(len(text.encode("utf-8")) for text in self.texts)

    @cached_property
    def sha256(self) -> str:
        """Tells these lines from all others."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(f"{text}\n".encode())
        digest.update(bytes(self.ends))
        return digest.hexdigest()


def find_kind(texts: Sequence[str]) -> DocumentKind:
    """What a document is in the texts of a corpus' files."""
    if len(texts) != 1:
        return "file"
    (text,) = texts
    lines = text.split("\n")
    full = [line for line in lines if line.strip()]
    if len(full) < 2:
        return "file"
    if _stand_in_blocks([line.strip() for line in lines]):
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


def split_documents(texts: Sequence[str], kind: DocumentKind) -> list[str]:
    """The documents of texts, as they were written; blank ones are left out."""
    if kind in BETWEEN:
        texts = [
            each for text in texts for each in BETWEEN[kind].split(text.strip("\n"))
        ]
    return [text for text in texts if text.strip()]


def split_for_validation(
    documents: Sequence[str], may_cut: bool = False
) -> tuple[Lines, Lines]:
    """Training and validation lines: about every 20th, in blocks of neighbours.

    The same documents are always split alike. Of two or more, at least one is for
    validation. With `may_cut`, of a few documents parts are put aside: they are cut at
    the end of a paragraph, a line or a word, and what is left for training between two
    cuts stays together.
    """
    count = len(documents)
    if may_cut and count < _FEW:
        size = sum(map(len, documents)) // (3 * _VALIDATED)
        size = min(max(size, _SMALLEST_BLOCK), _LARGEST_BLOCK)
        parts = [
            (n, part) for n, text in enumerate(documents) for part in cut(text, size)
        ]
        neighbours = 1
    else:
        parts = [*enumerate(documents)]
        neighbours = max(1, min(_MOST_NEIGHBOURS, count // (5 * _VALIDATED)))
    blocks = (place // neighbours for place in range(len(parts)))
    is_valid = [block % _VALIDATED == _VALIDATED - 1 for block in blocks]
    if len(parts) > 1 and not any(is_valid):
        is_valid[-1] = True
    ends = {number: place for place, (number, _) in enumerate(parts)}
    sides: tuple[list[tuple[str, bool]], ...] = ([], [])  # training, validation
    last = None
    for place, (number, text) in enumerate(parts):
        side = sides[is_valid[place]]
        if last == (number, is_valid[place]):
            text = side.pop()[0] + text
        side.append((text, place == ends[number]))
        last = (number, is_valid[place])
    train, valid = (
        Lines(tuple(text for text, _ in side), tuple(is_end for _, is_end in side))
        for side in sides
    )
    return train, valid


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

    They are if they stand in blocks of long ones, and most end where the next word had
    no room. Verse, and what people say to each other, end before.
    """
    if not _stand_in_blocks(lines):
        return False
    pairs = [each for block in _blocks(lines) for each in itertools.pairwise(block)]
    width = sorted(_columns(line) for line, _ in pairs)[9 * (len(pairs) - 1) // 10]
    cut = sum(
        _is_hyphenated(line) or _columns(f"{line} {following.split()[0]}") > width
        for line, following in pairs
    )
    return cut >= 0.6 * len(pairs)


def _stand_in_blocks(lines: Sequence[str]) -> bool:
    """Whether blank lines part blocks of several, most of them long, but not wide."""
    blocks = _blocks(lines)
    inner = [_columns(line) for block in blocks for line in block[:-1]]
    last = [_columns(block[-1]) for block in blocks]
    if len(blocks) < 2 or not inner:
        return False
    wide = sum(columns > _WIDEST_WRAP for columns in inner + last)
    full = sum(columns >= _FULL_LINE for columns in inner)
    return wide <= 0.02 * len(inner + last) and full >= 0.5 * len(inner)


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """Lines that stand together, between empty ones."""
    grouped = itertools.groupby(lines, bool)
    return [list(block) for is_full, block in grouped if is_full]


def _join(lines: list[str]) -> str:
    joined = lines[0]
    for line in lines[1:]:
        joined += _between(joined, line[0]) + line
    return joined


def _is_hyphenated(line: str) -> bool:
    """Whether a compound is broken at its hyphen; a dash has no letter before it."""
    return line.endswith("-") and line[-2:-1].isalpha()


def _between(before: str, start: str) -> str:
    """What stood where a line was broken: a space, in most scripts."""
    if _is_hyphenated(before):
        return ""
    # Chinese and Japanese have no spaces between words; Korean has.
    no_spaces = _is_wide(before[-1]) and _is_wide(start)
    hangul = "HANGUL" in unicodedata.name(before[-1], "") + unicodedata.name(start, "")
    return "" if no_spaces and not hangul else " "


def _columns(line: str) -> int:
    if line.isascii():
        return len(line)
    return sum(1 + _is_wide(character) for character in line)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"
