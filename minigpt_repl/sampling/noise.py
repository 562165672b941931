"""Random numbers that depend on a few counters only, the same everywhere.

`uniform` is a function of its arguments: no state, the same numbers in numpy and in
a compiled graph, for one row or for many. So a text depends on its seed alone,
whatever batch it was made in and however many tokens a call made.
"""

from typing import Any

from minigpt_repl.sampling.stage import cast

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
TOKEN_TRIAL = 1 << 29
"""Number of token 0's own random number; no draw's trials get as far."""


def uniform(ns: Any, seed: Any, step: Any, trial: Any) -> Any:
    """A uniform number in [0, 1) for each (seed, step, trial).

    The first word of Threefry-2x32 with 20 rounds under the key (seed, 0): Salmon
    et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.

    Args:
        ns: `numpy` or `keras.ops`.
        seed: int array, any shape.
        step: which token of the text; int, of a shape that fits.
        trial: which number for that token; likewise.

    Returns:
        A float32 array, multiples of 2**-24.
    """
    key = _word(ns, seed)
    zero = ns.zeros_like(key)
    keys = (key, zero, ns.bitwise_xor(key, _word(ns, PARITY)))
    # Adding zero makes both counters as wide as the key.
    left, right = _word(ns, step) + zero + keys[0], _word(ns, trial) + zero + keys[1]
    for turn in range(5):
        left, right = _turned(ns, left, right, ROTATIONS[turn % 2])
        left = left + keys[(turn + 1) % 3]
        right = right + keys[(turn + 2) % 3] + _word(ns, turn + 1)
    return _in_unit(ns, left)


def _in_unit(ns: Any, words: Any) -> Any:
    high = ns.bitwise_right_shift(words, _word(ns, 8))
    # By way of int32: not every backend makes floats of unsigned numbers.
    return ns.array(cast(ns, cast(ns, high, "int32"), "float32")) * _float(2.0**-24)


def _turned(ns: Any, left: Any, right: Any, rotations: Any) -> tuple[Any, Any]:
    """Four rounds."""
    for number in range(4):
        left = left + right
        right = ns.bitwise_xor(_rotated(ns, right, rotations[number]), left)
    return left, right


def _uniform_of_tokens(ns: Any, seed: Any, step: Any, token_ids: Any) -> Any:
    """As `uniform`, in a loop: unrolled for so many numbers, XLA compiles minutes."""
    if not hasattr(ns, "fori_loop"):
        return uniform(ns, seed + 0 * token_ids, step, TOKEN_TRIAL + token_ids)
    key = _word(ns, seed)
    zero = ns.zeros_like(key)
    keys = ns.stack([key, zero, ns.bitwise_xor(key, _word(ns, PARITY))])
    rotations = _word(ns, ROTATIONS)
    wide = ns.zeros_like(key + _word(ns, token_ids))

    def turn(number: Any, words: Any) -> tuple[Any, Any]:
        turned = ns.take(rotations, number % 2, axis=0)
        left, right = _turned(ns, words[0], words[1], turned)
        left = left + ns.take(keys, (number + 1) % 3, axis=0)
        right = right + ns.take(keys, (number + 2) % 3, axis=0)
        return left, right + _word(ns, number + 1)

    left = _word(ns, step) + wide + key
    right = _word(ns, TOKEN_TRIAL + token_ids) + wide
    return _in_unit(ns, ns.fori_loop(0, 5, turn, (left, right))[0])


def gumbel(ns: Any, seed: Any, step: Any, token_ids: Any) -> Any:
    """A Gumbel number for each (seed, step, token).

    The token with the highest log-probability plus its number is distributed as a
    draw from the probabilities, and two distributions that hardly differ choose the
    same token most of the time: the Gumbel-max trick, Maddison et al. 2014, "A*
    Sampling", arXiv:1411.0030, section 2.

    Of seeds and steps `(rows, 1)` and token ids `(1, vocabulary)`, all int, it makes a
    float32 array `(rows, vocabulary)`.
    """
    between = _uniform_of_tokens(ns, seed, step, token_ids)
    between = ns.maximum(between, _float(2.0**-25))  # the logarithm of 0 is none
    return -ns.log(-ns.log(between))


def _rotated(ns: Any, word: Any, by: Any) -> Any:
    by = _word(ns, by)
    up = ns.bitwise_left_shift(word, by)
    return ns.bitwise_or(up, ns.bitwise_right_shift(word, _word(ns, 32) - by))


def _word(ns: Any, value: Any) -> Any:
    return cast(ns, ns.array(value), "uint32")


def _float(value: float) -> Any:
    import numpy as np

    return np.float32(value)
