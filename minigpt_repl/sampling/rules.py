"""What a rule leaves of the next token, once, for numpy and for compiled graphs.

The rules here take tokens in order of falling probability, equal ones by id, until
a limit is reached. A limit is a pair (weights, bound): a token stays as long as the
weights of all tokens before it sum to at most the bound. Top-k counts tokens, top-p
adds up probability, and a rule may have several limits or none.

Functions take the array namespace first, `numpy` or `keras.ops`; `probabilities` has
shape `(..., vocabulary)`, parameters are numbers or broadcast against it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from minigpt_repl.sampling.stage import number

LANES, LONGEST = 8, 32
"""SIMD lanes of a CPU, and the longest axis that XLA reduces in one kernel."""

Limit = tuple[Any, Any]
"""Weights that broadcast against the probabilities, and their bound."""

Limits = tuple[Limit, ...]

Rule = Callable[[Any, Any, Any], Limits]
"""From the array namespace, probabilities and a sampler's parameters to limits."""


def no_limits(ns: Any, probabilities: Any, values: Any) -> Limits:
    """Every token stays."""
    return ()


def best(ns: Any, probabilities: Any, values: Any) -> Limits:
    """The most probable token alone."""
    return (at_most(ns, 1),)


def at_most(ns: Any, count: Any) -> Limit:
    """The limit of so many tokens."""
    return (1.0, number(ns, count) - 1.0)


def top(name: str) -> Rule:
    """The rule that leaves the k most probable tokens, `values[name]` being k.

    Top-k: Fan et al. 2018, "Hierarchical Neural Story Generation",
    arXiv:1805.04833, section 5.4.
    """

    def limits(ns: Any, probabilities: Any, values: Any) -> Limits:
        return (at_most(ns, values[name]),)

    return limits


def top_p(ns: Any, probabilities: Any, values: Any) -> Limits:
    """The fewest tokens that together exceed probability p, of the k best if k is set.

    The nucleus of Holtzman et al. 2020, "The Curious Case of Neural Text
    Degeneration", arXiv:1904.09751, section 3.1; as in KerasHub the token that
    crosses p stays, and the cut to k does not renormalise.
    """
    limits: Limits = ((probabilities, number(ns, values["p"])),)
    if values.get("k") is not None:
        limits += (at_most(ns, values["k"]),)
    return limits


def plausible(ns: Any, probabilities: Any, values: Any) -> Limits:
    """The tokens that have at least a share alpha of the highest probability.

    The adaptive plausibility constraint of Li et al. 2023, "Contrastive Decoding:
    Open-ended Text Generation as Optimization", arXiv:2210.15097, equation 2.
    """
    floor = number(ns, values["alpha"]) * ns.max(probabilities, -1, keepdims=True)
    count = ns.sum(ns.where(probabilities >= floor, 1.0, 0.0), axis=-1, keepdims=True)
    return (at_most(ns, count),)


def kept(ns: Any, probabilities: Any, limits: Limits) -> Any:
    """Which tokens the limits leave, bool of the shape of `probabilities`.

    Finds the lowest probability that stays by bisection over the bit patterns of
    floats, which are in the order of the numbers, until no others are between: exact,
    and needs no sort, which XLA does slowly on a CPU. Tokens of probability 0 never
    stay.
    """
    positive = probabilities > 0
    if not limits:
        return positive
    bits = _bits(ns, probabilities)
    low, high, are_equals = _bounds_of_last(ns, bits, limits)
    above, last = bits > high, (bits > low) & (bits <= high)

    def first_of_equals() -> Any:
        kept = last
        for weight, bound in limits:
            kept = kept & (_weight_before(ns, above, last, weight) <= bound)
        return kept

    # A single one stays: what is above it is within the limits.
    return (above | _cond(ns, are_equals, first_of_equals, lambda: last)) & positive


def _bounds_of_last(ns: Any, bits: Any, limits: Limits) -> tuple[Any, Any, Any]:
    """Bits between which the lowest probability that stays is, and none but its equals.

    Returns:
        The bound that it is above, the one that it is not above, each `(..., 1)`, and
        whether any row has several such tokens.
    """
    sizes = _block_sizes(ns, bits.shape[-1])
    axes = tuple(range(-len(sizes), 0))
    each_bits = _in_blocks(ns, bits, sizes)
    each_limits = [
        (w if isinstance(w, float) else _in_blocks(ns, w, sizes), _beside(b, sizes))
        for w, b in limits
    ]
    high = ns.max(each_bits, axis=axes, keepdims=True)
    # Below every positive number, but not by much: a quarter fewer halvings.
    low = ns.min(ns.where(each_bits > 0, each_bits, high), axis=axes, keepdims=True) - 1
    count = _count(ns, each_bits > 0, axes)
    state = low, high, count, ns.zeros_like(count)

    def is_open(low: Any, high: Any, above_low: Any, above_high: Any) -> Any:
        return ns.any((above_low - above_high > 1) & (high - low > 1))

    def halve(low: Any, high: Any, above_low: Any, above_high: Any) -> Any:
        middle = low + (high - low) // 2
        mask = each_bits > middle
        count, is_enough = _count(ns, mask, axes), hold(ns, mask, each_limits, axes)
        return (
            ns.where(is_enough, low, middle),
            ns.where(is_enough, middle, high),
            ns.where(is_enough, above_low, count),
            ns.where(is_enough, count, above_high),
        )

    low, high, above_low, above_high = while_loop(ns, is_open, halve, state)
    shape = (*bits.shape[:-1], 1)
    are_equals = ns.any(above_low - above_high > 1)
    return ns.reshape(low, shape), ns.reshape(high, shape), are_equals


