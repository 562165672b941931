"""The vocabulary of a text: what it is made of, and how it is learned.

Byte pairs are learned by a library, WordPieces here. They are what
`keras_hub.tokenizers.compute_word_piece_vocabulary` gives for the same lines, in a
fraction of the time. That runs `tensorflow_text`'s
`wordpiece_tokenizer_learner_lib.learn` (the algorithm of the subword tutorial at
tensorflow.org/text/guide/subwords_tokenizer): a pass cuts each word at the pieces known
so far, counts every substring that begins at a cut, and then takes from the count of
each substring the final counts of all its extensions.

Since every occurrence of a substring that does not end its word is also an occurrence
of an extension, what is left is the number of times that the substring *ends* a word:
only word endings ever count. So here a pass is a flow. Each word's count sits on the
word; the longest known prefix is cut off, and the count moves on to the rest, until
nothing is left. The ending a count passes through is what it counts for. All endings at
once, that is a few array operations a pass.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from minigpt_repl.models.text.codec import RESERVED
from minigpt_repl.models.text.spacing import PIECE
from minigpt_repl.training.corpus import Tokenizer
from minigpt_repl.training.documents import Lines
from minigpt_repl.training.progress import SILENT, Progress
from minigpt_repl.training.resume import fingerprint, kept_value

SMALLEST_BPE = 260  # pieces: the reserved ones and 256 bytes, and room for one pair
BYTES_A_PIECE = 40  # of the text: a rarer piece would be met too seldom

_LINES_AT_ONCE = 2000
_CHUNKS_AT_ONCE = 50_000

# Part of every fingerprint: raise it when the same lines give another result.
_FORMAT = 1

# The reference's settings, which KerasHub leaves at their defaults.
_LOWEST_THRESHOLD = 10
_HIGHEST_THRESHOLD = 10_000_000
_PASSES = 4
_MAX_WORD_LENGTH = 50
_MAX_CHARACTERS = 1000
_SLACK = 0.05

_Ids = NDArray[np.int64]


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


def learned(
    kind: Tokenizer, lines: Lines, most: int, lowercase: bool, progress: Progress
) -> Vocabulary:
    """The vocabulary of lines, learned now or in an earlier run.

    It has at `most` so many pieces, the reserved ones included.

    Raises:
        CorpusError: if it is too small, or the text is, to learn anything.
    """
    if kind == "wordpiece":
        words = prepared_vocabulary(lines, most, lowercase, progress)
        return Vocabulary(tuple(words), None, lowercase)
    if kind == "byte":
        return Vocabulary(BYTE_PIECES, ())
    if most < SMALLEST_BPE:
        raise CorpusError(
            f"a vocabulary of {most} has no room for 256 bytes: ask for "
            f"{SMALLEST_BPE} or more"
        )
    count = min(most, max(SMALLEST_BPE, lines.size // BYTES_A_PIECE))

    def learn() -> list[list[str]]:
        progress.start("vocabulary", 1, "vocabulary")
        made = learn_byte_pairs(lines.texts, count)
        progress.advance(1, entries=len(made[0]))
        progress.finish()
        return [*made]

    key = fingerprint(
        format=_FORMAT, lines=lines.sha256, size=count, pattern=SPLIT_PATTERN
    )
    pieces, merges = kept_value("pairs", key, learn)
    return Vocabulary(tuple(pieces), tuple(merges))


def learn_wordpieces(
    word_counts: Mapping[str, int],
    vocabulary_size: int,
    reserved: Sequence[str],
    progress: Progress = SILENT,
) -> list[str]:
    """Entries of a WordPiece vocabulary.

    Args:
        word_counts: how often each word occurs; not empty. Words come from a
            split at white space and punctuation, so none contains `"##"`.
        vocabulary_size: the most entries to return.
        reserved: entries that come first whatever the counts.
        progress: told of each threshold that is tried.

    Returns:
        The reserved entries, the single characters in code point order, then the
        pieces by falling count. At most `vocabulary_size`, often a little fewer:
        one count decides what is kept, and the search for it ends within 5%.
    """
    highest = min(max(word_counts.values()), _HIGHEST_THRESHOLD)
    lowest = max(min(word_counts.values()), _LOWEST_THRESHOLD)
    endings = _Endings(_usable_words(word_counts, reserved))
    progress.start("vocabulary", max(1, (highest - lowest).bit_length()), "thresholds")
    for tried in itertools.count(1):
        threshold = (highest + lowest) // 2
        counts, kept = endings.learn(threshold)
        size = len(reserved) + int(kept.sum())
        progress.advance(tried, threshold=threshold, entries=size)
        near = vocabulary_size - _SLACK * vocabulary_size <= size <= vocabulary_size
        if near or lowest >= highest or threshold <= 1:
            break
        if size > vocabulary_size:
            lowest = threshold + 1
        else:
            highest = threshold - 1
    progress.finish()
    return endings.entries(reserved, counts, kept)[:vocabulary_size]


def _usable_words(
    word_counts: Mapping[str, int], reserved: Sequence[str]
) -> list[tuple[str, int]]:
    """The words made of the most frequent characters, long and reserved ones out."""
    words = [
        (word, count)
        for word, count in word_counts.items()
        if len(word) <= _MAX_WORD_LENGTH and word not in reserved
    ]
    characters: Counter[str] = Counter()
    for word, count in words:
        for character in word:
            characters[character] += count
    ranked = sorted(characters, key=lambda each: (-characters[each], each))
    allowed = set(ranked[:_MAX_CHARACTERS])
    return [item for item in words if allowed.issuperset(item[0])]


class _Endings:
    """Every word, and every ending of a word, as one node each.

    A word and an equal ending are two nodes, since an ending is written with the
    joiner. Single characters are nodes in both ways, used or not. Nodes are in
    order of falling length.
    """

    def __init__(self, words: list[tuple[str, int]]) -> None:
        characters = {character for word, _ in words for character in word}
        whole = characters.union(word for word, _ in words)
        ending = characters.union(
            word[start:] for word, _ in words for start in range(1, len(word))
        )
        nodes = [("", text) for text in whole] + [(PIECE, text) for text in ending]
        nodes.sort(key=lambda node: (-len(node[1]), node))
        ids = {node: index for index, node in enumerate(nodes)}
        # Each node as the vocabulary has it, an ending with the joiner.
        self.entry = [joiner + text for joiner, text in nodes]
        # Characters, without the joiner. (nodes,)
        self.length = np.array([len(text) for _, text in nodes], np.int64)
        self.prefix = _longest_prefixes(nodes, ids)
        # What is left without the first character, -1 if nothing is. (nodes,)
        rest = [ids.get((PIECE, text[1:]), -1) for _, text in nodes]
        self.rest = np.array(rest, np.int64)
        # How often a node is a whole word; 0 for endings. (nodes,)
        self.words = np.zeros(len(nodes), np.int64)
        for word, count in words:
            self.words[ids["", word]] = count
        # The first node of each length, from the longest down, and the end.
        changes = np.flatnonzero(np.diff(self.length)) + 1
        self.first = [0, *changes.tolist(), len(nodes)]

    def learn(self, threshold: int) -> tuple[_Ids, NDArray[np.bool_]]:
        """Counts of all nodes after the last pass, and which of them are kept."""
        characters = self.length == 1
        kept = characters
        for _ in range(_PASSES):
            counts = self._flow(kept)
            kept = characters | (counts >= threshold)
        return np.where(counts >= threshold, counts, 1), kept

    def _flow(self, known: NDArray[np.bool_]) -> _Ids:
        """How often each node is met when words are cut at their known pieces."""
        # The longest known prefix: follow prefixes, twice as far each time.
        piece = np.where(known, np.arange(len(known)), self.prefix)
        while not known[piece].all():
            piece = piece[piece]
        # What is left without it: drop one character as often as it is long.
        left = self.rest.copy()
        cut = self.length[piece]
        active = np.flatnonzero(cut > 1)
        dropped = 1
        while len(active):
            left[active] = self.rest[left[active]]
            dropped += 1
            active = active[cut[active] > dropped]
        counts = self.words.copy()
        for start, end in itertools.pairwise(self.first):
            following = left[start:end]
            moves = following >= 0
            # What is left is shorter, so its own turn is still to come.
            np.add.at(counts, following[moves], counts[start:end][moves])
        return counts

    def entries(
        self, reserved: Sequence[str], counts: _Ids, kept: NDArray[np.bool_]
    ) -> list[str]:
        """The vocabulary in its final order."""
        ranked = sorted(
            (-int(counts[node]), self.entry[node]) for node in np.flatnonzero(kept)
        )
        pieces = [entry for _, entry in ranked]
        characters = sorted(entry for entry in pieces if len(entry) == 1)
        return list(dict.fromkeys([*reserved, *characters, *pieces]))


def _longest_prefixes(
    nodes: list[tuple[str, str]], ids: dict[tuple[str, str], int]
) -> _Ids:
    """Each node's longest proper prefix that is a node of the same kind.

    A single character has itself. `(nodes,)`
    """
    prefix = np.empty(len(nodes), np.int64)
    # In sorted order a text follows its prefixes: they are the open ones.
    open_nodes: list[tuple[str, str]] = []
    for joiner, text in sorted(nodes):
        while open_nodes and not (
            open_nodes[-1][0] == joiner and text.startswith(open_nodes[-1][1])
        ):
            open_nodes.pop()
        node = (joiner, text)
        prefix[ids[node]] = ids[open_nodes[-1] if open_nodes else node]
        open_nodes.append(node)
    return prefix


def prepared_vocabulary(
    lines: Lines,
    vocabulary_size: int,
    lowercase: bool = True,
    progress: Progress = SILENT,
) -> list[str]:
    """The vocabulary of the lines, learned now or in an earlier run.

    It has at most `vocabulary_size` entries, reserved ones included.

    Raises:
        CorpusError: if the text has too few words, or too many characters, for
            such a vocabulary.
    """
    about = {"format": _FORMAT, "lines": lines.sha256, "lowercase": lowercase}

    def learn() -> list[str]:
        counts = kept_value(
            "counts",
            fingerprint(**about),
            lambda: count_words(lines.texts, lowercase, progress),
        )
        return learn_vocabulary(counts, vocabulary_size, progress)

    key = fingerprint(size=vocabulary_size, reserved=RESERVED, **about)
    words: list[str] = kept_value("vocabulary", key, learn)
    if len(words) < vocabulary_size:
        progress.say(f"vocabulary: {len(words)} words of {vocabulary_size} asked for")
    return words


def count_words(
    lines: Sequence[str], lowercase: bool = True, progress: Progress = SILENT
) -> dict[str, int]:
    """How often each word occurs, split as the tokenizer will split it.

    White space ends a word whatever stands around it, so the text is cut there
    first, and KerasHub's slow split at punctuation, and its case folding, see each
    different chunk once. Words are in order of their first occurrence.
    """
    # Imported here: they load TensorFlow, which other stages do without.
    import tensorflow as tf
    from keras_hub.src.tokenizers.word_piece_tokenizer import pretokenize

    chunks: Counter[bytes] = Counter()
    for block in progress.blocks("count words", lines, "lines", _LINES_AT_ONCE):
        # As bytes: that splits at ASCII white space only, as the tokenizer does.
        chunks.update("\n".join(block).encode("utf-8").split())
    words: Counter[bytes] = Counter()
    for start in range(0, len(chunks), _CHUNKS_AT_ONCE):
        texts = [*itertools.islice(chunks, start, start + _CHUNKS_AT_ONCE)]
        with tf.device("CPU:0"):
            split = pretokenize(
                tf.constant(texts),
                lowercase=lowercase,
                strip_accents=False,
                split=True,
                split_on_cjk=True,
            )
        times = np.repeat([chunks[text] for text in texts], split.row_lengths())
        for word, count in zip(split.flat_values.numpy(), times.tolist(), strict=True):
            words[word] += count
    return {word.decode("utf-8"): count for word, count in words.items()}


def learn_vocabulary(
    word_counts: Mapping[str, int],
    vocabulary_size: int,
    progress: Progress = SILENT,
) -> list[str]:
    """The vocabulary for the word counts, reserved entries first.

    Raises:
        CorpusError: if nothing but single characters could be learned.
    """
    if not word_counts:
        raise CorpusError("the training text has no words; give another text")
    words = learn_wordpieces(word_counts, vocabulary_size, RESERVED, progress)
    texts = {word.removeprefix(PIECE) for word in words[len(RESERVED) :]}
    alone = {text for text in texts if len(text) == 1}
    needed = len(RESERVED) + 2 * len(alone)
    if len(words) <= needed:
        total = sum(word_counts.values())
        raise CorpusError(
            f"no words can be learned from {total:,} words of {len(alone)} different "
            f"characters: give more text, in which words occur {_LOWEST_THRESHOLD} "
            f"times, ask for a vocabulary of {2 * needed} or more, or, where no spaces "
            "part the words, take --tokenizer bpe"
        )
    return words
