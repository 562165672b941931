"""Random numbers are Threefry's, the same everywhere, and even."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from minigpt_repl.sampling.noise import gumbel, uniform

ints = st.integers(0, 2**31 - 1)


def first_words(seeds, steps, trials):
    """The first 24 bits of Threefry-2x32's first words."""
    numbers = uniform(np, np.int32(seeds), np.int32(steps), np.int32(trials))
    assert numbers.dtype == np.float32
    return (numbers.astype(np.float64) * 2**24).astype(np.int64).tolist()


def test_the_known_answer_of_the_papers_authors():
    # Random123's kat_vectors: threefry2x32 20, counter 0, key 0.
    assert first_words([0], [0], [0]) == [0x6B200159 >> 8]


@given(st.lists(st.tuples(ints, ints, ints), min_size=1, max_size=20))
def test_the_words_are_those_of_jax(counters):
    from jax.extend.random import threefry_2x32

    for counter in counters:
        seed, step, trial = np.array(counter, np.uint32)
        words = threefry_2x32((seed, np.uint32(0)), np.array([step, trial]))
        assert first_words(*([each] for each in counter)) == [int(words[0]) >> 8]


@pytest.mark.slow
@given(st.lists(ints, min_size=1, max_size=8), ints, st.integers(0, 100))
def test_numpy_and_tensorflow_give_the_same_for_one_or_for_many(seeds, step, trial):
    column = np.array(seeds, np.int32)[:, None]
    together = uniform(np, column, np.int32(step), np.int32(trial))
    in_a_graph = uniform(ops, ops.array(column), ops.array(step), ops.array(trial))
    np.testing.assert_array_equal(together, np.asarray(in_a_graph))
    for row, seed in enumerate(seeds):
        alone = uniform(np, np.int32([[seed]]), np.int32(step), np.int32(trial))
        assert alone == together[row]


def test_the_numbers_are_even_and_do_not_hang_together():
    numbers = uniform(np, np.arange(200)[:, None], np.arange(500), np.int32(0))
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.histogram(numbers, bins=16, range=(0, 1))[0]
    expected = numbers.size / 16
    # Chi-square with 15 degrees exceeds 44 once in ten thousand times.
    assert ((counts - expected) ** 2 / expected).sum() < 44
    for one, other in ((numbers[:-1], numbers[1:]), (numbers[:, 1:], numbers[:, :-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.015


@given(st.lists(ints, min_size=1, max_size=8), ints)
def test_the_noise_of_tokens_is_the_same_in_numpy_and_in_tensorflow(seeds, step):
    seeds = np.array(seeds, np.int32)[:, None]
    steps, ids = np.full_like(seeds, step), np.arange(20, dtype=np.int32)[None]
    one = gumbel(np, seeds, steps, ids)
    other = gumbel(ops, ops.array(seeds), ops.array(steps), ops.array(ids))
    np.testing.assert_allclose(one, np.asarray(other), rtol=1e-5, atol=1e-5)
    assert one.shape == (len(seeds), 20)
