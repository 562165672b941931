"""The training text: lines to train on, and lines to validate with.

SimpleBooks' own layout is taken as it is, and any other text in the documents that
`documents.py` finds, as it was written. For WordPiece, which loses spaces anyway, it is
made into one paragraph a line. Books come wrapped at 70 columns, paragraphs apart by
blank lines, with Project Gutenberg's licence before and after. Knows text; no
vocabulary, no tokens, no model.
"""

import hashlib
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from minigpt_repl.errors import CorpusError
from minigpt_repl.models.text.normalize import normalize_text
from minigpt_repl.training import documents
from minigpt_repl.training.encodings import decoded
from minigpt_repl.training.progress import Progress, SilentProgress
from minigpt_repl.training.sources import (
    SIMPLEBOOKS_URL,
    Document,
    Source,
    is_url,
    open_source,
)

Tokenizer = Literal["bpe", "wordpiece", "byte"]
TOKENIZERS: tuple[Tokenizer, ...] = ("bpe", "wordpiece", "byte")

SIMPLEBOOKS_MIN_LENGTH = 512
"""The reference keeps lines longer than this; in bytes, as TensorFlow counts."""

MIN_LENGTH = 16
"""For any other text: headings and page numbers are shorter."""

_TRAIN, _VALID = "simplebooks-92-raw/train.txt", "simplebooks-92-raw/valid.txt"

# Every 20th block of neighbouring paragraphs is for validation: 5%. Blocks, since
# next to a paragraph one knows much of it; not one at the end, which may be notes.
_BLOCKS_A_VALIDATION = 20
_LARGEST_BLOCK = 50

_LINES_A_REPORT = 5000

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


@dataclass(frozen=True)
class Corpus:
    """Lines of text, normalized, one paragraph each; or documents as they were written.

    Attributes:
        source: as the user named it, in a few words.
        name: what it is called, without where it lay; see `public_name`.
        sha256: of what the source holds.
        min_length: UTF-8 bytes; longer lines were kept.
        train: the lines to train on.
        valid: the lines to validate with.
        lines_read: how many lines there were before the filter, of both.
        tokenizer: the kind that the text was made ready for.
        document: what has an end that can be learned; `None` for lines without.
        train_ends: whether a document ends with each line to train on.
        valid_ends: the same of those to validate with.
    """

    source: str
    name: str
    sha256: str
    min_length: int
    train: tuple[str, ...]
    valid: tuple[str, ...]
    lines_read: int
    tokenizer: Tokenizer = "wordpiece"
    document: documents.Kind | None = None
    train_ends: tuple[bool, ...] = ()
    valid_ends: tuple[bool, ...] = ()

    @property
    def train_sha256(self) -> str:
        """Tells these training lines from all others."""
        return _sha256(self.train, self.train_ends)

    @property
    def valid_sha256(self) -> str:
        """Tells these validation lines from all others."""
        return _sha256(self.valid, self.valid_ends)


def load_corpus(
    source: str = SIMPLEBOOKS_URL,
    min_length: int | None = None,
    progress: Progress | None = None,
    encoding: str | None = None,
    tokenizer: Tokenizer | None = "wordpiece",
    document: documents.Kind | None = None,
) -> Corpus:
    """Reads a training text.

    Args:
        source: a text file, a folder or a glob of them, a `.zip`, a `.gz`, or a URL.
        min_length: keep lines longer than this many UTF-8 bytes; by default 512 for
            SimpleBooks' layout, as the reference example; else 16 for WordPiece, and
            all for the others.
        progress: shows a download and the filtering of lines.
        encoding: of the files; `None` to find each one's.
        tokenizer: what the text is made ready for; `None` for WordPiece if it is
            SimpleBooks, else byte-level BPE.
        document: what has an end that is learned; `None` to find it.

    Raises:
        CorpusError: in one line, why the text can't be used.
    """
    progress = progress or SilentProgress()
    opened = open_source(source, progress)
    layout = _simplebooks(opened.documents)
    if tokenizer is None:
        tokenizer = "wordpiece" if layout else "bpe"
    if min_length is None:
        usual = MIN_LENGTH if tokenizer == "wordpiece" else 0
        min_length = SIMPLEBOOKS_MIN_LENGTH if layout else usual
    if tokenizer != "wordpiece":
        texts = _texts(layout or opened.documents, encoding, progress)
        return _as_written(
            *(source, opened, texts, bool(layout), min_length),
            *(tokenizer, document, progress),
        )
    if layout:
        texts = _texts(layout, encoding, progress)
        read = [text.removesuffix("\n").split("\n") for text in texts]
        stages = ("filter training lines", "filter validation lines")
        train, valid = (
            _filtered(lines, min_length, stage, progress)
            for lines, stage in zip(read, stages, strict=True)
        )
    else:
        texts = _texts(opened.documents, encoding, progress)
        read = [paragraphs(strip_gutenberg(text)) for text in texts]
        lines = list(itertools.chain.from_iterable(read))
        train, valid = split_for_validation(
            _filtered(lines, min_length, "filter lines", progress)
        )
    lines_read = sum(len(lines) for lines in read)
    _check(opened, lines_read, train, valid, min_length)
    return Corpus(
        opened.description,
        public_name(source),
        opened.sha256,
        min_length,
        tuple(train),
        tuple(valid),
        lines_read,
    )


