"""What becomes of a prompt: tokens, cropped on the left, packed after `[BOS]`.

Knows the tokenizer and the model's context; knows no sampler.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigpt_repl.models.text.normalize import normalize_text
from minigpt_repl.models.text.vocabulary import Vocabulary

REPRIMED_TOKENS = 64
"""Tokens kept when a full context is begun anew."""

WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Packed:
    """A prompt that fits the model.

    Attributes:
        ids: its tokens, without `[BOS]`.
        cropped: tokens dropped from its left.
    """

    ids: tuple[int, ...]
    cropped: int


def encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of a text, without `[BOS]`."""
    text = normalize_text(text)
    if not text.strip():
        return ()
    return tuple(int(id_) for id_ in np.asarray(tokenizer(text)))


def unknown_words(tokenizer: Any, text: str) -> tuple[str, ...]:
    """Words and marks of a text that become `[UNK]`, each once, in order."""
    words = dict.fromkeys(WORD.findall(normalize_text(text)))
    return tuple(w for w in words if Vocabulary.unk_id in encode(tokenizer, w))


def crop(ids: tuple[int, ...], context: int, new: int) -> Packed:
    """Keep the end of a prompt, so that `new` tokens fit behind it.

    Args:
        ids: the prompt's tokens, without `[BOS]`.
        context: positions of the model.
        new: tokens that are to follow; `[BOS]` is kept in any case.
    """
    room = max(1, context - new) - 1  # one for [BOS]
    kept = ids[len(ids) - room :] if len(ids) > room else ids
    return Packed(kept, len(ids) - len(kept))


def reprimed(ids: tuple[int, ...], context: int) -> tuple[int, ...]:
    """The tokens with which a full context is begun anew."""
    return ids[len(ids) - _kept(context) :]


def _kept(context: int) -> int:
    # Behind [BOS] and these there must be room for one token more.
    return min(REPRIMED_TOKENS, context // 2, context - 2)


def window(ids: tuple[int, ...], context: int) -> np.ndarray:
    """`[BOS]`, tokens and `[PAD]` as the model reads them, int32 `(1, context)`."""
    row = np.full((1, context), Vocabulary.pad_id, np.int32)
    row[0, 0] = Vocabulary.bos_id
    row[0, 1 : len(ids) + 1] = ids
    return row


def windows(count: int, context: int) -> list[tuple[int, int, int]]:
    """In which windows a text of `count` tokens is generated.

    Returns:
        For each window `(start, first, last)`: it begins with token `start`, and
        scores of the tokens `first` to `last` (exclusive) are taken from it.
        Together they cover tokens 0 to `count` (inclusive: the one to follow).
    """
    kept = _kept(context)
    result = [(0, 0, min(count + 1, context - 1))]
    while result[-1][2] <= count:
        first = result[-1][2]
        start = first - kept
        result.append((start, first, min(count + 1, start + context - 1)))
    return result
