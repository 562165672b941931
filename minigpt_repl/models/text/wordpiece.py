"""WordPiece ids as text: lowercased, split text put together again.

`i ' m here , said the bo ##y .` becomes `I'm here, said the boy.`: `Typesetter` decides
spaces and capitals by rule. `TextStream` gives the display form in parts, while the
tokens come: it holds back at most one token, a mark or word whose form depends on what
follows (a quote, an apostrophe, `i`, which may become `into`). Both take constant time
and room for each token.

Capitals have sentence starts, the word `I`, titles and the name behind them, initials,
and a few names of days, months, countries and languages; other names cannot be known.
A sentence's end, for the stop rule, is decided when a token has come, without the one
after it: a full stop behind a number is taken for a decimal point, and the first of
three dots for a full stop.
"""

import copy
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from minigpt_repl.models.text.codec import UNKNOWN_ID, TextCodec, normalize_text
from minigpt_repl.models.text.spacing import (
    ABBREVIATIONS,
    PIECE,
    PROPER,
    SENTENCE_ENDS,
    SPACE_MARK,
    SPEAKERS,
    TITLES,
    Spacing,
    kind_of,
    split_piece,
)

WORD = re.compile(r"\w+|[^\w\s]")
UNKNOWN_WORD = "[UNK]"
UNKNOWN_MARK = "\N{REPLACEMENT CHARACTER}"
"""What stands for a word that the vocabulary cannot spell."""

_ALWAYS_LARGE = TITLES | PROPER | {"i"}

# No word that matters here is longer.
_WORD_LENGTH = 40


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
        if token_id in self.special_ids:
            return ""
        return split_piece(self.piece(token_id))[0]

    def visible(self, token_id: int) -> str:
        """A word as it stands in a text: `·king` begins one, `##ing` goes on with one.

        A mark is itself, because its neighbours decide on its space.
        """
        word = self.piece(token_id)
        return f"{SPACE_MARK}{word}" if word[:1].isalnum() else word

    def encode(self, text: str, tokenize: Callable[[str], list[int]]) -> list[int]:
        text = normalize_text(text)
        return tokenize(text) if text.strip() else []

    def unknown_words(
        self, text: str, encode: Callable[[str], Sequence[int]]
    ) -> tuple[str, ...]:
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

    def decoder(self, prompt: str, prompt_ids: Sequence[int]) -> "TextStream":
        return TextStream(self.lowercase, prompt, prompt_ids, self.piece)

    def parts(
        self, prompt: str, prompt_ids: Sequence[int], token_ids: Sequence[int]
    ) -> list[str]:
        words = [self.piece(token_id) for token_id in (*prompt_ids, *token_ids)]
        typesetter = Typesetter(self.lowercase)
        parts = [*map(typesetter.write, words, [*words[1:], None])][len(prompt_ids) :]
        if parts and (not prompt or prompt[-1].isspace()):
            parts[0] = parts[0].removeprefix(" ")
        return parts

    def raw_delta(self, token_id: int, is_first: bool) -> str:
        """What a token adds to the raw text; a `##` piece has no space before it."""
        word, continues = split_piece(self.piece(token_id))
        return word if continues and not is_first else f" {word}"


