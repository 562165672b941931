"""The training text: lines to train on, and lines to validate with.

SimpleBooks' own layout is taken as it is, and any other text in the documents that
`documents.py` finds, as it was written. For WordPiece, which loses spaces anyway, it is
made into one paragraph a line.
"""

import codecs
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from charset_normalizer import from_bytes

from minigpt_repl.errors import CorpusError, UsageError
from minigpt_repl.formats import DocumentKind
from minigpt_repl.models.text.codec import normalize_text
from minigpt_repl.shown import quoted
from minigpt_repl.training import documents
from minigpt_repl.training.progress import SILENT, Progress
from minigpt_repl.training.sources import (
    SIMPLEBOOKS_URL,
    Document,
    Source,
    is_url,
    open_source,
)

Tokenizer = Literal["bpe", "wordpiece", "byte"]

SIMPLEBOOKS_MIN_LENGTH = 512
"""The reference keeps lines longer than this; in bytes, as TensorFlow counts."""

MIN_LENGTH = 16
"""For any other text: headings and page numbers are shorter."""

_TRAIN, _VALID = "simplebooks-92-raw/train.txt", "simplebooks-92-raw/valid.txt"

LOOKED_AT = 1 << 18
"""Bytes that are looked at to find an encoding."""

# Longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_LINES_A_REPORT = 5000


@dataclass(frozen=True)
class Lines:
    """Lines, normalized, one paragraph each; or documents as they were written."""

    texts: tuple[str, ...]
    ends: tuple[bool, ...] = ()  # whether a document ends with each

    @cached_property
    def sha256(self) -> str:
        """Tells these lines from all others."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(f"{text}\n".encode())
        digest.update(bytes(self.ends))
        return digest.hexdigest()


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
    # SimpleBooks has a training and a validation text, any other is split below.
    sides = [[text] for text in texts] if layout else [texts]
    if is_lossless:
        kind = document or ("line" if layout else documents.find_kind(texts))
        read = [documents.split_documents(side, kind) for side in sides]
        kept = [[t for t in lines if _is_longer(t, min_length)] for lines in read]
        document = _told(kind, sum(map(len, kept)), progress)
    else:
        document = None
        read = [_lines(side, bool(layout)) for side in sides]
        kept = [_normalized(lines, min_length, progress) for lines in read]
    if layout:
        train, valid = ([documents.Piece(t, True) for t in half] for half in kept)
    else:
        train, valid = documents.split_for_validation(kept[0], is_lossless)
    lines_read = sum(map(len, read))
    if not train or not valid:
        raise _useless(opened, lines_read, train, valid, min_length)
    return Corpus(
        source=opened.description,
        name=public_name(source),
        sha256=opened.sha256,
        min_length=min_length,
        train=_put_together(train, is_lossless),
        valid=_put_together(valid, is_lossless),
        lines_read=lines_read,
        tokenizer=tokenizer,
        document=document,
    )


def _put_together(pieces: Sequence[documents.Piece], has_ends: bool) -> Lines:
    texts = tuple(piece.text for piece in pieces)
    return Lines(texts, tuple(piece.is_end for piece in pieces if has_ends))


def _told(kind: DocumentKind, count: int, progress: Progress) -> DocumentKind | None:
    """What has an end that can be learned, if there are several."""
    if count:
        progress.say(
            f"documents: {count:,}, each a {kind} (--document file, paragraph or line)"
        )
    return kind if count > 1 else None


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
    others = {
        name: n for name, n in found.items() if name.removesuffix("-sig") != "utf-8"
    }
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


def _useless(
    opened: Source,
    read: int,
    train: Sequence[object],
    valid: Sequence[object],
    min_length: int,
) -> CorpusError:
    """Why a text leaves nothing to train on, or nothing to validate with."""
    where = opened.description
    if len(train) + len(valid) == 1 and not min_length:
        return CorpusError(
            f"{where} is too short: it takes 100 characters, some of which are put "
            "aside to validate with"
        )
    if len(train) + len(valid) == 1:
        return CorpusError(
            f"{where} has one paragraph of more than {min_length} bytes; it takes two: "
            "one to train on, one to validate with"
        )
    if not read or not any(document.read().strip() for document in opened.documents):
        return CorpusError(f"{where} is empty")
    side = "validation " if train else "training " if valid else ""
    return CorpusError(
        f"{where} has no {side}line of more than {min_length} bytes among "
        f"{read:,}; lower --min-length"
    )


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
    """A file's text, and the encoding that it was read in: as named, or found."""
    marks = (name for mark, name in _MARKS if data.startswith(mark))
    found = encoding or next(marks, None)
    if found is None:
        try:
            return _checked(data.decode("utf-8"), name), "utf-8"
        except UnicodeDecodeError as error:
            found = _looks_like(data)
            if found is None:
                raise CorpusError(
                    f"{name} is not UTF-8 text: byte {error.start} is "
                    f"0x{data[error.start]:02x}; name its encoding with --encoding"
                ) from error
    try:
        return _checked(data.decode(found), name), found
    except UnicodeError as error:
        told = str(getattr(error, "reason", error))
        start = getattr(error, "start", 0)
        hint = "name another" if encoding else "name its encoding"
        raise CorpusError(
            f"{name} is not {found} text: at byte {start}, {told}; {hint} with "
            "--encoding"
        ) from error


def _looks_like(data: bytes) -> str | None:
    """The encoding of bytes that are not UTF-8, if there is one that fits."""
    if b"\0" in data:
        return None  # of no encoding that writes a character in one byte or two
    replaced = data.decode("utf-8", "replace")
    bad = replaced.count("\N{REPLACEMENT CHARACTER}")
    if sum(not character.isascii() for character in replaced) > 2 * bad:
        return None  # UTF-8 that was damaged: any other would make a muddle of it
    end = data.rfind(b"\n", 0, LOOKED_AT) + 1 if len(data) > LOOKED_AT else 0
    best = from_bytes(data[: end or LOOKED_AT]).best()
    if best is None:
        return None
    # Of those that read it alike the one that is most used.
    return "cp1252" if "cp1252" in best.could_be_from_charset else best.encoding


def _checked(text: str, name: str) -> str:
    """The text with its line ends alike and without a mark, if it is one."""
    if "\0" in text:
        place = len(text[: text.index("\0")].encode("utf-8", "surrogatepass"))
        raise CorpusError(f"{name} is not text: byte {place} is 0x00")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
