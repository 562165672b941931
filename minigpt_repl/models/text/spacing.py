"""Where spaces stand between the tokens of a text that was split at punctuation.

WordPiece splits at every punctuation mark and forgets which of them touched
their neighbours. Most of it can be decided again from the marks themselves;
quotes need to know which are open, apostrophes need the word that follows.
One token of look-ahead is enough, so text can be shown while it is generated.

What the tokens do not hold stays unknown: whether a dialect apostrophe belongs to the
word before or behind it, whether dots stood apart from the word, spaces around a dash.
"""

import re
import unicodedata
from typing import Literal

PIECE = "##"

SPACE_MARK = "·"
"""Stands for a space in front of a token where it has to be seen."""

DOUBLE_QUOTES = frozenset('"“”„‟«»')
SINGLE_QUOTES = frozenset("'’‘`‚")
SENTENCE_ENDS = frozenset(".!?…。！？")

Kind = Literal["start", "word", "close", "open", "tight", "alone", "quote"]
"""A `close` mark touches what is before it, an `open` one what is behind it,
a `tight` one both, one that is `alone` neither."""

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(DOUBLE_QUOTES | SINGLE_QUOTES, "quote"),
    **dict.fromkeys("-‐‑–—―/\\_~⁄=^@", "tight"),
    **dict.fromkeys(",.;:!?%…°‰", "close"),
    **dict.fromkeys("£$€¥#¿¡", "open"),
}


# Chinese and Japanese, which write no spaces; Korean does, so Hangul is not here.
_UNSPACED = re.compile(
    "[\u2e80-\u30ff"  # radicals, punctuation, kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\uff00-\uff9f]"  # full and half width forms
)


def split_piece(token: str) -> tuple[str, bool]:
    """A token's characters and whether it continues the word before it."""
    if token.startswith(PIECE) and len(token) > len(PIECE):
        return token[len(PIECE) :], True
    return token, False


def kind_of(text: str) -> Kind:
    """How a token, without its `##`, behaves towards its neighbours."""
    if len(text) != 1 or text.isalnum():
        return "word"
    if text in _KINDS:
        return _KINDS[text]
    category = unicodedata.category(text)
    if category in ("Ps", "Pi"):
        return "open"
    if category in ("Pe", "Pf") or (category == "Po" and _UNSPACED.match(text)):
        return "close"
    return "alone" if category[0] in "PS" else "word"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Endings after an apostrophe: it's, don't, I'm, he'd, we'll, they're, I've.
ENDINGS = _words("s t m d ll re ve")

# Words that lost their beginning: 'tis, 'em, and the dropped h of London.
ELIDED = _words(
    "tis twas twere twill twould twasn tisn tain em im un uns bout bove cept cos "
    "cause gainst neath nough nuff pears pon scuse spect spects spose taint tween "
    "twixt lowed fore fraid prentice prentices possum ee ere eres e ad ave aven avin "
    "ome ouse ouses ead eads ard arf alf imself isself erself oo ow ope orse "
    "orses undred igh ear eard eart eaven ell elp ole er ers eavy appen appened "
    "aving ud ull ooman omesick cute tarnal rithmetic n most is at round"
)

# Words cut short before a full word: an' so, th' old, wi' me.
CUT = _words(
    "an wi ha th tha unc n kep ol no jus jes mos aun natur fo yo awa gi t h lor "
    "mo po foun han worl groun roun aroun behin fin frien sen lef lif ca fa wa sma "
    "himsel mysel hersel itsel yersel thysel nex firs agains mus tho thro"
)

# What an apostrophe joins to any word behind it: d'you, s'pose, ma'am; French and
# Italian too.
PREFIXES = _words(
    "b c d e f g j l m n p q r s t y ma ne "
    "qu jusqu lorsqu puisqu aujourd un all dall dell nell sull"
)

# After `o '` these begin a new word (o' the); any other is joined (o'clock).
AFTER_O = _words(
    "the this that these those my your his her its our their a an em it him me us "
    "you them ye yer mine yours hers one two three all any some such what which "
    "course late nights day night work men man water gold silver things mind"
)

# Second letter joined to the first: a.m., i.e.; but J. R. Smith.
DOTTED_PAIRS = _words("am pm ie eg qc mp us mc ps ok md")

# Abbreviations whose full stop ends no sentence and that a name follows.
TITLES = _words(
    "mr mrs messrs dr prof rev hon st mme mlle capt col gen lieut lt sgt sergt"
)