def _block_sizes(ns: Any, size: int) -> tuple[int, ...]:
    """Several short axes in place of a long one; for numpy the long one.

    XLA makes a tree of programs of a sum over more than 32 numbers on a CPU, and one
    program of a sum over several axes of at most 32, of which the last one fits the
    processor's vectors: it takes half of the time or less.
    """
    if ns.__name__ == "numpy":
        return (size,)
    left, sizes = -(-size // LANES), [LANES]
    while left > LONGEST:
        whole = round(left ** (1 / math.ceil(math.log(left, LONGEST))))
        sizes, left = [whole, *sizes], -(-left // whole)
    return (left, *sizes)


def _in_blocks(ns: Any, x: Any, sizes: tuple[int, ...]) -> Any:
    """`(..., vocabulary)` as `(..., *sizes)`, zeros at the end."""
    if len(sizes) == 1:
        return x
    gap = math.prod(sizes) - x.shape[-1]
    padded = ns.pad(x, ((0, 0), (0, gap))) if gap else x
    return ns.reshape(padded, (-1, *sizes))


def _beside(bound: Any, sizes: tuple[int, ...]) -> Any:
    """A bound, `(..., 1)` or a number, with an axis for each of the sizes."""
    has_axes = getattr(bound, "shape", ())
    return bound[(..., *[None] * (len(sizes) - 1))] if has_axes else bound


def before(ns: Any, probabilities: Any, token_ids: Any) -> Any:
    """Which tokens come before one of each row in the order of the rules.

    `token_ids` is int `(rows, 1)`, the result bool `(rows, vocabulary)`.
    """
    own = ns.take_along_axis(probabilities, token_ids, axis=-1)
    ids = ns.arange(probabilities.shape[-1])
    return (probabilities > own) | ((probabilities == own) & (ids < token_ids))


def hold(ns: Any, mask: Any, limits: Sequence[Limit], axes: Any = -1) -> Any:
    """Whether the weights of the tokens in a mask are within all limits.

    A token stays if this holds for those `before` it. `mask` is bool `(rows,
    vocabulary)`; the axes of the vocabulary have length 1 in the result, which is
    `True` without limits.
    """
    holds: Any = True
    for weight, bound in limits:
        if isinstance(weight, float):  # whole numbers are counted faster than summed
            total = weight * number(ns, _count(ns, mask, axes))
        else:
            total = ns.sum(ns.where(mask, weight, 0.0), axis=axes, keepdims=True)
        holds = holds & (total <= bound)
    return holds


def draw(ns: Any, weights: Any, uniform: Any) -> Any:
    """The token whose part of the summed weights holds a uniform number.

    Args:
        ns: the array namespace.
        weights: `(rows, vocabulary)`, not negative.
        uniform: `(rows, 1)`, from 0 up to but not 1.

    Returns:
        int `(rows, 1)`; a token of weight 0 only where there is no other.
    """
    # Two sums over blocks in place of one long running sum, which takes longer.
    rows, size = weights.shape
    width = _near_root(size)
    blocks = -(-size // width)
    if gap := blocks * width - size:
        weights = ns.pad(weights, ((0, 0), (0, gap)))
    padded = ns.reshape(weights, (rows, blocks, width))
    sums = ns.sum(padded, axis=-1)
    ends = ns.cumsum(sums, axis=-1)  # (rows, blocks)
    target = _below(ns, uniform * ends[:, -1:], ends[:, -1:])
    block = ns.minimum(_count(ns, ends <= target), blocks - 1)  # (rows, 1)
    inside = ns.take_along_axis(padded, block[:, :, None], axis=1)[:, 0]
    before = ns.take_along_axis(ends - sums, block, axis=1)
    inner_ends = ns.cumsum(inside, axis=-1)  # (rows, width)
    place = _count(ns, inner_ends <= _below(ns, target - before, inner_ends[:, -1:]))
    return ns.minimum(block * width + place, size - 1)


def _near_root(size: int) -> int:
    """The square root, or a number near it that divides without a rest."""
    root = max(1, round(size**0.5))
    return next((n for n in range(root, root // 2, -1) if size % n == 0), root)


def _below(ns: Any, target: Any, end: Any) -> Any:
    # Rounding may take a target to the very end, where no token is any more.
    return ns.minimum(target, end * (1 - 2.0**-23))


def _count(ns: Any, mask: Any, axes: Any = -1) -> Any:
    return ns.sum(ns.where(mask, 1, 0), axis=axes, keepdims=True)


def _weight_before(ns: Any, above: Any, ties: Any, weight: Any) -> Any:
    """Weight of the tokens before each of those that are tied."""
    total = ns.sum(ns.where(above, weight, 0.0), axis=-1, keepdims=True)
    tied = ns.where(ties, weight, 0.0)
    return total + ns.cumsum(tied, axis=-1) - tied


def _bits(ns: Any, x: Any) -> Any:
    """The floats as whole numbers of the same order."""
    if hasattr(ns, "view"):
        return ns.view(x, dtype="int32")
    return x.view("int64" if x.dtype == "float64" else "int32")


def while_loop(
    ns: Any, condition: Callable[..., Any], step: Callable[..., Any], state: Any
) -> Any:
    """`step(*state)` again and again while `condition(*state)` holds; the last state.

    The state is a tuple whose shapes stay.
    """
    if hasattr(ns, "while_loop"):
        return ns.while_loop(condition, step, state)
    while condition(*state):
        state = step(*state)
    return state


def _cond(ns: Any, condition: Any, one: Any, other: Any) -> Any:
    if hasattr(ns, "cond"):
        return ns.cond(condition, one, other)
    return one() if condition else other()
