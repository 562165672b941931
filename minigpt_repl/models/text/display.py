"""The readable form of tokens: lowercased, split text put together again.

`display_text` decides spacing and capitals by rule (see `spacing`, `casing` for
what the rules cannot know); `raw_text` shows the tokens as they are. `TextStream`
gives the display form in parts, while the tokens come: it holds back at most one
token, a mark or word whose form depends on what follows (a quote, an apostrophe, `i`,
which may become `into`), and takes constant time for each.
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


class TextStream:
    """Turns tokens into the parts of their display text.

    The parts put together are `display_text` of all tokens.

    Args:
        lowercase: whether capitals have to be decided (see `display_text`).
    """

    def __init__(self, lowercase: bool = True) -> None:
        self._typesetter = Typesetter(lowercase)
        self._held: str | None = None
        self._held_is_shown = False
        self._drop_space = False

    @classmethod
    def after(
        cls, prompt: str, prompt_words: Sequence[str], lowercase: bool = True
    ) -> "TextStream":
        """Returns a stream that continues a prompt.

        It begins in the state that the prompt leaves (an open quotation, the
        start of a sentence), and its first part can be put right behind the
        prompt: with a space, unless the prompt ends in one or the first token
        belongs to the prompt's last word.

        Args:
            prompt: the prompt as the user typed it.
            prompt_words: its tokens.
            lowercase: as for the class.
        """
        stream = cls(lowercase)
        for word in prompt_words:
            stream.push(word)
        stream._held_is_shown = True
        stream._drop_space = not prompt or prompt[-1].isspace()
        return stream

    def push(self, word: str) -> str:
        """Takes the next token; returns the text that is certain now, often `""`
        after a token that has to be held back."""
        text = self._release(word)
        if self._typesetter.needs_next(word):
            self._held, self._held_is_shown = word, False
            return text
        return text + self._written(word, None)

    def flush(self) -> str:
        """Ends the text; returns what was held back."""
        return self._release(None)

    def _release(self, following: str | None) -> str:
        if self._held is None:
            return ""
        word, self._held = self._held, None
        if self._held_is_shown:  # the prompt's last token
            self._typesetter.write(word, following)
            return ""
        return self._written(word, following)

    def _written(self, word: str, following: str | None) -> str:
        text = self._typesetter.write(word, following)
        if self._drop_space:
            self._drop_space = False
            return text.removeprefix(" ")
        return text
