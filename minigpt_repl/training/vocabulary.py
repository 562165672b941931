"""Learns the vocabulary of a training text: words counted, then WordPiece learned.

Gives what `keras_hub.tokenizers.compute_word_piece_vocabulary` gives for the same
lines, in a fraction of the time. Knows KerasHub's way to split text; no corpus, no
model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from minigpt_repl.errors import CorpusError
from minigpt_repl.training.progress import Progress, SilentProgress
from minigpt_repl.training.stages import StageCache, fingerprint
from minigpt_repl.training.wordpiece_learner import learn_wordpieces

RESERVED = ("[PAD]", "[UNK]", "[BOS]")
"""The entries with ids 0, 1 and 2."""

_LINES_AT_ONCE = 2000
_CHUNKS_AT_ONCE = 50_000

# Part of every fingerprint: raise it when the same lines give another result.
_FORMAT = 1


def prepared_vocabulary(
    lines: Sequence[str],
    lines_hash: str,
    vocabulary_size: int,
    lowercase: bool = True,
    progress: Progress | None = None,
    cache: StageCache | None = None,
) -> list[str]:
    """The vocabulary of the lines, learned now or in an earlier run.

    Args:
        lines: the training lines.
        lines_hash: tells these lines from all others (`Corpus.train_sha256`).
        vocabulary_size: the most entries, reserved ones included.
        lowercase: whether words are case-folded.
        progress: shows the counting and the learning.
        cache: where counts and vocabulary are kept.

    Raises:
        CorpusError: if the text has too few words, or too many characters, for
            such a vocabulary.
    """
    progress = progress or SilentProgress()
    cache = cache or StageCache()
    about = {"format": _FORMAT, "lines": lines_hash, "lowercase": lowercase}

    def counts() -> dict[str, int]:
        return count_words(lines, lowercase, progress)

    def learn() -> list[str]:
        kept: dict[str, int] = cache.value("counts", fingerprint(**about), counts)
        return learn_vocabulary(kept, vocabulary_size, progress)

    key = fingerprint(size=vocabulary_size, reserved=RESERVED, **about)
    words: list[str] = cache.value("vocabulary", key, learn)
    if len(words) < vocabulary_size:
        progress.say(f"vocabulary: {len(words)} words of {vocabulary_size} asked for")
    return words


def count_words(
    lines: Sequence[str], lowercase: bool = True, progress: Progress | None = None
) -> dict[str, int]:
    """How often each word occurs, split as the tokenizer will split it.

    White space ends a word whatever stands around it, so the text is cut there
    first, and KerasHub's slow split at punctuation, and its case folding, see each
    different chunk once.

    Returns:
        Counts in order of each word's first occurrence.
    """
    progress = progress or SilentProgress()
    progress.start("count words", len(lines), "lines")
    chunks: Counter[bytes] = Counter()
    for start in range(0, len(lines), _LINES_AT_ONCE):
        block = lines[start : start + _LINES_AT_ONCE]
        # As bytes: that splits at ASCII white space only, as the tokenizer does.
        chunks.update("\n".join(block).encode("utf-8").split())
        progress.advance(start + len(block))
    progress.finish()
    return _words_of(chunks, lowercase)


def learn_vocabulary(
    word_counts: Mapping[str, int],
    vocabulary_size: int,
    progress: Progress | None = None,
) -> list[str]:
    """The vocabulary for the word counts, reserved entries first.

    Raises:
        CorpusError: if nothing but single characters could be learned, or not
            even these have room.
    """
    if not word_counts:
        raise CorpusError("the training text has no words; give another text")
    words = learn_wordpieces(word_counts, vocabulary_size, RESERVED, progress)
    characters = {word.removeprefix("##") for word in words[len(RESERVED) :]}
    alone = {character for character in characters if len(character) == 1}
    needed = len(RESERVED) + 2 * len(alone)
    if len(words) == vocabulary_size < needed:
        raise CorpusError(
            f"the training text has {len(alone)} different characters: a vocabulary "
            f"of {vocabulary_size} has no room for words, ask for {2 * needed} or more"
        )
    if len(words) <= needed:
        total = sum(word_counts.values())
        raise CorpusError(
            f"the training text is too small for a vocabulary: no word of its {total} "
            "words occurs often enough (10 times or more); give more text"
        )
    return words


def _words_of(chunks: Counter[bytes], lowercase: bool) -> dict[str, int]:
    # Imported here: they load TensorFlow, which other stages do without.
    import tensorflow as tf
    from keras_hub.src.tokenizers.word_piece_tokenizer import pretokenize

    words: Counter[bytes] = Counter()
    texts = list(chunks)
    for start in range(0, len(texts), _CHUNKS_AT_ONCE):
        block = texts[start : start + _CHUNKS_AT_ONCE]
        with tf.device("CPU:0"):
            split = pretokenize(
                tf.constant(block),
                lowercase=lowercase,
                strip_accents=False,
                split=True,
                split_on_cjk=True,
            )
        times = np.repeat([chunks[text] for text in block], split.row_lengths())
        for word, count in zip(split.flat_values.numpy(), times.tolist(), strict=True):
            words[word] += count
    return {word.decode("utf-8"): count for word, count in words.items()}
