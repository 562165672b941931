"""The vocabulary of a text, of any kind of tokenizer: learned once, kept, made anew.

Knows kinds of tokenizers and the cache; no corpus and no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minigpt_repl.errors import CorpusError
from minigpt_repl.training.corpus import Tokenizer
from minigpt_repl.training.progress import Progress
from minigpt_repl.training.resume import StageCache, fingerprint
from minigpt_repl.training.vocabulary import prepared_vocabulary

SMALLEST_BPE = 260
"""Pieces: the reserved ones and 256 bytes, and room for one pair."""

BYTES_A_PIECE = 100
"""Of the text, for each piece that is learned: a rarer one would be met too seldom."""

_FORMAT = 1


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer is made of.

    Attributes:
        pieces: in order of their ids.
        merges: pairs of byte-level BPE; `None` for WordPiece.
        lowercase: whether WordPiece folds case.
        document: what has an end that is learned, if anything.
    """

    pieces: tuple[str, ...]
    merges: tuple[str, ...] | None = None
    lowercase: bool = False
    document: str | None = None

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
        # Imported here: they load TensorFlow, which other stages do without.
        if self.merges is None:
            from minigpt_repl.models.tokenizer import MiniGPTTokenizer

            return MiniGPTTokenizer(list(self.pieces), lowercase=self.lowercase)
        from minigpt_repl.models.byte_pair import MiniGPTBytePairTokenizer

        ids = {piece: place for place, piece in enumerate(self.pieces)}
        return MiniGPTBytePairTokenizer(ids, list(self.merges), document=self.document)


def learned(
    kind: Tokenizer,
    texts: Sequence[str],
    texts_hash: str,
    most: int,
    lowercase: bool,
    progress: Progress,
    cache: StageCache | None = None,
) -> Vocabulary:
    """The vocabulary of texts, learned now or in an earlier run.

    Args:
        kind: of the tokenizer.
        texts: what is trained on.
        texts_hash: tells them from all others.
        most: pieces, the reserved ones included.
        lowercase: whether WordPiece folds case.
        progress: shows the learning.
        cache: where it is kept.

    Raises:
        CorpusError: if it is too small, or the text is, to learn anything.
    """
    if kind == "wordpiece":
        words = prepared_vocabulary(texts, texts_hash, most, lowercase, progress, cache)
        return Vocabulary(tuple(words), None, lowercase)
    from minigpt_repl.models.byte_pair import (
        BYTE_PIECES,
        SPLIT_PATTERN,
        learn_byte_pairs,
    )

    if kind == "byte":
        return Vocabulary(BYTE_PIECES, ())
    if most < SMALLEST_BPE:
        raise CorpusError(
            f"a vocabulary of {most} has no room for 256 bytes: ask for "
            f"{SMALLEST_BPE} or more"
        )
    size = sum(len(text.encode("utf-8")) for text in texts)
    count = min(most, max(SMALLEST_BPE, size // BYTES_A_PIECE))

    def learn() -> list[list[str]]:
        progress.start("vocabulary", 1, "vocabulary")
        made = learn_byte_pairs(texts, count)
        progress.advance(1, entries=len(made[0]))
        progress.finish()
        return [*made]

    key = fingerprint(
        format=_FORMAT, lines=texts_hash, size=count, pattern=SPLIT_PATTERN
    )
    pieces, merges = (cache or StageCache()).value("pairs", key, learn)
    return Vocabulary(tuple(pieces), tuple(merges))
