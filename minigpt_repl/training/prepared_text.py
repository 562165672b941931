"""Corpus -> vocabulary -> token ids: a text made ready to train on.

Token ids are made once, kept on disk and read by memory mapping. Every line is kept
whole, so that one file serves every way to cut or pack lines. Knows the tokenizer
and arrays; nothing of windows, batches or models.
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
from minigpt_repl.training.corpus import Corpus, Tokenizer, load_corpus
from minigpt_repl.training.documents import Kind
from minigpt_repl.training.learned import Vocabulary, learned
from minigpt_repl.training.progress import Progress, SilentProgress
from minigpt_repl.training.resume import StageCache, fingerprint

_LINES_AT_ONCE = 2000
_CHUNKS_AT_ONCE = 10_000
_PART = 1 << 18
# Every split of text for byte pairs has a cut before a line and before a spaced word.
_SAFE_CUT = re.compile(r"(?<=\n)(?=\S)|(?<=\S)(?= \S)")
_IDS, _OFFSETS, _BYTES = "ids.npy", "offsets.npy", "line_bytes.npy"

# Part of every fingerprint: raise it when the same lines give other arrays.
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class TokenizedLines:
    """The lines of a text as token ids, one after the other.

    Attributes:
        ids: all ids; uint16, or uint32 for a vocabulary above 65,535. (tokens,)
        offsets: line i is `ids[offsets[i]:offsets[i + 1]]`; int64. (lines + 1,)
        line_bytes: UTF-8 length of each line's text, for bits per byte; int64.
            (lines,)
    """

    ids: NDArray[Any]
    offsets: NDArray[np.int64]
    line_bytes: NDArray[np.int64]

    def __len__(self) -> int:
        """How many lines there are."""
        return len(self.line_bytes)

    def line(self, index: int) -> NDArray[Any]:
        """The ids of one line, without `[BOS]`. (tokens of the line,)"""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True)
class Text:
    """A corpus made ready: vocabulary and token ids of both its parts."""

    corpus: Corpus
    vocabulary: Vocabulary
    train: TokenizedLines
    valid: TokenizedLines


def prepare_text(
    source: str,
    vocabulary_size: int,
    progress: Progress,
    min_length: int | None = None,
    lowercase: bool = True,
    encoding: str | None = None,
    tokenizer: Tokenizer | None = "wordpiece",
    document: Kind | None = None,
) -> Text:
    """Corpus, vocabulary and tokens, each made now or found from an earlier run.

    Args:
        source: where the text is; see `load_corpus`.
        vocabulary_size: most words or pieces.
        progress: is told of each stage.
        min_length: bytes of the lines kept, or `None` for the corpus' own.
        lowercase: whether the tokenizer folds case.
        encoding: of the text's files, or `None` to find it.
        tokenizer: its kind, or `None` for the one that suits the text.
        document: what has an end, or `None` to find it.

    Raises:
        CorpusError: if the text can't be read, or leaves nothing to validate with.
    """
    corpus = load_corpus(source, min_length, progress, encoding, tokenizer, document)
    vocabulary = learned(
        corpus.tokenizer,
        corpus.train,
        corpus.train_sha256,
        vocabulary_size,
        lowercase,
        progress,
    )
    vocabulary = replace(vocabulary, document=corpus.document)
    ends = corpus.document is not None
    train, valid = (
        prepared_tokens(lines, sha256, vocabulary, progress, ends=marks if ends else ())
        for lines, sha256, marks in (
            (corpus.train, corpus.train_sha256, corpus.train_ends),
            (corpus.valid, corpus.valid_sha256, corpus.valid_ends),
        )
    )
    if not len(valid.ids):
        raise CorpusError(f"{corpus.source} leaves no line for validation: add text")
    return Text(corpus, vocabulary, train, valid)


def prepared_tokens(
    lines: Sequence[str],
    lines_hash: str,
    vocabulary: Vocabulary,
    progress: Progress | None = None,
    cache: StageCache | None = None,
    ends: Sequence[bool] = (),
) -> TokenizedLines:
    """The lines' token ids, made now or in an earlier run.

    Args:
        lines: the lines of text; may be empty.
        lines_hash: tells these lines from all others (`Corpus.train_sha256`).
        vocabulary: what the tokenizer is made of.
        progress: shows the tokenizing.
        cache: where the ids are kept.
        ends: whether the end of a document follows each line; none if not given.

    Raises:
        MiniGPTError: if they can't be written, such as on a full disk.
    """
    progress = progress or SilentProgress()
    key = fingerprint(
        format=_FORMAT, lines=lines_hash, ends=any(ends), **vocabulary.made_from
    )

    def make(folder: Path) -> None:
        if vocabulary.is_lossless:
            write_byte_pairs(folder, lines, vocabulary, ends, progress)
        else:
            write_tokens(folder, lines, vocabulary, progress)

    cache = cache or StageCache()
    try:
        return read_tokens(cache.directory("tokens", key, make))
    except (OSError, ValueError):  # somebody damaged the files
        return read_tokens(cache.directory_again("tokens", key, make))


def read_tokens(folder: Path) -> TokenizedLines:
    """Opens the token ids of a folder without reading them into memory.

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
    folder: Path,
    lines: Sequence[str],
    vocabulary: Vocabulary,
    progress: Progress,
) -> None:
    """Tokenizes the lines into words, in files of a folder.

    A line's ids are the ids of its chunks between white space, one after the other,
    and a text of millions of chunks has few different ones. So the tokenizer sees
    each different chunk once.
    """
    progress.start("find words", len(lines), "lines")
    index: dict[bytes, int] = {}
    numbers: list[NDArray[np.uint32]] = []  # of the chunks, block by block
    chunks_in_line = np.zeros(len(lines), np.int64)
    line_bytes = np.zeros(len(lines), np.int64)
    for start, block in _blocks(lines):
        split = [line.split() for line in block]
        end = start + len(block)
        chunks_in_line[start:end] = [len(chunks) for chunks in split]
        line_bytes[start:end] = [len(line) for line in block]
        flat = list(itertools.chain.from_iterable(split))
        new = set(flat) - index.keys()
        index.update(zip(new, itertools.count(len(index))))
        found = map(index.__getitem__, flat)
        numbers.append(np.fromiter(found, np.uint32, len(flat)))
        progress.advance(end)
    progress.finish()
    table = _token_table(list(index), vocabulary, progress)
    offsets = _write_ids(folder / _IDS, numbers, chunks_in_line, table)
    np.save(folder / _OFFSETS, offsets)
    np.save(folder / _BYTES, line_bytes)


