"""The training text: lines to train on, and lines to validate with.

SimpleBooks' own layout is taken as it is, and any other text in the documents that
`documents.py` finds, as it was written. For WordPiece, which loses spaces anyway, it is
made into one paragraph a line.
"""

import codecs
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from charset_normalizer import from_bytes

from minigpt_repl.errors import CorpusError, UsageError
from minigpt_repl.formats import DocumentKind
from minigpt_repl.models.text.codec import normalize_text
from minigpt_repl.shown import quoted
from minigpt_repl.training import documents
from minigpt_repl.training.documents import Lines
from minigpt_repl.training.progress import SILENT, Progress
from minigpt_repl.training.sources import (
    SIMPLEBOOKS_URL,
    Document,
    is_url,
    open_source,
)

Tokenizer = Literal["bpe", "wordpiece", "byte"]

SIMPLEBOOKS_MIN_LENGTH = 512  # bytes; the reference keeps lines longer than this
MIN_LENGTH = 16  # for any other text: headings and page numbers are shorter

_TRAIN, _VALID = "simplebooks-92-raw/train.txt", "simplebooks-92-raw/valid.txt"

LOOKED_AT = 1 << 18  # bytes, to find an encoding

# Longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_LINES_A_REPORT = 5000


@dataclass(frozen=True)
class Corpus:
    """Lines to train on, and lines to validate with."""

    source: str  # as the user named it, in a few words
    name: str  # without where it lay; see `public_name`
    sha256: str  # of what the source holds
    min_length: int  # UTF-8 bytes; longer lines were kept
    train: Lines
    valid: Lines
    lines_read: int  # before the filter, of both
    tokenizer: Tokenizer = "wordpiece"
    document: DocumentKind | None = None  # what has an end that can be learned


