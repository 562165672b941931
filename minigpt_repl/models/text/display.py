"""The readable form of tokens: lowercased, split text put together again.

`i ' m here , said the bo ##y .` becomes `I'm here, said the boy.`: `Typesetter` decides
spaces and capitals by rule. `TextStream` gives the display form in parts, while the
tokens come: it holds back at most one token, a mark or word whose form depends on what
follows (a quote, an apostrophe, `i`, which may become `into`), and takes constant time
for each.

Capitals have sentence starts, the word `I`, titles and the name behind them, initials,
and a few names of days, months, countries and languages; other names cannot be known.
A sentence's end, for the stop rule, is decided when a token has come, without the one
after it: a full stop behind a number is taken for a decimal point, and the first of
three dots for a full stop.
"""

import copy
from collections.abc import Sequence

from minigpt_repl.models.text.spacing import (
    ABBREVIATIONS,
    PIECE,
    PROPER,
    SENTENCE_ENDS,
    SPEAKERS,
    TITLES,
    Spacing,
    kind_of,
    split_piece,
)

_ALWAYS_LARGE = TITLES | PROPER | {"i"}

# No word that matters here is longer.
_WORD_LENGTH = 40


class Casing:
    """Decides, token after token, whether each begins with a capital letter.

    Constant in time and size for each token.

    Attributes:
        starts_sentence: whether the next word begins a sentence.
    """

    def __init__(self) -> None:
        self.starts_sentence = True
        # The sentence may go on behind a quotation: "What!" he cried.
        self._may_resume = False
        # The quotation was interrupted: "Yes," he said, "and now".
        self._quote_resumes = False
        self._after_title = False
        self._word = ""
        self._dots = 0

    def cased(self, token: str, following: str | None, spacing: Spacing) -> str:
        """Read the next token; returns its characters as they are written.

        Args:
            token: a word, a mark or a `##` piece, in lower case.
            following: the token after it, `None` at the end; see `Typesetter`.
            spacing: the spacing, which has read `token` already.
        """
        text, continues = split_piece(token)
        if continues:
            self._word = (self._word + text)[-_WORD_LENGTH:]
            return text
        if kind_of(text) == "word":
            return self._cased_word(text, following, spacing)
        self._read_mark(text, spacing)
        return text

    def _cased_word(self, text: str, following: str | None, spacing: Spacing) -> str:
        starts = self.starts_sentence and not (self._may_resume and text in SPEAKERS)
        large = starts or (self._after_title and text != "and")
        # An initial; but 4 p.m.
        initial = len(text) == 1 and following == "." and not self._word[-1:].isdigit()
        if not large and not (following or "").startswith(PIECE):
            large = text in _ALWAYS_LARGE or initial
        large = large and not spacing.inside_word
        self.starts_sentence = False
        self._may_resume = self._after_title = False
        self._word = (self._word if spacing.inside_word else "") + text
        self._word = self._word[-_WORD_LENGTH:]
        self._dots = 0
        return text[:1].title() + text[1:] if large else text

    def _read_mark(self, text: str, spacing: Spacing) -> None:
        self._dots = self._dots + 1 if text == "." else 0
        if text in SENTENCE_ENDS:
            self._end(text)
        elif spacing.quote == "opens":
            new = kind_of(self._word) != "word" and not self._quote_resumes
            self.starts_sentence = self.starts_sentence or new
        elif spacing.quote == "closes":
            self._may_resume = self.starts_sentence and self._word in ("!", "?")
            self._quote_resumes = not self.starts_sentence
        elif kind_of(text) in ("tight", "open", "close") and text not in ")]}":
            self.starts_sentence = self.starts_sentence and kind_of(text) == "open"
        self._word = text

    def _end(self, text: str) -> None:
        if text != ".":
            self.starts_sentence = True
            self._quote_resumes = False
            return
        abbreviated = self._word in ABBREVIATIONS
        initial = len(self._word) == 1 and self._word.isalpha() and self._word != "i"
        # The second letter of p.m.; three dots are an ellipsis, four end a sentence.
        dotted = self._word[:-1] == "." and self._word != ".."
        inside = abbreviated or initial or dotted or self._dots in (2, 3)
        self._after_title = initial or self._word in TITLES
        self.starts_sentence = not inside
        if self.starts_sentence:
            self._quote_resumes = False


class SentenceEnds:
    """Tells after each token whether it ends a sentence. Constant time each.

    A sentence ends with `.`, `!` or `?` and the quotes that it closes; inside
    an open quotation it ends where the quotation does. The stop of an
    abbreviation or initial, a decimal point, and dots two and three do not.
    """

    def __init__(self) -> None:
        self._typesetter = Typesetter()
        self._last: str | None = None

    def push(self, word: str) -> bool:
        """Take the next token; returns whether it ends a sentence."""
        word = word.lower()
        if self._last is not None:
            self._typesetter.write(self._last, word)
        self._last = word
        # What follows may change how a quote is read: look at a copy.
        read = copy.deepcopy(self._typesetter)
        is_decimal = word == "." and read.spacing.after_digit
        read.write(word, None)
        if is_decimal or read.spacing.in_quotation or not read.casing.starts_sentence:
            return False
        return word in SENTENCE_ENDS or read.spacing.quote == "closes"


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
        self._lowercase = lowercase
        self.spacing, self.casing = Spacing(), Casing()

    def needs_next(self, word: str) -> bool:
        """Whether `write(word, ...)` may depend on the word after it."""
        if self.spacing.needs_next(word):
            return True
        if not self._lowercase or self.spacing.joins_next_to_word:
            return False  # capitals stand at the beginning of words
        return word in _ALWAYS_LARGE or (len(word) == 1 and word.isalpha())

    def write(self, word: str, following: str | None) -> str:
        """A token as displayed, with the space before it if it has one.

        Args:
            word: a word, a mark or a `##` piece of the vocabulary.
            following: the token after it; `None` at the end of the text, or
                where `needs_next(word)` does not hold.
        """
        space = " " if self.spacing.space_before(word, following) else ""
        if word == UNKNOWN_WORD:
            word = UNKNOWN_MARK
        if not self._lowercase:
            return space + split_piece(word)[0]
        return space + self.casing.cased(word, following, self.spacing)


class TextStream:
    """Turns tokens into the parts of their display form.

    The parts put together are what a `Typesetter` writes that sees all tokens at once.

    Args:
        lowercase: whether capitals have to be decided (see `Typesetter`).
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
        """A stream that continues a prompt, given as it was typed and as its tokens.

        It begins in the state that the prompt leaves (an open quotation, the
        start of a sentence), and its first part can be put right behind the
        prompt: with a space, unless the prompt ends in one or the first token
        belongs to the prompt's last word.
        """
        stream = cls(lowercase)
        for word in prompt_words:
            stream.push(word)
        stream._held_is_shown = True
        stream._drop_space = not prompt or prompt[-1].isspace()
        return stream

    def push(self, word: str) -> str:
        """Take the next token; returns the text that is certain now, often `""`
        after a token that has to be held back."""
        text = self._release(word)
        if self._typesetter.needs_next(word):
            self._held, self._held_is_shown = word, False
            return text
        return text + self._written(word, None)

    def flush(self) -> str:
        """End the text; returns what was held back."""
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
