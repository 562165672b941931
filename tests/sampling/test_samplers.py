"""Random samplers draw as often as KerasHub's classes say, by a chi-square test."""

import keras_hub
import numpy as np
import pytest
from closeness import assert_drawn_as
from keras import ops

from minigpt_repl.engine.inspection import kept_distribution
from minigpt_repl.sampling import samplers
from minigpt_repl.sampling.registry import find_sampler

DRAWS = 20_000
LOGITS = np.random.default_rng(3).normal(0, 2, 71).astype(np.float32)
LOGITS[:3] = -np.inf
CASES = (
    ("random", {}),
    ("random", {"temperature": 3}),
    ("top_k", {"k": 6}),
    ("top_k", {"k": 1}),
    ("top_p", {"p": 0.8, "temperature": 2}),
    ("top_p", {"p": 0.9, "k": 9}),
)
with_cases = pytest.mark.parametrize(
    ("name", "changes"), CASES, ids=[f"{n}-{c}" for n, c in CASES]
)


def drawn(sampler):
    """A token for each of many rows with the same logits."""
    logits = ops.broadcast_to(ops.array(LOGITS), (DRAWS, len(LOGITS)))
    probabilities = sampler.compute_probabilities(logits)
    return np.asarray(sampler.get_next_token(probabilities))


@with_cases
def test_rows_with_seeds_of_their_own(name, changes):
    spec = find_sampler(name)
    values = spec.check(changes)
    if name == "top_p" and values["k"] is None:
        values["k"] = len(LOGITS)
    sampler = spec.load_class()(**values)
    sampler.seed_generator = samplers.RowSeeds()
    seeds = ops.arange(DRAWS, dtype="int32")
    sampler.seed_generator.current = ops.stack([seeds, ops.full_like(seeds, 5)], axis=1)
    assert_drawn_as(drawn(sampler), kept_distribution(spec, values, LOGITS))


@with_cases
def test_in_place_of_keras_hubs_class_with_its_own_seed(name, changes):
    spec = find_sampler(name)
    values = spec.check(changes)
    ours = spec.load_class()(**values, seed=4)
    theirs = getattr(keras_hub.samplers, type(ours).__name__)(**values, seed=4)
    assert isinstance(ours, type(theirs))
    assert ours.get_config() == theirs.get_config()
    expected = kept_distribution(spec, values, LOGITS)
    assert_drawn_as(drawn(ours), expected)
    assert_drawn_as(drawn(theirs), expected)


def test_contrastive_search_never_weighs_a_masked_token():
    logits = np.full((1, 8), -np.inf, np.float32)
    logits[0, 3:5] = 0.0, 500.0  # at a low temperature all others have probability 0
    sampler = samplers.ContrastiveSampler(k=2, alpha=1.0, temperature=0.01)
    probabilities = np.asarray(sampler.compute_probabilities(ops.array(logits)))
    assert set(np.argsort(-probabilities[0], kind="stable")[:2]) == {3, 4}
