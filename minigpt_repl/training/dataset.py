"""A text made ready to train on: its token ids, windows of them, and the batches.

Token ids are made once and kept, of whole lines, so that they serve every way to cut or
pack lines. A window is `context_length` input ids and as many labels, each the token
after its input.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt_repl.errors import CorpusError
from minigpt_repl.models.text.codec import BOS_ID
from minigpt_repl.training.corpus import Corpus
from minigpt_repl.training.documents import Lines
from minigpt_repl.training.progress import SILENT, Progress
from minigpt_repl.training.recipes import Feeding, Recipe
from minigpt_repl.training.resume import fingerprint, kept_arrays
from minigpt_repl.training.vocabulary import Vocabulary, learned

Ids = NDArray[Any]
Indices = NDArray[np.int64]

Batches = Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]

REFERENCE_SHUFFLE = 256
"""Batches that the reference's shuffle buffer holds."""

_LINES_AT_ONCE = 2000
_CHUNKS_AT_ONCE = 10_000
_PART = 1 << 18
# Every split of text for byte pairs has a cut before a line and before a spaced word.
_SAFE_CUT = re.compile(r"(?<=\n)(?=\S)|(?<=\S)(?= \S)")

# Part of every fingerprint: raise it when the same lines give other arrays.
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class TokenizedLines:
    """The lines of a text as token ids, one after the other."""

    ids: NDArray[Any]  # (tokens,); uint16, or uint32 for a vocabulary above 65,535
    lengths: Indices  # (lines,): how many tokens each has

    def __len__(self) -> int:
        """How many lines there are."""
        return len(self.lengths)


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