class TextStream:
    """Turns tokens into the parts of their display form.

    The parts put together are what a `Typesetter` writes that sees all tokens at once.
    They can be put right behind the prompt, given as it was typed and as its tokens:
    the stream begins in the state that it leaves (an open quotation, the start of a
    sentence), and with a space unless the prompt ends in one.

    Args:
        lowercase: whether capitals have to be decided (see `Typesetter`).
        prompt: what stands before the text.
        prompt_tokens: the prompt's tokens.
        spell: from a token to its word.
    """

    def __init__(
        self,
        lowercase: bool = True,
        prompt: str = "",
        prompt_tokens: Sequence[Any] = (),
        spell: Callable[[Any], str] = str,
    ) -> None:
        self._spell = spell
        self._typesetter = Typesetter(lowercase)
        self._held: str | None = None
        self._shown = len(prompt_tokens)
        """Tokens, held or to come, that are shown already."""
        self._drops_space = not prompt or prompt[-1].isspace()
        for token in prompt_tokens:
            self.push(token)

    def push(self, token: Any) -> str:
        """Take the next token; returns the text that is certain now, often `""`
        after a token that has to be held back."""
        word = self._spell(token)
        text = self._release(word)
        if self._typesetter.needs_next(word):
            self._held = word
            return text
        return text + self._write(word, None)

    def flush(self) -> str:
        """End the text; returns what was held back."""
        return self._release(None)

    def ends_sentence(self, token: Any) -> bool:
        """Whether the text would end a sentence with this token.

        A sentence ends with `.`, `!` or `?` and the quotes that it closes; inside
        an open quotation it ends where the quotation does. The stop of an
        abbreviation or initial, a decimal point, and dots two and three do not.
        """
        word = self._spell(token)
        # What follows may change how a quote is read: look at a copy.
        read = copy.deepcopy(self._typesetter)
        if self._held is not None:
            read.write(self._held, word)
        is_decimal = word == "." and read.spacing.after_digit
        read.write(word, None)
        if is_decimal or read.spacing.in_quotation or not read.starts_sentence:
            return False
        return word in SENTENCE_ENDS or read.spacing.quote == "closes"

    def _release(self, following: str | None) -> str:
        if self._held is None:
            return ""
        word, self._held = self._held, None
        return self._write(word, following)

    def _write(self, word: str, following: str | None) -> str:
        text = self._typesetter.write(word, following)
        if self._shown:
            self._shown -= 1
            return ""
        if self._drops_space:
            text = text.removeprefix(" ")
        self._drops_space = False
        return text


class Typesetter:
    """Writes one token after the other as it is displayed.

    Args:
        lowercase: whether the vocabulary is in lower case, so that capitals
            have to be decided. Otherwise the case of the tokens is kept.

    Attributes:
        spacing: what decides spaces.
        starts_sentence: whether the next word begins a sentence.
    """

    def __init__(self, lowercase: bool = True) -> None:
        self._lowercase = lowercase
        self.spacing = Spacing()
        self.starts_sentence = True
        # The sentence may go on behind a quotation: "What!" he cried.
        self._may_resume = False
        # The quotation was interrupted: "Yes," he said, "and now".
        self._quote_resumes = False
        self._after_title = False
        self._word = ""
        self._dots = 0

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
        text, continues = split_piece(UNKNOWN_MARK if word == UNKNOWN_WORD else word)
        read = text if self._lowercase else text.lower()
        before, cased = "", text
        if continues:
            before = self._word
        elif kind_of(read) == "word":
            cased = self._cased(read, following)
            before = self._word if self.spacing.inside_word else ""
        else:
            self._read_mark(read)
        self._word = (before + read)[-_WORD_LENGTH:]
        return space + (cased if self._lowercase else text)

    def _cased(self, text: str, following: str | None) -> str:
        """A word with its capital, if it has one."""
        starts = self.starts_sentence and not (self._may_resume and text in SPEAKERS)
        large = starts or (self._after_title and text != "and")
        # An initial; but 4 p.m.
        initial = len(text) == 1 and following == "." and not self._word[-1:].isdigit()
        if not large and not (following or "").startswith(PIECE):
            large = text in _ALWAYS_LARGE or initial
        self.starts_sentence = self._may_resume = self._after_title = False
        self._dots = 0
        if self.spacing.inside_word:
            return text
        return text[:1].title() + text[1:] if large else text

    def _read_mark(self, text: str) -> None:
        kind, quote = kind_of(text), self.spacing.quote
        self._dots = self._dots + 1 if text == "." else 0
        if text in SENTENCE_ENDS:
            self._end(text)
        elif quote == "opens":
            new = kind_of(self._word) != "word" and not self._quote_resumes
            self.starts_sentence = self.starts_sentence or new
        elif quote == "closes":
            self._may_resume = self.starts_sentence and self._word in ("!", "?")
            self._quote_resumes = not self.starts_sentence
        elif kind in ("tight", "open", "close") and text not in ")]}":
            self.starts_sentence = self.starts_sentence and kind == "open"

    def _end(self, text: str) -> None:
        """Read a mark that may end a sentence."""
        inside = False
        if text == ".":
            word = self._word
            initial = len(word) == 1 and word.isalpha() and word != "i"
            # The second letter of p.m.; three dots are an ellipsis, four end one.
            dotted = word[:-1] == "." and word != ".."
            inside = initial or dotted or word in ABBREVIATIONS or self._dots in (2, 3)
            self._after_title = initial or word in TITLES
        self.starts_sentence = not inside
        if not inside:
            self._quote_resumes = False