# Abbreviations whose full stop ends no sentence.
ABBREVIATIONS = TITLES | _words("vs viz cf esq vol chap fig")

# Capitalised wherever they stand.
PROPER = _words(
    "monday tuesday wednesday thursday friday saturday sunday january february april "
    "june july september october november december christmas easter english french "
    "german spanish italian dutch irish scotch american indian england france germany "
    "spain italy ireland scotland america india europe london paris rome"
)

# After `!"` or `?"` these go on with the sentence around the quotation.
SPEAKERS = _words(
    "he she they said cried asked exclaimed replied answered shouted returned "
    "repeated murmured whispered demanded inquired continued added called ejaculated "
    "echoed muttered gasped screamed roared thought interrupted was"
)


# Patterns of the unspaced run of characters before a token.
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

    Attributes:
        inside_word: whether the last token was joined to a word: the `t` of `don't`.
        quote: whether the last token began or ended a quotation.
    """

    def __init__(self) -> None:
        self.inside_word = False
        self.quote: Literal["", "opens", "closes"] = ""
        self._join_next = True
        self._kind: Kind = "start"
        self._run = ""
        self._double = ""
        self._single: Literal["", "speech", "phrase"] = ""
        self._doubles_seen = False

    @property
    def joins_next_to_word(self) -> bool:
        """Whether the next token is joined to a word, whatever it is."""
        return self._join_next and bool(_WORD_CHARACTER.search(self._run))

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
        """Read the next token; returns whether a space stands before it.

        Args:
            token: a word, a mark or a `##` piece.
            following: the token after it, `None` at the end. Only looked at
                where `needs_next(token)` holds.
        """
        text, continues = split_piece(token)
        kind: Kind = "word" if continues else kind_of(text)
        lower = text.lower()
        after = split_piece(following)[0].lower() if following else ""
        self.quote = ""
        if continues:
            space, join_next = _JOIN_THEN_SPACE
        elif text in DOUBLE_QUOTES:
            space, join_next = self._double_quote(text, after)
        elif text in SINGLE_QUOTES:
            space, join_next = self._single_quote(text, after)
        else:
            space, join_next = self._plain(kind, lower, after)
        self.inside_word = not space and bool(_WORD_CHARACTER.search(self._run))
        self._run = lower if space else (self._run + lower)[-_RUN_LENGTH:]
        self._kind, self._join_next = kind, join_next
        return space

    def _plain(self, kind: Kind, lower: str, after: str) -> _Gap:
        """A word, or a mark other than a quote."""
        if kind == "tight":
            return _JOIN_BOTH
        if kind == "close":
            return _JOIN_THEN_SPACE
        space = not self._join_next
        if kind == "open":
            return space and not _UNSPACED.match(lower), True
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
            return self._run[-2:-1] + lower in DOTTED_PAIRS
        if _UNSPACED.match(lower):
            return bool(_UNSPACED.search(self._run[-2:]))
        is_after = bool(_UNSPACED.match(last))
        return is_after and (lower[:1].isdigit() or not last.isalnum())

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
        self.quote = "opens"
        return not self._join_next, True

    def _close(self) -> _Gap:
        self.quote = "closes"
        return _JOIN_THEN_SPACE

    def _single_quote(self, mark: str, after: str) -> _Gap:
        if mark in _OPENING_SINGLE_QUOTES:
            self._single = "speech"
            return self._open()
        if self._kind == "word":
            return self._apostrophe(after)
        within = bool(self._double or self._single or self._doubles_seen)
        if within and after in ELIDED:
            return not self._join_next, True
        if self._single and not self._join_next:
            self._single = ""
            return self._close()
        self._single = "speech"
        return self._open()

    def _apostrophe(self, after: str) -> _Gap:
        """A single quote that follows a word."""
        word = _LAST_WORD.findall(self._run)[0]
        if after and kind_of(after) == "word":
            if word == "o":
                return False, after not in AFTER_O
            if after in ENDINGS or word in PREFIXES:
                return _JOIN_BOTH
            if after in ELIDED:
                return _SPACE_THEN_JOIN
            cut = word in CUT or word.endswith(("s", "in"))
            if not self._single and not cut:
                self._single = "phrase"
                return _SPACE_THEN_JOIN
        if self._single == "phrase":
            self._single = ""
        return _JOIN_THEN_SPACE
