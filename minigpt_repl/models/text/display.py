"""The readable form of tokens: lowercased, split text put together again.

`display_text` decides spacing and capitals by rule (see `spacing`, `casing` for
what the rules cannot know); `raw_text` shows the tokens as they are. `TextStream`
in `stream` gives the display form in parts, while the tokens come.
"""

from collections.abc import Sequence

from minigpt_repl.models.text import casing
from minigpt_repl.models.text.casing import Casing
from minigpt_repl.models.text.marks import split_piece
from minigpt_repl.models.text.spacing import Spacing

UNKNOWN_WORD = "[UNK]"
UNKNOWN_MARK = "\N{REPLACEMENT CHARACTER}"
"""What stands for a word that the vocabulary cannot spell."""


class Typesetter:
    """Writes one token after the other as it is displayed.

    Args:
        lowercase: whether the vocabulary is in lower case, so that capitals
            have to be decided. Otherwise the case of the tokens is kept.
    """

    def __init__(self, lowercase: bool = True) -> None:
        self._spacing = Spacing()
        self._casing = Casing() if lowercase else None

    def needs_next(self, word: str) -> bool:
        """Whether `write(word, ...)` may depend on the word after it."""
        if self._spacing.needs_next(word):
            return True
        if self._casing is None or self._spacing.joins_next_to_word:
            return False  # capitals stand at the beginning of words
        return casing.needs_next(word)

    def write(self, word: str, following: str | None) -> str:
        """Returns a token as displayed, with the space before it if it has one.

        Args:
            word: a word, a mark or a `##` piece of the vocabulary.
            following: the token after it; `None` at the end of the text, or
                where `needs_next(word)` does not hold.
        """
        space = " " if self._spacing.space_before(word, following) else ""
        if word == UNKNOWN_WORD:
            text = UNKNOWN_MARK
            word = text
        if self._casing is None:
            return space + split_piece(word)[0]
        return space + self._casing.cased(word, following, self._spacing)


def display_text(words: Sequence[str], lowercase: bool = True) -> str:
    """Returns the readable form of a text's tokens.

    `i ' m here , said the bo ##y .` becomes `I'm here, said the boy.`

    Args:
        words: words, marks and `##` pieces as they stand in the vocabulary.
        lowercase: whether capitals have to be decided, too.
    """
    typesetter = Typesetter(lowercase)
    following = [*words[1:], None]
    return "".join(map(typesetter.write, words, following))


def raw_text(words: Sequence[str]) -> str:
    """Returns the tokens with a space between them, `##` pieces joined."""
    parts: list[str] = []
    for word in words:
        text, continues = split_piece(word)
        parts.append(text if continues or not parts else " " + text)
    return "".join(parts)
