"""What fits into a model's context: prompts cropped on the left, texts in windows."""

from dataclasses import dataclass

import numpy as np

REPRIMED_TOKENS = 64
"""Tokens kept when a full context is begun anew."""


@dataclass(frozen=True)
class Cropped:
    """A prompt that fits the model.

    Attributes:
        token_ids: its tokens, without the start token.
        dropped: tokens dropped from its left.
    """

    token_ids: tuple[int, ...]
    dropped: int


def crop(token_ids: tuple[int, ...], context: int, new: int) -> Cropped:
    """Keep the end of a prompt, so that `new` tokens fit behind it.

    Args:
        token_ids: the prompt's tokens, without the start token.
        context: positions of the model.
        new: tokens that are to follow; the start token is kept in any case.
    """
    room = max(1, context - new) - 1  # one for the start token
    dropped = max(0, len(token_ids) - room)
    return Cropped(token_ids[dropped:], dropped)


def reprimed(token_ids: tuple[int, ...], context: int) -> tuple[int, ...]:
    """The tokens with which a full context is begun anew."""
    return token_ids[len(token_ids) - _kept(context) :]


def _kept(context: int) -> int:
    # Behind the start token and these there must be room for one token more.
    return min(REPRIMED_TOKENS, context // 2, context - 2)


def window(
    token_ids: tuple[int, ...], context: int, start_id: int, pad_id: int
) -> np.ndarray:
    """Start token, tokens and padding as the model reads them, int32 `(1, context)`."""
    row = np.full((1, context), pad_id, np.int32)
    row[0, 0] = start_id
    row[0, 1 : len(token_ids) + 1] = token_ids
    return row


def spans(count: int, context: int) -> list[tuple[int, int, int]]:
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
