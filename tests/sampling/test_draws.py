"""Every rule that leaves several tokens is drawn from as its distribution says."""

import numpy as np
import pytest
from closeness import assert_drawn_as
from fakes import FakeEngine
from keras import ops

from minigpt_repl.engine import inspection
from minigpt_repl.sampling import rules
from minigpt_repl.sampling.registry import read_sampler
from minigpt_repl.sampling.samplers import RowSeeds

DRAWS = 2000
LOGITS = np.random.default_rng(4).normal(0, 2, 40).astype("float32")
STEP = 3
PLACE = inspection.next_place((), FakeEngine())
CHAINS = (
    "random",
    "top_k:k=9,temperature=1.5",
    "top_p:p=0.8,temperature=1.5",
    "top_k=9 + temperature=1.5",
    "top_p=0.8 + random",
    "min_p=0.1 + temperature=2",
    "typical_p=0.7 + random",
    "epsilon_cutoff=0.02 + random",
    "eta_cutoff=0.02 + random",
    "top_n_sigma=1.5 + random",
    "top_a=0.1 + random",
    "top_h=0.9 + random",
    "dynamic_temperature=1 + random",
    "mirostat=3",
    "min_p=0.05 + adaptive_p=0.2",
    "xtc:probability=0.6,threshold=0.05 + temperature=1.5",
)


def drawn(text, is_shared, seeds, logits=LOGITS):
    """A token for each seed, and the sampler with its values."""
    spec, typed = read_sampler(text)
    values = spec.check({n: spec.parameter(n).parse(t) for n, t in typed.items()})
    sampler = spec.make(values)
    sampler.seed_generator = RowSeeds()
    columns = [seeds, np.full(len(seeds), STEP)]
    sampler.seed_generator.current = ops.array(np.stack(columns, 1), "int32")
    sampler.is_shared = is_shared
    rows = ops.tile(ops.array(logits)[None], (len(seeds), 1))
    shares = sampler.compute_probabilities(rows)
    return np.array(sampler.get_next_token(shares)), spec, values


def expected_shares(spec, values):
    """The distribution of many draws; what acts at random acts in its part of them."""
    acting = inspection.kept_distribution(spec, values, LOGITS, PLACE)
    if not any("chance" in stage.needs for stage in spec.stages):
        return acting
    off = {**values, "xtc": 0.0}
    still = inspection.kept_distribution(spec, off, LOGITS, PLACE)
    return values["xtc"] * acting + (1 - values["xtc"]) * still


@pytest.mark.parametrize("is_shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("text", CHAINS)
def test_frequencies_are_those_of_the_distribution(text, is_shared):
    token_ids, spec, values = drawn(text, is_shared, np.arange(DRAWS))
    assert_drawn_as(token_ids, expected_shares(spec, values), cells=2)


def test_shared_noise_lets_rules_differ_by_what_they_remove_only():
    seeds = np.arange(DRAWS)
    wide, *_ = drawn("top_p=0.95 + random", True, seeds)
    narrow, spec, values = drawn("top_p=0.6 + random", True, seeds)
    kept = inspection.kept_mask(spec, values, LOGITS, PLACE)
    # What both keep is chosen by both.
    assert (narrow[kept[wide]] == wide[kept[wide]]).all()
    assert 0 < (narrow != wide).mean() < 0.5
    own, *_ = drawn("top_p=0.95 + random", False, seeds)
    assert (own != wide).mean() > 0.5


def test_a_seed_alone_draws_what_it_draws_among_others():
    among, *_ = drawn("min_p=0.02 + temperature=1.5", True, np.arange(50))
    for seed in (0, 7, 49):
        alone, *_ = drawn("min_p=0.02 + temperature=1.5", True, np.array([seed]))
        assert alone[0] == among[seed]


def test_of_nothing_a_token_of_the_vocabulary_is_drawn():
    for size in (5, 37, 64):
        nothing = np.zeros((2, size), np.float32)
        for uniform in (0.0, 0.5, 0.999999):
            drawn = rules.draw(np, nothing, np.full((2, 1), uniform, np.float32))
            assert (drawn >= 0).all() and (drawn < size).all()