def _as_written(
    source: str,
    opened: Source,
    texts: Sequence[str],
    is_split: bool,
    min_length: int,
    tokenizer: Tokenizer,
    kind: documents.Kind | None,
    progress: Progress,
) -> Corpus:
    """The documents of texts, unchanged.

    Args:
        is_split: whether the texts are one to train on and one to validate with.
    """
    if is_split:
        kind = kind or "line"
    else:
        texts = [strip_gutenberg(text) for text in texts]
    if kind is None:
        lines = [line.strip() for line in texts[0].split("\n")] if texts else []
        kind = documents.find_kind(texts, is_wrapped(lines))
    sides = [[text] for text in texts] if is_split else [list(texts)]
    found = [
        [
            each
            for each in documents.split_documents(side, kind)
            if len(each) > min_length or len(each.encode("utf-8")) > min_length
        ]
        for side in sides
    ]
    count = sum(map(len, found))
    if is_split or not documents.has_few(found[0]):
        halves = found if is_split else split_for_validation(found[0])
        train, valid = ([documents.Piece(each, True) for each in h] for h in halves)
    else:
        train, valid = documents.in_blocks(found[0])
    _check(opened, count, train, valid, min_length)
    progress.say(
        f"documents: {count:,}, each a {kind} (--document file, paragraph or line)"
    )
    return Corpus(
        opened.description,
        public_name(source),
        opened.sha256,
        min_length,
        tuple(piece.text for piece in train),
        tuple(piece.text for piece in valid),
        count,
        tokenizer,
        kind if count > 1 else None,
        tuple(piece.is_end for piece in train),
        tuple(piece.is_end for piece in valid),
    )


def _texts(
    files: Iterable[Document], encoding: str | None, progress: Progress
) -> list[str]:
    """What the documents hold; an encoding that was found is told."""
    texts, found = [], Counter[str]()
    for document in files:
        text, name = decoded(document.read(), document.name, encoding)
        texts.append(text)
        found[name] += 1
    others = {name: count for name, count in found.items() if name != "utf-8"}
    if others and encoding is None:
        named = ", ".join(
            name if len(texts) == 1 else f"{name} ({count} of {len(texts)} files)"
            for name, count in others.items()
        )
        progress.say(f"encoding: read as {named}; --encoding names another")
    return texts


def public_name(source: str) -> str:
    """What a source is called, for a record that may be given away.

    The last part of a path; a URL without user, password, query and fragment.
    """
    if not is_url(source):
        return Path(source).expanduser().resolve().name
    parts = urlsplit(source)
    if parts.scheme == "file":
        return PurePosixPath(unquote(parts.path)).name
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def split_for_validation(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Training and validation lines: about every 20th, in blocks of neighbours.

    The same lines are always split alike. Of two lines or more, at least one is for
    validation.
    """
    count = len(lines)
    size = max(1, min(_LARGEST_BLOCK, count // (5 * _BLOCKS_A_VALIDATION)))
    train: list[str] = []
    valid: list[str] = []
    for start in range(0, count, size):
        last = start // size % _BLOCKS_A_VALIDATION == _BLOCKS_A_VALIDATION - 1
        (valid if last else train).extend(lines[start : start + size])
    if not valid and len(train) > 1:
        valid.append(train.pop())
    return train, valid


def _simplebooks(
    files: Sequence[Document],
) -> tuple[Document, Document] | None:
    """Training and validation text, if the names are SimpleBooks'."""
    found = {
        name: document
        for document in files
        for name in (_TRAIN, _VALID)
        if f"/{document.name}".endswith(f"/{name}")
    }
    return (found[_TRAIN], found[_VALID]) if len(found) == 2 else None


def _filtered(
    lines: Sequence[str], min_length: int, stage: str, progress: Progress
) -> list[str]:
    """The lines of more than `min_length` bytes, normalized."""
    progress.start(stage, len(lines), "lines")
    kept = []
    for number, line in enumerate(lines, 1):
        # Measured before it is normalized, as the reference does.
        if len(line) > min_length or len(line.encode("utf-8")) > min_length:
            kept.append(normalize_text(line).strip())
        if number % _LINES_A_REPORT == 0:
            progress.advance(number, kept=len(kept))
    progress.advance(len(lines), kept=len(kept))
    progress.finish()
    return [line for line in kept if line]


def _check(
    opened: Source,
    read: int,
    train: Sequence[object],
    valid: Sequence[object],
    min_length: int,
) -> None:
    if train and valid:
        return
    where = opened.description
    if len(train) + len(valid) == 1:
        raise CorpusError(
            f"{where} has one paragraph of more than {min_length} bytes; it takes two: "
            "one to train on, one to validate with"
        )
    if not read or not any(document.read().strip() for document in opened.documents):
        raise CorpusError(f"{where} is empty")
    side = "validation " if train else "training " if valid else ""
    raise CorpusError(
        f"{where} has no {side}line of more than {min_length} bytes among "
        f"{read:,}; lower --min-length"
    )


def _sha256(lines: Iterable[str], ends: Iterable[bool] = ()) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8"))
        digest.update(b"\n")
    digest.update(bytes(ends))
    return digest.hexdigest()


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