def load_corpus(
    source: str = SIMPLEBOOKS_URL,
    min_length: int | None = None,
    progress: Progress = SILENT,
    encoding: str | None = None,
    tokenizer: Tokenizer | None = "wordpiece",
    document: DocumentKind | None = None,
) -> Corpus:
    """Read a training text.

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
    opened = open_source(source, progress)
    layout = _simplebooks(opened.documents)
    if tokenizer is None:
        tokenizer = "wordpiece" if layout else "bpe"
    is_lossless = tokenizer != "wordpiece"
    if min_length is None:
        usual = 0 if is_lossless else MIN_LENGTH
        min_length = SIMPLEBOOKS_MIN_LENGTH if layout else usual
    texts = _texts(layout or opened.documents, encoding, progress)
    if not layout:
        texts = [documents.strip_gutenberg(text) for text in texts]
    # SimpleBooks has a training and a validation text.
    sides = [[text] for text in texts] if layout else [texts]
    if is_lossless:
        kind = document or ("line" if layout else documents.find_kind(texts))
        read = [documents.split_documents(side, kind) for side in sides]
        kept = [[t for t in lines if _is_longer(t, min_length)] for lines in read]
        count = sum(map(len, kept))
        if count:
            progress.say(
                f"documents: {count:,}, each a {kind} (--document file, paragraph or "
                "line)"
            )
        document = kind if count > 1 else None  # of one, no end can be learned
    else:
        document = None
        read = [_lines(side, bool(layout)) for side in sides]
        kept = [_normalized(lines, min_length, progress) for lines in read]
    train, valid = _halves(kept, is_lossless)
    lines_read = sum(map(len, read))
    if not any(text.strip() for text in texts):
        raise CorpusError(f"{opened.description} is empty")
    if not train.texts or not valid.texts:
        raise CorpusError(
            f"{opened.description} has {len(train.texts)} lines to train on and "
            f"{len(valid.texts)} to validate with, of {lines_read:,} that were read: "
            f"it takes one of each, longer than {min_length} bytes (--min-length)"
        )
    return Corpus(
        source=opened.description,
        name=public_name(source),
        sha256=opened.sha256,
        min_length=min_length,
        train=train,
        valid=valid,
        lines_read=lines_read,
        tokenizer=tokenizer,
        document=document,
    )


def _halves(sides: Sequence[Sequence[str]], is_lossless: bool) -> tuple[Lines, Lines]:
    """Training and validation lines: those of both sides, or one that is split."""
    if len(sides) == 2:
        train, valid = (Lines(tuple(side), (True,) * len(side)) for side in sides)
    else:
        train, valid = documents.split_for_validation(sides[0], is_lossless)
    return (train, valid) if is_lossless else (Lines(train.texts), Lines(valid.texts))


def _lines(texts: Sequence[str], is_simplebooks: bool) -> list[str]:
    """The lines for WordPiece, a paragraph each."""
    if is_simplebooks:
        return [line for text in texts for line in text.removesuffix("\n").split("\n")]
    return [line for text in texts for line in documents.paragraphs(text)]


def _texts(
    files: Iterable[Document], encoding: str | None, progress: Progress
) -> list[str]:
    """What the documents hold; an encoding that was found is told."""
    texts, found = [], Counter[str]()
    for document in files:
        text, name = _decoded(document.read(), document.name, encoding)
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


def _normalized(lines: Sequence[str], min_length: int, progress: Progress) -> list[str]:
    """The lines of more than `min_length` bytes, normalized."""
    progress.start("filter lines", len(lines), "lines")
    kept = []
    for number, line in enumerate(lines, 1):
        # Measured before it is normalized, as the reference does.
        if _is_longer(line, min_length):
            kept.append(normalize_text(line).strip())
        if number % _LINES_A_REPORT == 0:
            progress.advance(number, kept=len(kept))
    progress.advance(len(lines), kept=len(kept))
    progress.finish()
    return [line for line in kept if line]


def _is_longer(text: str, min_length: int) -> bool:
    return len(text) > min_length or len(text.encode("utf-8")) > min_length


def check_encoding(name: str) -> None:
    """Check that there is an encoding of that name.

    Raises:
        UsageError: if there is none.
    """
    try:
        "".encode(codecs.lookup(name).name)  # some turn bytes into bytes
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"no encoding {quoted(name)}: utf-8, utf-16, cp1252, shift_jis, gbk and "
            "the others of Python are known"
        ) from error


def _decoded(data: bytes, name: str, encoding: str | None) -> tuple[str, str]:
    """A file's text, and the encoding that it was read in: as named, or found.

    Its line ends are alike, and it has no mark.
    """
    marks = (name for mark, name in _MARKS if data.startswith(mark))
    found = encoding or next(marks, None) or _looks_like(data)
    try:
        text = data.decode(found)
    except UnicodeError as error:
        raise CorpusError(
            f"{name} is not {found} text ({error}): name its encoding with --encoding"
        ) from error
    if "\0" in text:
        raise CorpusError(f"{name} is not text: character {text.index(chr(0))} is 0x00")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), found


def _looks_like(data: bytes) -> str:
    """The encoding that fits best; UTF-8 if none does."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        replaced = data.decode("utf-8", "replace")
    else:
        return "utf-8"
    bad = replaced.count("\N{REPLACEMENT CHARACTER}")
    # A NUL is in no encoding that writes a character in one byte or two; and of UTF-8
    # that was damaged any other would make a muddle.
    is_damaged = sum(not each.isascii() for each in replaced) > 2 * bad
    if b"\0" in data or is_damaged:
        return "utf-8"
    end = data.rfind(b"\n", 0, LOOKED_AT) + 1 if len(data) > LOOKED_AT else 0
    best = from_bytes(data[: end or LOOKED_AT]).best()
    if best is None:
        return "utf-8"
    # Of those that read it alike the one that is most used.
    return "cp1252" if "cp1252" in best.could_be_from_charset else best.encoding
