"""Which words of a lowercased text are written large, and where a sentence ends.

Sentence starts, the word `I`, titles and the name behind them, initials, and a
few names of days, months, countries and languages. Cannot know other names.

A sentence's end, for the stop rule, is decided when a token has come, without the one
after it: a full stop behind a number is taken for a decimal point, and the first of
three dots for a full stop.
"""

import copy

from minigpt_repl.models.text import english
from minigpt_repl.models.text.marks import PIECE, SENTENCE_ENDS, kind_of, split_piece
from minigpt_repl.models.text.spacing import Spacing

_ALWAYS_LARGE = english.TITLES | english.PROPER | {"i"}

# No word that matters here is longer.
_WORD_LENGTH = 40


def needs_next(token: str) -> bool:
    """Whether the case of a token may depend on the token after it."""
    return token in _ALWAYS_LARGE or (len(token) == 1 and token.isalpha())


class Casing:
    """Decides, token after token, whether each begins with a capital letter.

    Constant in time and size for each token.
    """

    def __init__(self) -> None:
        self._starts = True
        # The sentence may go on behind a quotation: "What!" he cried.
        self._may_resume = False
        # The quotation was interrupted: "Yes," he said, "and now".
        self._quote_resumes = False
        self._after_title = False
        self._word = ""
        self._dots = 0

    @property
    def starts_sentence(self) -> bool:
        """Whether the next word begins a sentence."""
        return self._starts

    def cased(self, token: str, following: str | None, spacing: Spacing) -> str:
        """Reads the next token; returns its characters as they are written.

        Args:
            token: a word, a mark or a `##` piece, in lower case.
            following: the token after it, `None` at the end. Only looked at
                where `needs_next(token)` holds.
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
        starts = self._starts and not (self._may_resume and text in english.SPEAKERS)
        large = starts or (self._after_title and text != "and")
        # An initial; but 4 p.m.
        initial = len(text) == 1 and following == "." and not self._word[-1:].isdigit()
        if not large and not (following or "").startswith(PIECE):
            large = text in _ALWAYS_LARGE or initial
        large = large and not spacing.inside_word
        self._starts = False
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
            self._starts = self._starts or new
        elif spacing.quote == "closes":
            self._may_resume = self._starts and self._word in ("!", "?")
            self._quote_resumes = not self._starts
        elif kind_of(text) in ("tight", "open", "close") and text not in ")]}":
            self._starts = self._starts and kind_of(text) == "open"
        self._word = text

    def _end(self, text: str) -> None:
        if text != ".":
            self._starts = True
            self._quote_resumes = False
            return
        abbreviated = self._word in english.ABBREVIATIONS
        initial = len(self._word) == 1 and self._word.isalpha() and self._word != "i"
        # The second letter of p.m.; three dots are an ellipsis, four end a sentence.
        dotted = self._word[:-1] == "." and self._word != ".."
        inside = abbreviated or initial or dotted or self._dots in (2, 3)
        self._after_title = initial or self._word in english.TITLES
        self._starts = not inside
        if self._starts:
            self._quote_resumes = False


class SentenceEnds:
    """Tells after each token whether it ends a sentence. Constant time each.

    A sentence ends with `.`, `!` or `?` and the quotes that it closes; inside
    an open quotation it ends where the quotation does. The stop of an
    abbreviation or initial, a decimal point, and dots two and three do not.
    """

    def __init__(self) -> None:
        self._spacing = Spacing()
        self._casing = Casing()
        self._last: str | None = None

    def push(self, word: str) -> bool:
        """Takes the next token; returns whether it ends a sentence."""
        word = word.lower()
        if self._last is not None:
            _read(self._spacing, self._casing, self._last, word)
        self._last = word
        # What follows may change how a quote is read: look at a copy.
        spacing, casing = copy.copy(self._spacing), copy.copy(self._casing)
        decimal = word == "." and spacing.after_digit
        _read(spacing, casing, word, None)
        if decimal or spacing.in_quotation or not casing.starts_sentence:
            return False
        return word in SENTENCE_ENDS or spacing.quote == "closes"


def _read(spacing: Spacing, casing: Casing, word: str, after: str | None) -> None:
    spacing.space_before(word, after)
    casing.cased(word, after, spacing)
