"""Byte-level ids as text: every text comes back exactly as it was written.

A piece is some bytes, spelled with a visible character for each as GPT-2 does it (`Ġ`
is the space). Does not tokenize text; that is the tokenizer's work.
"""

import codecs
import copy
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

from minigpt_repl.models.text.codec import BOS_ID, RESERVED, TextCodec, as_typed
from minigpt_repl.models.text.spacing import (
    ABBREVIATIONS,
    DOUBLE_QUOTES,
    SENTENCE_ENDS,
    SINGLE_QUOTES,
    SPACE_MARK,
)


def _alphabet() -> dict[str, int]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    spelled = {chr(byte): byte for byte in printable}
    return spelled | {chr(256 + place): byte for place, byte in enumerate(others)}


BYTES = _alphabet()
"""The byte of each character that a piece is spelled with."""

SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"| ?[\p{L}\p{M}]+"
    r"|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""As GPT-2 splits, with numbers in threes, a letter's marks on its side, and line ends
apart. No pair crosses a split, so what is typed is split as the text was. Llama 3 joins
`(` to the word behind it and a line's end to the mark before it: a small model never
saw `f(` end, and went on as if there were none.
"""

SPLIT_PATTERNS = (
    SPLIT_PATTERN,
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
)
"""Ours, Llama 3's as KerasHub has it, GPT-2's. Any other might take for ever."""

_CLOSERS = "".join(DOUBLE_QUOTES | SINGLE_QUOTES) + ")]}"
_ENDED = re.compile(
    rf"(?P<word>\w*)[{re.escape(''.join(SENTENCE_ENDS))}]+[{re.escape(_CLOSERS)}]*\s*\Z"
)
BETWEEN = {"line": re.compile(r"\n"), "paragraph": re.compile(r"\n(?:[^\S\n]*\n)+")}
"""What stands between two documents; nothing between files."""

_COMPARED = 8
"""Last tokens of a prompt that tell whether its white space was taken back."""

_REMEMBERED = 100
"""Characters of a text that the end of a sentence is found in."""


class ByteLevelText(TextCodec):
    """A byte-level vocabulary; it can spell everything.

    Args:
        pieces: what each id stands for, spelled in `BYTES`.
        document: what has an end, if that was learned: `file`, `paragraph`, `line`.
            The end is `[BOS]`; a new document begins behind it.
    """

    def __init__(self, pieces: Sequence[str], document: str | None = None) -> None:
        super().__init__(pieces)
        self.document = document
        self.separator = {None: "", "paragraph": "\n\n"}.get(document, "\n")
        """What stands between two documents."""
        if document is not None:
            self.end_id = self.start_id
            self.special_ids -= {self.end_id}

    def documents(self, text: str) -> list[str]:
        """A text as the model learned it: all but the last of these have an end.

        In the text of a model of lines it stands where a line ends: the model never saw
        the line break itself.
        """
        mark = BETWEEN.get(self.document or "")
        *ended, last = [text] if mark is None else mark.split(text)
        return [*filter(str.strip, ended), last]

    def encode(self, text: str, tokenize: Callable[[str], list[int]]) -> list[int]:
        *ended, last = self.documents(as_typed(text))
        ids: list[int] = []
        for document in ended:
            ids += [*tokenize(document), BOS_ID]
        return [*ids, *tokenize(last)] if last else ids

    def bytes_of(self, token_id: int) -> bytes:
        """What an id adds to a text."""
        if token_id < len(RESERVED) or token_id >= len(self.pieces):
            return b""
        return bytes(map(BYTES.__getitem__, self.pieces[token_id]))

    @cached_property
    def _bytes(self) -> list[bytes]:
        return [self.bytes_of(token_id) for token_id in range(len(self.pieces))]

    def text_of(self, token_ids: Iterable[int]) -> str:
        """The text of ids; U+FFFD for what is no UTF-8."""
        return b"".join(map(self.bytes_of, token_ids)).decode("utf-8", "replace")

    def written(self, token_id: int) -> str:
        return self.text_of((token_id,))

    def visible(self, token_id: int) -> str:
        """A piece as it is read, its spaces made visible; `\\xe3` for half a letter."""
        data = self.bytes_of(token_id)
        if not data:
            return self.piece(token_id)
        return data.decode("utf-8", "backslashreplace").replace(" ", SPACE_MARK)

    def healing(self, prompt: str) -> tuple[str, frozenset[int] | None]:
        """White space is a part of the token behind it, which has to begin with it.

        Of spaces the last is, the others are tokens by themselves; newlines are one.
        """
        document = self.documents(prompt)[-1]
        first, end = len(document.rstrip()), len(document)
        if not document.endswith("\n"):
            first = max(first, end - 1)
        for start in range(first, end):
            taken = document[start:]
            data, pieces = taken.encode("utf-8"), enumerate(self._bytes)
            ids = frozenset(id for id, piece in pieces if piece.startswith(data))
            if ids:
                return taken, ids
        return "", None

    def decoder(self, prompt: str, prompt_ids: Sequence[int]) -> "ByteLevelDecoder":
        document = self.documents(prompt)[-1]
        taken, _ = self.healing(prompt)
        last = prompt_ids[-_COMPARED:]
        ends = [place for place, id in enumerate(last, start=1) if id == self.end_id]
        last = last[max(ends, default=0) :]
        text = self.text_of(last).lstrip("\N{REPLACEMENT CHARACTER}")
        # White space was taken back unless it is among the prompt's tokens.
        is_whole = bool(last) and document.endswith(text)
        if is_whole or not document.removesuffix(taken).endswith(text):
            taken = ""
        has_ended = self.end_id in prompt_ids[-1:]
        separator = self.separator if has_ended else ""
        reader = ByteLevelDecoder(self)
        before = "".join(map(reader.push, prompt_ids[-_REMEMBERED:])) + separator
        # Where the prompt itself begins another document, what ends one is typed.
        is_begun = not document.removesuffix(taken)
        return ByteLevelDecoder(self, taken, "" if is_begun else separator, before)

    def parts(
        self, prompt: str, prompt_ids: Sequence[int], token_ids: Sequence[int]
    ) -> list[str]:
        """What each new token added; of a letter of several tokens the last one did."""
        decoder = self.decoder(prompt, prompt_ids)
        parts = [decoder.push(token_id) for token_id in token_ids]
        if parts:
            parts[-1] += decoder.flush()
        return parts


class ByteLevelDecoder:
    """Text of ids that come one by one, in whole characters.

    The end of a document is shown when another begins.

    Args:
        text: the vocabulary.
        taken: white space that the first token repeats of the prompt.
        separator: what is to be shown before the first token.
        before: the text up to there.
    """

    def __init__(
        self,
        text: ByteLevelText,
        taken: str = "",
        separator: str = "",
        before: str = "",
    ) -> None:
        self._text, self._taken, self._separator = text, taken, separator
        self._before = before[-_REMEMBERED:]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Take the next token; returns the text that is certain now, maybe `""`."""
        if token_id == self._text.end_id:
            self._separator += self._text.separator
            return self.flush()
        new = self._decoder.decode(self._text.bytes_of(token_id))
        self._before = (self._before + self._separator + new)[-_REMEMBERED:]
        if new and self._taken:
            new, self._taken = new.removeprefix(self._taken), ""
        if new and self._separator:
            new, self._separator = self._separator + new, ""
        return new

    def flush(self) -> str:
        """End the text; returns U+FFFD where a character has not come to its end."""
        left = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._before += left
        return left

    def ends_sentence(self, token_id: int) -> bool:
        """Whether the text would end a sentence with this token.

        A sentence ends with `.`, `!` or `?` and the quotes and brackets that it closes.
        The stop of an abbreviation or of an initial, and a decimal point, do not end
        one.
        """
        after = copy.deepcopy(self)
        new = after.push(token_id)
        ended = _ENDED.search(after._before)
        if ended is None or not new.strip():
            return False
        word, mark = ended["word"].lower(), after._before[ended.end("word")]
        is_inside = word in ABBREVIATIONS or word.isdecimal() or len(word) == 1
        return mark != "." or not is_inside
