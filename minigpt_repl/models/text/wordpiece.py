"""WordPiece ids as text: words, `##` pieces, and the display form of lowercased text.

Does not tokenize text; that is the tokenizer's work.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from minigpt_repl.models.text.codec import UNKNOWN_ID, TextCodec
from minigpt_repl.models.text.display import SentenceEnds, TextStream, Typesetter
from minigpt_repl.models.text.normalize import normalize_text
from minigpt_repl.models.text.spacing import SPACE_MARK, split_piece

WORD = re.compile(r"\w+|[^\w\s]")


class WordPieceText(TextCodec):
    """A WordPiece vocabulary.

    Args:
        pieces: the words, `##` and all.
        lowercase: whether the vocabulary is in lower case, so that capitals have to
            be guessed.
    """

    unknown_id = UNKNOWN_ID

    def __init__(self, pieces: Sequence[str], lowercase: bool = True) -> None:
        super().__init__(pieces)
        self.lowercase = lowercase

    def written(self, token_id: int) -> str:
        """The word of an id, without `##`."""
        if token_id in self.special_ids:
            return ""
        return split_piece(self.piece(token_id))[0]

    def visible(self, token_id: int) -> str:
        """A word as it stands in a text: `·king` begins one, `##ing` goes on with one.

        A mark is itself, because its neighbours decide on its space.
        """
        word = self.piece(token_id)
        return f"{SPACE_MARK}{word}" if word[:1].isalnum() else word

    def unknown_words(
        self, text: str, encode: Callable[[str], Sequence[int]]
    ) -> tuple[str, ...]:
        """Words and marks of a text that become `[UNK]`, each once, in order."""
        words = dict.fromkeys(WORD.findall(normalize_text(text)))
        return tuple(word for word in words if self.unknown_id in encode(word))

    def healing(self, prompt: str) -> tuple[str, frozenset[int] | None]:
        """Behind white space comes no piece that goes on with the word before."""
        if not prompt.strip() or not prompt[-1].isspace():
            return "", None
        return "", self._beginnings

    @cached_property
    def _beginnings(self) -> frozenset[int]:
        ids = set(range(len(self.pieces))) - self.special_ids
        return frozenset(id for id in ids if not split_piece(self.pieces[id])[1])

    def decoder(self, prompt: str, prompt_ids: Iterable[int]) -> "ByIds":
        """A decoder of display text."""
        words = [self.piece(token_id) for token_id in prompt_ids]
        return ByIds(self, TextStream.after(prompt, words, self.lowercase))

    def parts(
        self, prompt: str, prompt_ids: Sequence[int], token_ids: Sequence[int]
    ) -> list[str]:
        """What each new token added to the display text."""
        words = [self.piece(token_id) for token_id in (*prompt_ids, *token_ids)]
        typesetter = Typesetter(self.lowercase)
        parts = [*map(typesetter.write, words, [*words[1:], None])][len(prompt_ids) :]
        if parts and (not prompt or prompt[-1].isspace()):
            parts[0] = parts[0].removeprefix(" ")
        return parts

    def sentence_ends(self, prompt_ids: Iterable[int]) -> "ByIds":
        """Find them in the words."""
        ends = ByIds(self, SentenceEnds())
        for token_id in prompt_ids:
            ends.push(token_id)
        return ends

    def raw_delta(self, token_id: int, is_first: bool) -> str:
        """What a token adds to the raw text; a `##` piece has no space before it."""
        word, continues = split_piece(self.piece(token_id))
        return word if continues and not is_first else f" {word}"


class ByIds:
    """A `TextStream` or `display.SentenceEnds` that takes ids in place of words."""

    def __init__(self, text: WordPieceText, words: Any) -> None:
        self._text, self._words = text, words

    def push(self, token_id: int) -> Any:
        """Take the next token; returns what it returns of the token's word."""
        return self._words.push(self._text.piece(token_id))

    def flush(self) -> Any:
        """End the text; returns what was held back."""
        return self._words.flush()
