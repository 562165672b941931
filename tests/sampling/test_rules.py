"""What a rule keeps is what KerasHub's class draws from: ties, edges and all.

Probabilities here are whole numbers of 1/64, so that every sum is exact and ties and
sums that just reach a limit are common.
"""

import keras
import keras_hub
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import ops

from minigpt_repl.sampling import rules
from minigpt_repl.sampling.registry import find_sampler

SIZE = 10
PARTS = 64

parts = st.lists(st.integers(0, 12), min_size=SIZE, max_size=SIZE).filter(any)
ks = st.integers(1, SIZE)
ps = st.integers(1, PARTS).map(lambda part: part / PARTS)


def shares(parts):
    return np.array(parts, np.float32) / PARTS


def drawn_from(sampler, probabilities, monkeypatch):
    """The tokens that a sampler of KerasHub's draws from."""
    weights = []

    def take_each(logits, num_samples, **more):
        weights.append(np.asarray(logits)[0])
        return ops.arange(logits.shape[-1], dtype="int32")[:, None]

    monkeypatch.setattr(keras.random, "categorical", take_each)
    rows = np.repeat(probabilities[None], SIZE, axis=0)
    if getattr(sampler, "k", None) is not None:
        rows = rows[: sampler.k]  # as many as it chooses from
    token_ids = np.asarray(sampler.get_next_token(ops.array(rows)))
    return {
        int(token_id)
        for token_id, weight in zip(token_ids, weights[0], strict=True)
        if np.isfinite(weight)
    }


def kept(name, probabilities, **values):
    """The tokens that our rule keeps; the same by numpy and in TensorFlow."""
    spec = find_sampler(name)
    mask = spec.kept(np, probabilities, values)
    rows = ops.array(probabilities[None])
    columns = {
        key: None if value is None else ops.array([[value]])
        for key, value in values.items()
    }
    np.testing.assert_array_equal(mask, np.asarray(spec.kept(ops, rows, columns))[0])
    np.testing.assert_array_equal(
        mask, spec.kept(np, probabilities.astype(np.float64), values)
    )
    return set(np.flatnonzero(mask).tolist())


@pytest.mark.slow
@given(parts, ks)
def test_top_k_is_keras_hubs(parts, k):
    sampler = keras_hub.samplers.TopKSampler(k=k)
    with pytest.MonkeyPatch.context() as patch:
        expected = drawn_from(sampler, shares(parts), patch)
    assert kept("top_k", shares(parts), k=k) == expected


@pytest.mark.slow
@given(parts, ps, st.none() | ks)
def test_top_p_is_keras_hubs(parts, p, k):
    sampler = keras_hub.samplers.TopPSampler(p=p, k=k)
    with pytest.MonkeyPatch.context() as patch:
        expected = drawn_from(sampler, shares(parts), patch)
    assert kept("top_p", shares(parts), p=p, k=k) == expected


@pytest.mark.slow
@given(parts)
def test_random_and_greedy_are_keras_hubs(parts):
    probabilities = shares(parts)
    sampler = keras_hub.samplers.RandomSampler()
    with pytest.MonkeyPatch.context() as patch:
        expected = drawn_from(sampler, probabilities, patch)
    assert kept("random", probabilities) == expected
    best = keras_hub.samplers.GreedySampler().get_next_token(probabilities[None])
    assert kept("greedy", probabilities) == {int(best[0])}


@pytest.mark.slow
@given(st.lists(parts, min_size=2, max_size=4), st.data())
def test_each_row_has_its_own_limits(many, data):
    probabilities = np.stack([shares(parts) for parts in many])
    k = np.array([[data.draw(ks)] for _ in many])
    p = np.array([[data.draw(ps)] for _ in many], np.float32)
    spec = find_sampler("top_p")
    together = np.asarray(
        spec.kept(ops, ops.array(probabilities), {"p": ops.array(p), "k": ops.array(k)})
    )
    for row, each in enumerate(probabilities):
        values = {"p": float(p[row, 0]), "k": int(k[row, 0])}
        np.testing.assert_array_equal(together[row], spec.kept(np, each, values))


@given(st.integers(0, 10_000), st.floats(0.01, 1), ks)
@settings(max_examples=50)
def test_nothing_that_is_kept_is_less_probable_than_what_is_not(seed, p, k):
    probabilities = np.random.default_rng(seed).dirichlet(np.full(30, 0.3))
    mask = find_sampler("top_p").kept(np, probabilities, {"p": p, "k": k})
    assert 1 <= mask.sum() <= k
    assert probabilities[mask].min() >= probabilities[~mask].max()
    assert probabilities[mask].sum() > p or mask.sum() == min(k, 30)


def test_equal_tokens_are_kept_by_id():
    probabilities = shares([8, 16, 8, 16, 8, 8, 0, 0, 0, 0])
    assert kept("top_k", probabilities, k=1) == {1}
    assert kept("top_k", probabilities, k=3) == {0, 1, 3}
    assert kept("top_p", probabilities, p=0.5, k=None) == {0, 1, 3}


def test_a_token_of_probability_0_is_never_kept():
    probabilities = shares([0, 64, 0, 0, 0, 0, 0, 0, 0, 0])
    assert kept("top_k", probabilities, k=5) == {1}
    assert kept("top_p", probabilities, p=1.0, k=None) == {1}
    assert kept("random", probabilities) == {1}


@pytest.mark.slow
@given(parts, st.integers(0, 2**24 - 1))
def test_a_draw_is_where_the_summed_weights_pass_the_number(parts, number):
    weights = shares(parts)[None]
    total = weights.sum()
    uniform = np.float32([[number * 2.0**-24]])
    target = np.float64(uniform[0, 0]) * total
    ends = weights[0].astype(np.float64).cumsum()
    assume(abs(ends - target).min() > 1e-5)  # where rounding may go either way
    expected = int((ends <= target).sum())
    assert rules.draw(np, weights, uniform).tolist() == [[expected]]
    drawn = rules.draw(ops, ops.array(weights), ops.array(uniform))
    assert np.asarray(drawn).tolist() == [[expected]]


@given(parts)
def test_the_largest_number_draws_a_token_that_has_a_weight(parts):
    weights = shares(parts)[None]
    (token_id,) = rules.draw(np, weights, np.float32([[1 - 2**-24]]))[0]
    assert weights[0, token_id] > 0


@pytest.mark.parametrize("size", [1, 8, 33, 257, 5000, 9001])
def test_a_vocabulary_of_any_size_is_kept_alike_whatever_it_is_cut_into(size):
    sizes = rules._block_sizes(ops, size)
    assert max(sizes) <= rules.LONGEST and np.prod(sizes) >= size
    generator = np.random.default_rng(size)
    whole = generator.integers(0, 4, (2, size)).astype(np.float32)  # many equal ones
    whole[:, 0] = 3
    probabilities = whole / 2 ** np.ceil(np.log2(whole.sum()))
    k = np.array([[1], [max(1, size // 3)]])
    bound = np.array([[0.25], [0.125]], np.float32)
    for limits in (((1.0, k - 1.0),), ((probabilities, bound), (1.0, k - 1.0))):
        expected = rules.kept(np, probabilities, limits)
        as_tensors = [
            tuple(x if isinstance(x, float) else ops.array(x, "float32") for x in limit)
            for limit in limits
        ]
        mask = rules.kept(ops, ops.array(probabilities), as_tensors)
        np.testing.assert_array_equal(np.asarray(mask), expected)
