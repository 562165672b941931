"""Corpus -> vocabulary -> token ids: a text made ready to train on.

Token ids are made once, kept on disk and read by memory mapping. Every line is kept
whole, so that one file serves every way to cut or pack lines.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt_repl.errors import CorpusError
from minigpt_repl.models.causal_lm import (
    BYTE_PIECES,
    MiniGPTBytePairTokenizer,
    MiniGPTTokenizer,
    learn_byte_pairs,
)
from minigpt_repl.models.text.bytelevel import SPLIT_PATTERN
from minigpt_repl.training.corpus import Corpus, Lines, Tokenizer
from minigpt_repl.training.progress import SILENT, Progress
from minigpt_repl.training.resume import StageCache, fingerprint
from minigpt_repl.training.vocabulary import prepared_vocabulary

SMALLEST_BPE = 260
"""Pieces: the reserved ones and 256 bytes, and room for one pair."""

BYTES_A_PIECE = 40
"""Of the text, for each piece that is learned: a rarer one would be met too seldom."""

_LINES_AT_ONCE = 2000
_CHUNKS_AT_ONCE = 10_000
_PART = 1 << 18
# Every split of text for byte pairs has a cut before a line and before a spaced word.
_SAFE_CUT = re.compile(r"(?<=\n)(?=\S)|(?<=\S)(?= \S)")
_IDS, _OFFSETS, _BYTES = "ids.npy", "offsets.npy", "line_bytes.npy"

# Part of every fingerprint: raise it when the same lines give other arrays.
_FORMAT = 1


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer is made of."""

    pieces: tuple[str, ...]  # in order of their ids
    merges: tuple[str, ...] | None = None  # of byte-level BPE; `None` for WordPiece
    lowercase: bool = False  # whether WordPiece folds case
    document: str | None = None  # what has an end that is learned

    def __len__(self) -> int:
        """How many pieces there are."""
        return len(self.pieces)

    @property
    def is_lossless(self) -> bool:
        """Whether every text comes back as it was written."""
        return self.merges is not None

    @property
    def made_from(self) -> dict[str, Any]:
        """Tells it from all others, for fingerprints."""
        told = {"vocabulary": list(self.pieces), "lowercase": self.lowercase}
        return told if self.merges is None else told | {"merges": list(self.merges)}

    def tokenizer(self) -> Any:
        """A KerasHub tokenizer."""
        if self.merges is None:
            return MiniGPTTokenizer(list(self.pieces), lowercase=self.lowercase)
        ids = {piece: place for place, piece in enumerate(self.pieces)}
        return MiniGPTBytePairTokenizer(ids, list(self.merges), document=self.document)


@dataclass(frozen=True, eq=False)
class TokenizedLines:
    """The lines of a text as token ids, one after the other."""

    ids: NDArray[Any]  # (tokens,); uint16, or uint32 for a vocabulary above 65,535
    # (lines + 1,): line i is `ids[offsets[i]:offsets[i + 1]]`
    offsets: NDArray[np.int64]
    line_bytes: NDArray[np.int64]  # (lines,): UTF-8 length, for bits per byte

    def __len__(self) -> int:
        """How many lines there are."""
        return len(self.line_bytes)


@dataclass(frozen=True)
class Text:
    """A corpus made ready: vocabulary and token ids of both its parts."""

    corpus: Corpus
    vocabulary: Vocabulary
    train: TokenizedLines
    valid: TokenizedLines


def prepare_text(
    corpus: Corpus, vocabulary_size: int, lowercase: bool, progress: Progress
) -> Text:
    """Vocabulary and tokens of a corpus, each made now or found from an earlier run.

    Raises:
        CorpusError: if the text leaves nothing to learn or to validate with.
    """
    vocabulary = learned(
        corpus.tokenizer, corpus.train, vocabulary_size, lowercase, progress
    )
    vocabulary = replace(vocabulary, document=corpus.document)
    train = prepared_tokens(corpus.train, vocabulary, progress)
    valid = prepared_tokens(corpus.valid, vocabulary, progress)
    if not len(valid.ids):
        raise CorpusError(f"{corpus.source} leaves no line for validation: add text")
    return Text(corpus, vocabulary, train, valid)


