"""How near two float results must be that are equal but for rounding.

A product of one row and one of many add the same numbers in another order: other
kernels, other vector widths, with oneDNN and without, on each maker's processors.
Each order is right to within the dtype's rounding, and the layers carry that on: a
score of 20 in the softmax makes 20 of it, weights spread by 3 make 3 of it a layer.
On the tests' tiny models two orders were 10 to 160 eps of the largest logit apart: 44
to 131 in float32 on an Intel machine, with oneDNN and without, about 160 on an AMD
one, 10 to 53 in float64. `GROWTH` is well above that, and in float64 the bound is
still some 1e-11, where a wrong mask or position changes logits by 1 and more. So
compare in float64 where the code under test runs in it, and take the bound from the
numbers everywhere.
"""

from typing import Any

import numpy as np

GROWTH = 4096
"""How many roundings of the largest value two orders of the same sums may part."""


def rounding(expected: Any, dtype: Any = None, growth: float = GROWTH) -> float:
    """The absolute difference that rounding alone may make.

    Args:
        expected: the values; only their size and dtype count.
        dtype: what was computed in, where `expected` has a wider dtype.
        growth: how much the computation may make of one rounding.
    """
    values = np.asarray(expected)
    eps = np.finfo(dtype or values.dtype).eps
    return float(growth * eps * np.abs(values).max())


def assert_equal_but_rounding(
    found: Any, expected: Any, dtype: Any = None, growth: float = GROWTH
) -> None:
    """Fail where `found` is farther from `expected` than rounding explains."""
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=rounding(expected, dtype, growth)
    )


def chi_square_limit(freedom: int) -> float:
    """The value that chi-square exceeds once in ten thousand times.

    Wilson and Hilferty 1931: the cube root of chi-square / freedom is nearly
    normal with mean 1 - 2 / (9 freedom) and variance 2 / (9 freedom).
    """
    part = 2 / (9 * freedom)
    return freedom * (1 - part + 3.719 * part**0.5) ** 3


def assert_drawn_as(token_ids: Any, expected: Any, cells: int = 1) -> None:
    """Fail where tokens are not drawn as often as a distribution says.

    Chi-square. Rare ids share a cell: the statistic needs some five expected in each.

    Args:
        token_ids: what was drawn, not negative.
        expected: the probability of each id.
        cells: how many there must be for the test to mean something.
    """
    counts = np.bincount(token_ids, minlength=len(expected))
    expected = len(token_ids) * np.asarray(expected)
    assert counts[expected == 0].sum() == 0
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    counts, expected = counts[expected > 0], expected[expected > 0]
    assert len(expected) >= cells
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < chi_square_limit(max(1, len(expected) - 1))
