"""DRY's breakers, those of several tokens too, against what llama.cpp does, plainly."""

import numpy as np
import pytest
from keras import ops

from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.history import BREAKER_TOKENS


def dry_penalties(text, breakers, marked, multiplier, base, allowed):
    """DRY as llama.cpp goes about it: no repetition is longer than the text is behind
    the last breaker, and no breaker of one token costs anything."""
    behind = [
        place
        for place in range(len(text) + 1)
        for one in breakers
        if place >= len(one) and tuple(text[place - len(one) : place]) == one
    ]
    limit = len(text) - max(behind, default=0)
    longest = {}
    for place in range(1, len(text)):
        length = 0
        while (
            length < min(place, limit) and text[place - 1 - length] == text[-1 - length]
        ):
            length += 1
        token = text[place]
        longest[token] = max(longest.get(token, 0), length)
    return {
        token: multiplier * base ** (length - allowed)
        for token, length in longest.items()
        if length >= max(allowed, 1) and token not in marked
    }


@pytest.mark.parametrize("namespace", [np, ops], ids=["numpy", "keras"])
def test_dry_stops_at_breakers_of_several_tokens(namespace):
    random, size, length = np.random.default_rng(5), 5, 40
    sequences = [(1, 2), (3, 0, 3)]
    mask = np.array([0, 0, 0, 0, 1], np.float32)
    rows = np.full((3, BREAKER_TOKENS), -1, np.float32)
    for row, one in zip(rows, sequences, strict=False):
        row[-len(one) :] = one
    breakers = np.concatenate([mask, rows.reshape(-1)])[None]
    spec = STAGES["dry"].function
    texts = random.choice(size, (60, length), p=[0.3, 0.3, 0.2, 0.15, 0.05])
    texts[:30, -9:] = texts[:30, -20:-11]  # so that there are long repetitions
    logits = np.zeros((60, size), np.float32)
    made = spec(namespace, logits, texts.astype("int32"), 1.0, 1.5, 1, None, breakers)
    lengths = set()
    for text, found in zip(texts.tolist(), np.array(made), strict=True):
        expected = dry_penalties(text, [*sequences, (4,)], {4}, 1.0, 1.5, 1)
        lengths |= {*expected.values()}
        wanted = [-expected.get(token, 0.0) for token in range(size)]
        assert found == pytest.approx(wanted, rel=1e-4)
    assert len(lengths) > 4