def learned(
    kind: Tokenizer,
    lines: Lines,
    most: int,
    lowercase: bool,
    progress: Progress,
    cache: StageCache | None = None,
) -> Vocabulary:
    """The vocabulary of lines, learned now or in an earlier run.

    It has at `most` so many pieces, the reserved ones included.

    Raises:
        CorpusError: if it is too small, or the text is, to learn anything.
    """
    if kind == "wordpiece":
        words = prepared_vocabulary(lines, most, lowercase, progress, cache)
        return Vocabulary(tuple(words), None, lowercase)
    if kind == "byte":
        return Vocabulary(BYTE_PIECES, ())
    if most < SMALLEST_BPE:
        raise CorpusError(
            f"a vocabulary of {most} has no room for 256 bytes: ask for "
            f"{SMALLEST_BPE} or more"
        )
    size = sum(len(text.encode("utf-8")) for text in lines.texts)
    count = min(most, max(SMALLEST_BPE, size // BYTES_A_PIECE))

    def learn() -> list[list[str]]:
        progress.start("vocabulary", 1, "vocabulary")
        made = learn_byte_pairs(lines.texts, count)
        progress.advance(1, entries=len(made[0]))
        progress.finish()
        return [*made]

    key = fingerprint(
        format=_FORMAT, lines=lines.sha256, size=count, pattern=SPLIT_PATTERN
    )
    pieces, merges = (cache or StageCache()).value("pairs", key, learn)
    return Vocabulary(tuple(pieces), tuple(merges))


def prepared_tokens(
    lines: Lines,
    vocabulary: Vocabulary,
    progress: Progress = SILENT,
    cache: StageCache | None = None,
) -> TokenizedLines:
    """The lines' token ids, made now or in an earlier run.

    If the vocabulary has an end of a document, it follows each line that ends one.

    Raises:
        MiniGPTError: if they can't be written, such as on a full disk.
    """
    has_ends = vocabulary.document is not None and any(lines.ends)
    key = fingerprint(
        format=_FORMAT, lines=lines.sha256, ends=has_ends, **vocabulary.made_from
    )

    def make(folder: Path) -> None:
        write_tokens(folder, lines, vocabulary, progress)

    cache = cache or StageCache()
    try:
        return read_tokens(cache.directory("tokens", key, make))
    except (OSError, ValueError):
        return read_tokens(cache.directory("tokens", key, make, is_damaged=True))


def read_tokens(folder: Path) -> TokenizedLines:
    """Open the token ids of a folder without reading them into memory.

    Raises:
        OSError: if a file is missing.
        ValueError: if a file is cut or of another text.
    """
    offsets, line_bytes = np.load(folder / _OFFSETS), np.load(folder / _BYTES)
    # An empty array can't be mapped.
    ids = np.load(folder / _IDS, mmap_mode="r" if offsets[-1] else None)
    if len(offsets) != len(line_bytes) + 1 or offsets[-1] != len(ids):
        raise ValueError(f"the files in {folder} do not belong together")
    return TokenizedLines(ids, offsets, line_bytes)


def write_tokens(
    folder: Path, lines: Lines, vocabulary: Vocabulary, progress: Progress
) -> None:
    """Tokenize lines, into files of a folder; see `prepared_tokens`."""
    tokenizer = vocabulary.tokenizer()
    dtype = np.uint16 if len(vocabulary) <= np.iinfo(np.uint16).max else np.uint32
    encoded = _ids_as_written if vocabulary.is_lossless else _ids_of_words
    rows: list[NDArray[Any]] = [np.zeros(0, dtype)]
    ends = () if vocabulary.document is None else lines.ends
    for place, ids in enumerate(encoded(lines.texts, tokenizer, progress)):
        is_end = place < len(ends) and ends[place]
        rows.append(np.array([*ids, tokenizer.end_token_id] if is_end else ids, dtype))
    np.save(folder / _IDS, np.concatenate(rows))
    np.save(folder / _OFFSETS, np.cumsum([*map(len, rows)], dtype=np.int64))
    sizes = [len(line.encode("utf-8")) for line in lines.texts]
    np.save(folder / _BYTES, np.array(sizes, np.int64))


def _ids_of_words(
    lines: Sequence[str], tokenizer: Any, progress: Progress
) -> Iterator[list[int]]:
    """WordPiece ids of each line.

    They are the ids of its chunks between white space, one after the other, and a text
    of millions of chunks has few different ones: the tokenizer sees each once.
    """
    found: dict[bytes, None] = {}
    for block in progress.blocks("find words", lines, "lines", _LINES_AT_ONCE):
        # As bytes: that splits at ASCII white space only, as the tokenizer does.
        found.update(dict.fromkeys("\n".join(block).encode("utf-8").split()))
    ids_of: dict[bytes, list[int]] = {}
    for chunks in progress.blocks("tokenize", [*found], "words", _CHUNKS_AT_ONCE):
        rows = tokenizer.tokenize([chunk.decode("utf-8") for chunk in chunks])
        ids_of.update(zip(chunks, rows, strict=True))
    for line in lines:
        split = line.encode("utf-8").split()
        yield [*itertools.chain.from_iterable(map(ids_of.__getitem__, split))]


def _ids_as_written(
    lines: Sequence[str], tokenizer: Any, progress: Progress
) -> Iterator[list[int]]:
    """Byte-pair ids of each line, which may be of any length."""
    for block in progress.blocks("tokenize", lines, "documents", _LINES_AT_ONCE):
        split = [_parts(line) for line in block]
        rows = iter(tokenizer.tokenize([*itertools.chain.from_iterable(split)]))
        for parts in split:
            yield [*itertools.chain.from_iterable(itertools.islice(rows, len(parts)))]


def _parts(line: str) -> list[str]:
    """A line in parts of at least `_PART` characters, cut where no token crosses."""
    starts, at = [0], _PART
    while at < len(line) and (found := _SAFE_CUT.search(line, at)) is not None:
        starts.append(found.start())
        at = found.start() + _PART
    return [line[a:b] for a, b in itertools.pairwise([*starts, len(line)])]
