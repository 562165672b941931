"""Words and their ids, as the terminal needs them: without TensorFlow.

Knows the file that KerasHub writes for a WordPiece tokenizer and the three
reserved words. Does not tokenize text; that is the tokenizer's work.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from minigpt_repl.errors import CheckpointError
from minigpt_repl.models.text.marks import split_piece

RESERVED_WORDS = ("[PAD]", "[UNK]", "[BOS]")


class Vocabulary:
    """The words of a model, in the order of their ids; never changes.

    Ids from `len()` on have no word (a model may have more rows than words);
    they are shown as a placeholder, `[#4950]`.

    Args:
        words: the words; the first three are `[PAD]`, `[UNK]` and `[BOS]`.

    Raises:
        CheckpointError: the reserved words are not where they belong.
    """

    pad_id = 0
    unk_id = 1
    bos_id = 2
    special_ids = frozenset((pad_id, unk_id, bos_id))

    def __init__(self, words: Sequence[str]) -> None:
        first = tuple(words[: len(RESERVED_WORDS)])
        if first != RESERVED_WORDS:
            raise CheckpointError(
                f"A vocabulary begins with {' '.join(RESERVED_WORDS)}; "
                f"this one begins with {' '.join(first) or 'nothing'}."
            )
        self._words = tuple(words)

    @classmethod
    def read(cls, path: str | Path) -> "Vocabulary":
        """Reads a checkpoint's `vocabulary.txt`: UTF-8, one word a line.

        Raises:
            CheckpointError: the file cannot be read, or is no such vocabulary.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise CheckpointError(
                f"Cannot read the vocabulary {path}: {reason}."
            ) from error
        # Not splitlines(): that splits at characters which may be words, too.
        lines = text.removesuffix("\n").split("\n")
        # KerasHub strips the lines that it reads; ids must be those it gives.
        return cls([line.rstrip() for line in lines])

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._words == other._words

    def __hash__(self) -> int:
        return hash(self._words)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: id_ for id_, word in enumerate(self._words)}

    @property
    def words(self) -> tuple[str, ...]:
        """All words, in the order of their ids."""
        return self._words

    def word(self, id_: int) -> str:
        """The word of an id, `##` and all; a placeholder where it has none."""
        if 0 <= id_ < len(self._words):
            return self._words[id_]
        return f"[#{id_}]"

    def id(self, word: str) -> int | None:
        """The id of a word as it stands in the vocabulary, `None` if it does not."""
        return self._ids.get(word)

    def is_continuation(self, id_: int) -> bool:
        """Whether an id is a `##` piece, which continues the word before it."""
        return split_piece(self.word(id_))[1]

    def pieces(self, ids: Iterable[int]) -> tuple[str, ...]:
        """The words of several ids; never raises."""
        return tuple(self.word(id_) for id_ in ids)
