"""A text and its tokens, as the engine and the terminal use them.

A text has one spelling before anything else sees it: training lines and prompts go
through the same function, so that a prompt is spelled as the model learned it. A
`TextCodec` says what token ids stand for. A tokenizer may need TensorFlow; this does
not, so the terminal's process can have one too.
"""

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Protocol

RESERVED = ("[PAD]", "[UNK]", "[BOS]")
"""The first pieces of every vocabulary that is learned here; no text becomes one."""

PAD_ID, UNKNOWN_ID, BOS_ID = range(len(RESERVED))

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HALF = re.compile("[\ud800-\udfff]")
_REPLACEMENT_CHARACTER = "\ufffd"

# Typed for an apostrophe so often that a space in its place would split words.
_ACUTE_ACCENT = "\u00b4"


class Decoder(Protocol):
    """Turns tokens that come one by one into parts of a text."""

    def push(self, token_id: int) -> str:
        """Take the next token; returns the text that is certain now, maybe `""`."""

    def flush(self) -> str:
        """End the text; returns what was held back."""

    def ends_sentence(self, token_id: int) -> bool:
        """Whether the text would end a sentence with this token."""


class TextCodec(ABC):
    """What token ids stand for.

    Args:
        pieces: what each id stands for, as the vocabulary has it; the first three are
            `RESERVED`. A model may have ids beyond them.

    Attributes:
        special_ids: ids that stand for no text and are never chosen.
        start_id: the token before every text.
        pad_id: what fills a row up.
        unknown_id: what stands for anything the vocabulary can't spell, if something
            does.
        end_id: what ends a document, if the model learned that.
    """

    pad_id, start_id = PAD_ID, BOS_ID
    special_ids = frozenset((PAD_ID, UNKNOWN_ID, BOS_ID))
    unknown_id: int | None = None
    end_id: int | None = None

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = tuple(pieces)

    def __deepcopy__(self, memo: object) -> "TextCodec":
        return self  # it never changes, and a decoder that holds it is copied often

    def piece(self, token_id: int) -> str:
        """What an id stands for; a placeholder, `[#4950]`, where it has no piece."""
        if 0 <= token_id < len(self.pieces):
            return self.pieces[token_id]
        return f"[#{token_id}]"

    @abstractmethod
    def written(self, token_id: int) -> str:
        """The text of an id by itself; none of a special one."""

    @abstractmethod
    def visible(self, token_id: int) -> str:
        """The piece of an id with what it does to the space before it made visible."""

    @abstractmethod
    def encode(self, text: str, tokenize: Callable[[str], list[int]]) -> list[int]:
        """Token ids of a text as it was typed; `tokenize` makes those of its parts."""

    def unknown_words(
        self, text: str, encode: Callable[[str], Sequence[int]]
    ) -> tuple[str, ...]:
        """Words and marks of a text that can't be spelled, each once, in order."""
        return ()

    @abstractmethod
    def healing(self, prompt: str) -> tuple[str, frozenset[int] | None]:
        """What a prompt that ends in white space means for the tokens behind it.

        Returns:
            The white space to take back from the prompt, since the model learned it
            as a part of the token that begins with it; and what the first new token
            is one of, `None` for any.
        """

    @abstractmethod
    def decoder(self, prompt: str, prompt_ids: Sequence[int]) -> Decoder:
        """A decoder whose text is put right behind a prompt."""

    @abstractmethod
    def parts(
        self, prompt: str, prompt_ids: Sequence[int], token_ids: Sequence[int]
    ) -> list[str]:
        """What each new token added to a text that starts with a prompt.

        Put together they are the text, to be put right after the prompt.
        """

    def raw_text(self, token_ids: Iterable[int]) -> str:
        """The pieces as the vocabulary spells them, put together."""
        ids = enumerate(token_ids)
        return "".join(self.raw_delta(each, n == 0) for n, each in ids)[1:]

    def raw_delta(self, token_id: int, is_first: bool) -> str:
        """What a token adds to the raw text, put behind a prompt."""
        return f" {self.piece(token_id)}"


def as_typed(text: str) -> str:
    """A text of a user or a file with nothing changed but what no text has.

    Line ends become newlines, control characters are left out, and half characters,
    as undecodable bytes of a terminal arrive, become U+FFFD. What a model can't read
    is the business of its tokenizer.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _HALF.sub(_REPLACEMENT_CHARACTER, _CONTROLS.sub("", text))


def normalize_text(text: str) -> str:
    """The text in the one spelling that the model is trained on.

    Composed characters (NFC: an accent is part of its letter, a Hangul syllable
    is one character), every Unicode space and control character a plain space,
    save tab and newline, no zero-width characters, any line end a newline. Lone
    surrogates, as undecodable bytes of a terminal arrive, become U+FFFD.
    Doing it twice changes nothing; the result can always be encoded as UTF-8.

    WordPiece splits at ASCII white space only; a no-break or ideographic space would
    end up inside a vocabulary entry, and an entry that ends in a space changes when the
    vocabulary is saved and loaded.
    """
    if text.isascii() and not _CONTROLS.search(text):
        return text  # nearly every line of English prose
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Twice: the first pass turns look-alikes (U+2000, U+1FFD) into characters
    # that are known below, the second joins what a dropped character kept apart.
    text = "".join(map(_plain, unicodedata.normalize("NFC", text)))
    return unicodedata.normalize("NFC", text)


@cache
def _plain(character: str) -> str:
    """What one character is replaced by; itself in nearly every case."""
    category = unicodedata.category(character)
    if character in "\n\t":
        return character
    if category in ("Zs", "Zl", "Zp", "Cc"):
        # Controls too: old texts hold dashes of another encoding (U+0097), and
        # the words around them are two. The tokenizer splits there as well.
        return " "
    if category == "Cf":
        return ""  # byte order mark, zero-width characters, soft hyphen
    if category == "Cs":
        return _REPLACEMENT_CHARACTER  # cannot be written as UTF-8
    if character == _ACUTE_ACCENT:
        return "'"
    folded = unicodedata.normalize("NFKC", character)
    if " " in folded:
        # Lower-casing applies NFKC, which takes a spacing accent apart into a
        # space and a mark: a space inside a word, after words were split.
        return "".join(c for c in folded if not unicodedata.combining(c))
    return character
