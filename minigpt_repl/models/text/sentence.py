"""Where a sentence ends, for the stop rule.

Decides when a token has come, without the one after it: a full stop behind a
number is taken for a decimal point, and the first of three dots for a full stop.
"""

import copy
from collections.abc import Iterable

from minigpt_repl.models.text.casing import Casing
from minigpt_repl.models.text.marks import SENTENCE_ENDS
from minigpt_repl.models.text.spacing import Spacing


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


def ends_sentence(words: Iterable[str]) -> bool:
    """Whether the last of a text's tokens ends a sentence (see `SentenceEnds`)."""
    ends = SentenceEnds()
    ended = False
    for word in words:
        ended = ends.push(word)
    return ended