def prepared_tokens(
    lines: Lines, vocabulary: Vocabulary, progress: Progress = SILENT
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

    def make() -> dict[str, NDArray[Any]]:
        rows = [*_ids_of(lines, vocabulary, progress)]
        lengths = np.array([*map(len, rows)], np.int64)
        return {"ids": np.concatenate(rows), "lengths": lengths[1:]}

    return TokenizedLines(**kept_arrays("tokens", key, make))


def _ids_of(
    lines: Lines, vocabulary: Vocabulary, progress: Progress
) -> Iterator[NDArray[Any]]:
    """An empty row of the ids' type, then that of each line."""
    tokenizer = vocabulary.tokenizer()
    dtype = np.uint16 if len(vocabulary) <= np.iinfo(np.uint16).max else np.uint32
    yield np.zeros(0, dtype)
    encoded = _ids_as_written if vocabulary.is_lossless else _ids_of_words
    ends = () if vocabulary.document is None else lines.ends
    for place, ids in enumerate(encoded(lines.texts, tokenizer, progress)):
        is_end = place < len(ends) and ends[place]
        yield np.array([*ids, tokenizer.end_token_id] if is_end else ids, dtype)


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


@dataclass(frozen=True)
class Windows:
    """Inputs and labels of a split, both of shape `(windows, context_length)`."""

    inputs: Ids
    labels: Ids

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, which: Any) -> "Windows":
        """Some of them, chosen as numpy chooses rows."""
        return Windows(self.inputs[which], self.labels[which])

    def batch(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Inputs and labels as Keras takes them."""
        return self.inputs.astype(np.int32), self.labels.astype(np.int32)

    @property
    def beginnings(self) -> "Windows":
        """Those that begin behind `[BOS]`."""
        return self[self.inputs[:, 0] == BOS_ID]

    def spread(self, count: int) -> "Windows":
        """About so many of them, from all places alike."""
        return self[:: math.ceil(len(self) / count)]


def cut_windows(ids: Ids, lengths: Indices, context_length: int) -> Windows:
    """The first window of each line, padded; the rest of the line is dropped.

    The reference's way, and that of every validation: inputs are `[BOS]` and the
    line's first tokens, labels are the line's tokens, `[PAD]` after its end.

    Args:
        ids: the tokens of all lines one after another, of shape `(tokens,)`.
        lengths: how many tokens each line has, of shape `(lines,)`.
    """
    starts = np.cumsum(lengths) - lengths
    columns = np.arange(context_length)
    is_token = columns < lengths[:, None]  # (lines, context_length)
    labels = np.zeros(is_token.shape, ids.dtype)
    labels[is_token] = ids[(starts[:, None] + columns)[is_token]]
    inputs = np.pad(labels[:, :-1], ((0, 0), (1, 0)), constant_values=BOS_ID)
    return Windows(inputs, labels)


def packed_windows(
    ids: Ids, lengths: Indices, context_length: int, is_padded: bool = False
) -> Windows:
    """Windows in which every token but those in a last gap is a label once.

    A line's first `context_length` tokens follow `[BOS]`, as a prompt does. What
    is left of the lines is joined and cut into windows; the input before the first
    label of a rest is the token that really stands before it. Lines too short to
    fill a window are packed too, several to a window, each after its own `[BOS]`.

    The last tokens are left out, or, `is_padded`, a window of their own.

    Args:
        ids: the tokens of all lines one after another, of shape `(tokens,)`.
        lengths: how many tokens each line has, of shape `(lines,)`.

    Raises:
        CorpusError: if there are not enough tokens for a single window.
    """
    starts = np.cumsum(lengths) - lengths
    before = np.empty_like(ids)  # (tokens,): what stands before each token
    before[1:] = ids[:-1]
    before[starts[lengths > 0]] = BOS_ID
    long_starts = starts[lengths >= context_length]
    heads = long_starts[:, None] + np.arange(context_length)
    is_rest = np.ones(len(ids), bool)
    is_rest[heads] = False
    rest = np.flatnonzero(is_rest)
    rest, left = np.split(rest, [len(rest) - len(rest) % context_length])
    positions = np.concatenate([heads, rest.reshape(-1, context_length)])
    inputs, labels = before[positions], ids[positions]
    if is_padded and len(left):
        gap = (0, context_length - len(left))
        inputs = np.vstack([inputs, np.pad(before[left], gap)])
        labels = np.vstack([labels, np.pad(ids[left], gap)])
    if not len(labels):
        raise CorpusError(
            f"the text has {len(ids)} tokens, too few for one window of "
            f"{context_length}: give more text or a smaller --context"
        )
    return Windows(inputs, labels)


def batch_order(
    feeding: Feeding, count: int, batch_size: int, seed: int, epoch: int
) -> list[Indices]:
    """Which windows are in which batch of an epoch.

    It depends on its arguments alone, so that a resumed run goes on with the very
    batch that a run without a break would have had.

    `cut` keeps windows in file order inside a batch, shuffles the batches through a
    buffer of 256 and keeps a last, smaller one, as the reference does. `packed`
    shuffles the windows themselves and drops what does not fill a batch, unless there
    is nothing else.
    """
    rng = np.random.default_rng([seed, epoch])
    places = list(range(steps_per_epoch(feeding, count, batch_size)))
    if feeding == "cut":
        windows = np.arange(count)
        places = _buffered_shuffle(places, rng)
    else:
        windows = rng.permutation(count)
    return [windows[place * batch_size :][:batch_size] for place in places]


def batches(
    windows: Windows, feeding: Feeding, batch_size: int, seed: int, first_step: int = 0
) -> Batches:
    """Batches without end, epoch after epoch, from the one of `first_step`.

    Yields:
        Inputs and labels, int32, of shape `(batch, context_length)`.
    """
    epoch, index = 0, first_step
    while True:
        order = batch_order(feeding, len(windows), batch_size, seed, epoch)
        for rows in order[index:]:
            yield windows[rows].batch()
        index = max(index - len(order), 0)
        epoch += 1


def recipe_batches(
    windows: Windows,
    recipe: Recipe,
    seed: int,
    first_step: int,
    progress: Callable[[int], float],
) -> Batches:
    """Batches as a recipe feeds them, from the one of `first_step`.

    Towards the end, where `progress` tells from a step how much of the run is over,
    they are of beginnings only.
    """

    def feed(windows: Windows, step: int) -> Batches:
        return batches(windows, recipe.feeding, recipe.batch_size, seed, step)

    step, early = first_step, feed(windows, first_step)
    while progress(step) <= 1 - recipe.beginnings:
        yield next(early)
        step += 1
    # A text whose lines are all shorter than a window has none.
    yield from feed(windows.beginnings or windows, step)


def steps_per_epoch(feeding: Feeding, count: int, batch_size: int) -> int:
    """How many batches an epoch of `count` windows has."""
    if feeding == "cut":
        return math.ceil(count / batch_size)
    return max(count // batch_size, 1)


def _buffered_shuffle(items: list[int], rng: np.random.Generator) -> list[int]:
    """In an order that `tf.data.Dataset.shuffle(REFERENCE_SHUFFLE)` might give."""
    left, order = list(items), []
    while left:
        order.append(left.pop(rng.integers(min(len(left), REFERENCE_SHUFFLE))))
    return order


@dataclass(frozen=True)
class TrainingData:
    """What is trained on and measured with."""

    train: Windows  # as the recipe's feeding makes them
    # As the reference cuts them; of a text that is kept as it was written, and may be
    # one long line, all of it.
    validation: Windows
    tokens_per_byte: float  # of the validation text
    fingerprint: str  # tells this text and vocabulary from all others


def training_data(recipe: Recipe, text: Text) -> TrainingData:
    """The windows that a recipe trains on and is measured with."""
    train, valid = (
        (part.ids, part.lengths, recipe.context_length)
        for part in (text.train, text.valid)
    )
    is_whole, is_cut = text.vocabulary.is_lossless, recipe.feeding == "cut"
    return TrainingData(
        cut_windows(*train) if is_cut else packed_windows(*train, is_whole),
        packed_windows(*valid, is_whole) if is_whole else cut_windows(*valid),
        len(text.valid.ids) / text.corpus.valid.size,
        fingerprint(
            train=text.corpus.train.sha256,
            valid=text.corpus.valid.sha256,
            **text.vocabulary.made_from,
        ),
    )