def write_byte_pairs(
    folder: Path,
    lines: Sequence[str],
    vocabulary: Vocabulary,
    ends: Sequence[bool],
    progress: Progress,
) -> None:
    """Tokenizes lines of any length as they are, in files of a folder."""
    tokenizer = vocabulary.tokenizer()
    dtype = _dtype(vocabulary)
    parts: list[NDArray[Any]] = [np.zeros(0, dtype)]
    lengths: list[int] = []
    progress.start("tokenize", len(lines), "documents")
    for start, block in _blocks(lines):
        split = [_parts(line) for line in lines[start : start + len(block)]]
        rows = iter(tokenizer.tokenize(list(itertools.chain.from_iterable(split))))
        for place, of_line in enumerate(split, start):
            ids = [*itertools.chain.from_iterable(itertools.islice(rows, len(of_line)))]
            if place < len(ends) and ends[place]:
                ids.append(tokenizer.end_token_id)
            parts.append(np.array(ids, dtype))
            lengths.append(len(ids))
        progress.advance(start + len(block))
    progress.finish()
    np.save(folder / _IDS, np.concatenate(parts))
    np.save(folder / _OFFSETS, np.cumsum([0, *lengths], dtype=np.int64))
    sizes = [len(line.encode("utf-8")) for line in lines]
    np.save(folder / _BYTES, np.array(sizes, np.int64))


def _parts(line: str) -> list[str]:
    """A line in parts of at least `_PART` characters, cut where no token crosses."""
    starts, at = [0], _PART
    while at < len(line) and (found := _SAFE_CUT.search(line, at)) is not None:
        starts.append(found.start())
        at = found.start() + _PART
    return [line[a:b] for a, b in itertools.pairwise([*starts, len(line)])]


def _dtype(vocabulary: Vocabulary) -> Any:
    return np.uint16 if len(vocabulary) <= np.iinfo(np.uint16).max else np.uint32


def _blocks(lines: Sequence[str]) -> Iterator[tuple[int, list[bytes]]]:
    for start in range(0, len(lines), _LINES_AT_ONCE):
        block = lines[start : start + _LINES_AT_ONCE]
        yield start, [line.encode("utf-8") for line in block]


@dataclass(frozen=True)
class _TokenTable:
    """Ids of each different chunk: `ids[first[i]:first[i] + length[i]]`."""

    ids: NDArray[Any]
    first: NDArray[np.int64]
    length: NDArray[np.int64]

    def of(self, numbers: NDArray[np.uint32]) -> NDArray[Any]:
        """The ids of many chunks, one after the other."""
        length = self.length[numbers]
        end = np.cumsum(length)
        if not len(end):
            return self.ids[:0]
        # For each token: where its chunk's ids begin, plus its place in the chunk.
        shift = np.repeat(self.first[numbers] - (end - length), length)
        return np.asarray(self.ids[shift + np.arange(end[-1])])


def _token_table(
    chunks: Sequence[bytes],
    vocabulary: Vocabulary,
    progress: Progress,
) -> _TokenTable:
    tokenizer = vocabulary.tokenizer()
    dtype = _dtype(vocabulary)
    progress.start("tokenize", len(chunks), "words")
    parts: list[NDArray[Any]] = [np.zeros(0, dtype)]
    lengths: list[int] = []
    for start in range(0, len(chunks), _CHUNKS_AT_ONCE):
        block = chunks[start : start + _CHUNKS_AT_ONCE]
        rows = tokenizer.tokenize([chunk.decode("utf-8") for chunk in block])
        lengths.extend(len(row) for row in rows)
        flat = list(itertools.chain.from_iterable(rows))
        parts.append(np.array(flat, dtype))
        progress.advance(start + len(block))
    progress.finish()
    length = np.array(lengths, np.int64)
    return _TokenTable(np.concatenate(parts), np.cumsum(length) - length, length)


def _write_ids(
    path: Path,
    numbers: list[NDArray[np.uint32]],
    chunks_in_line: NDArray[np.int64],
    table: _TokenTable,
) -> NDArray[np.int64]:
    """Writes the ids of all lines; returns where each line begins. (lines + 1,)"""
    total = sum(int(table.length[block].sum()) for block in numbers)
    # The end of each line, counted first in chunks and then in tokens.
    tokens_before = [np.zeros(1, np.int64)]
    written = 0
    with open(path, "wb") as file:
        header = {"descr": table.ids.dtype.str, "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (total,)})
        for block in numbers:
            ids = table.of(block)
            file.write(ids.tobytes())
            tokens_before.append(written + np.cumsum(table.length[block]))
            written += len(ids)
    ends = np.concatenate(tokens_before)
    chunk_offsets = np.concatenate([[0], np.cumsum(chunks_in_line)])
    return np.asarray(ends[chunk_offsets])
