"""Where spaces stand between the tokens of a text that was split at punctuation.

WordPiece splits at every punctuation mark and forgets which of them touched
their neighbours. Most of it can be decided again from the marks themselves;
quotes need to know which are open, apostrophes need the word that follows.
One token of look-ahead is enough, so text can be shown while it is generated.

Knows the Unicode categories and English elisions (`english`). Cannot know what
the tokens do not hold: whether a dialect apostrophe belongs to the word before
or behind it, whether dots stood apart from the word, spaces around a dash.
"""

import re
from typing import Literal

from minigpt_repl.models.text import english
from minigpt_repl.models.text.marks import (
    DOUBLE_QUOTES,
    SINGLE_QUOTES,
    Kind,
    is_unspaced_script,
    kind_of,
    split_piece,
)

# Patterns on the unspaced run of characters before a token.
_DECIMAL = re.compile(r"\d[.:]$")
_THOUSANDS = re.compile(r"(?:^|[^\d.])\d{1,3}(?:,\d{3})*,$")
_WORD_CHARACTER = re.compile(r"[^\W_]")
_LAST_WORD = re.compile(r"(?:[^\W_]|['’])*$")

# No decision looks further back than this.
_RUN_LENGTH = 40

_Gap = tuple[bool, bool]
"""Whether a space stands before a token, and whether the next one is joined."""

_OPENING_SINGLE_QUOTES = "‘‚`"

_SPACE_THEN_JOIN: _Gap = (True, True)
_JOIN_BOTH: _Gap = (False, True)
_JOIN_THEN_SPACE: _Gap = (False, False)


class Spacing:
    """Decides, token after token, whether a space stands before each.

    The state is what has been read: the marks just before and the open quotes.
    Constant in time and size for each token.
    """

    def __init__(self) -> None:
        self._join_next = True
        self._kind: Kind = "start"
        self._run = ""
        self._double = ""
        self._single: Literal["", "speech", "phrase"] = ""
        self._doubles_seen = False
        self._inside_word = False
        self._quote: Literal["", "opens", "closes"] = ""

    @property
    def inside_word(self) -> bool:
        """Whether the last token was joined to a word: the `t` of `don't`."""
        return self._inside_word

    @property
    def joins_next_to_word(self) -> bool:
        """Whether the next token is joined to a word, whatever it is."""
        return self._join_next and bool(_WORD_CHARACTER.search(self._run))

    @property
    def quote(self) -> Literal["", "opens", "closes"]:
        """What the last token was: the begin or end of a quotation, or neither."""
        return self._quote

    @property
    def in_quotation(self) -> bool:
        """Whether a quotation is open."""
        return bool(self._double) or self._single == "speech"

    @property
    def after_digit(self) -> bool:
        """Whether the last token ends in a digit."""
        return self._run[-1:].isdigit()

    def needs_next(self, token: str) -> bool:
        """Whether the space before a token may depend on the token after it."""
        if len(token) != 1:
            return False
        if token.isalpha():  # a.m. or J. R. Smith
            return self._run.endswith(".")
        return token == "&" or kind_of(token) == "quote"

    def space_before(self, token: str, following: str | None) -> bool:
        """Reads the next token; returns whether a space stands before it.

        Args:
            token: a word, a mark or a `##` piece.
            following: the token after it, `None` at the end. Only looked at
                where `needs_next(token)` holds.
        """
        text, continues = split_piece(token)
        lower = text.lower()
        self._quote = ""
        if continues:
            self._advance("word", lower, False, False)
            return False
        kind = kind_of(text)
        after = split_piece(following)[0].lower() if following else ""
        if text in DOUBLE_QUOTES:
            space, join_next = self._double_quote(text, after)
        elif text in SINGLE_QUOTES:
            space, join_next = self._single_quote(text, after)
        else:
            space, join_next = self._plain(kind, lower, after)
        self._advance(kind, lower, space, join_next)
        return space

    def _advance(self, kind: Kind, lower: str, space: bool, join_next: bool) -> None:
        self._inside_word = not space and bool(_WORD_CHARACTER.search(self._run))
        self._run = lower if space else (self._run + lower)[-_RUN_LENGTH:]
        self._kind, self._join_next = kind, join_next

    def _plain(self, kind: Kind, lower: str, after: str) -> _Gap:
        """A word, or a mark other than a quote."""
        if kind == "tight":
            return _JOIN_BOTH
        if kind == "close":
            return _JOIN_THEN_SPACE
        space = not self._join_next
        if kind == "open":
            return space and not is_unspaced_script(lower), True
        if kind == "alone":
            return space, lower == "&" and after == "c"
        return space and not self._is_joined_word(lower, after), False

    def _is_joined_word(self, lower: str, after: str) -> bool:
        if not (self._run and lower):
            return False
        last = self._run[-1]
        if lower[:1].isdigit():
            if _DECIMAL.search(self._run):
                return True
            if len(lower) == 3 and _THOUSANDS.search(self._run):
                return True
        if last == "." and len(lower) == 1 and after == ".":
            return self._run[-2:-1] + lower in english.DOTTED_PAIRS
        if is_unspaced_script(lower[:1]):
            return any(is_unspaced_script(c) for c in self._run[-2:])
        return is_unspaced_script(last) and (lower[:1].isdigit() or not last.isalnum())

    def _double_quote(self, mark: str, after: str) -> _Gap:
        self._doubles_seen = True
        closes = bool(self._double) and (mark != "“" or self._double == "„")
        if self._kind == "word" and kind_of(after or " ") == "close":
            closes = True  # the opening one may be missing
        if self._single == "phrase":
            self._single = ""
        self._double = "" if closes else mark
        return self._close() if closes else self._open()

    def _open(self) -> _Gap:
        self._quote = "opens"
        return not self._join_next, True

    def _close(self) -> _Gap:
        self._quote = "closes"
        return _JOIN_THEN_SPACE

    def _single_quote(self, mark: str, after: str) -> _Gap:
        if mark in _OPENING_SINGLE_QUOTES:
            self._single = "speech"
            return self._open()
        if self._kind == "word":
            return self._apostrophe(after)
        within = bool(self._double or self._single or self._doubles_seen)
        if within and after in english.ELIDED:
            return not self._join_next, True
        if self._single and not self._join_next:
            self._single = ""
            return self._close()
        self._single = "speech"
        return self._open()

    def _apostrophe(self, after: str) -> _Gap:
        """A single quote that follows a word."""
        word = _last_word(self._run)
        if after and kind_of(after) == "word":
            if word == "o":
                return False, after not in english.AFTER_O
            if after in english.ENDINGS or word in english.PREFIXES:
                return _JOIN_BOTH
            if after in english.ELIDED:
                return _SPACE_THEN_JOIN
            cut = word in english.CUT or word.endswith(("s", "in"))
            if not self._single and not cut:
                self._single = "phrase"
                return _SPACE_THEN_JOIN
        if self._single == "phrase":
            self._single = ""
        return _JOIN_THEN_SPACE


def _last_word(run: str) -> str:
    found = _LAST_WORD.search(run)
    return found.group() if found else ""
