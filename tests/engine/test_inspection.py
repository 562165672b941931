"""What the model thought of a token, on a distribution small enough to work out."""

import math
from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeEngine
from hypothesis import given
from hypothesis import strategies as st

from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import Finished, Request
from minigpt_repl.errors import EngineError
from minigpt_repl.sampling.registry import all_samplers, find_sampler

# Probabilities 1/2, 1/4, 1/8, 1/8 of ids 3, 1, 2, 4; id 0 is reserved.
LOGITS = np.log(np.array([0.0, 2.0, 1.0, 4.0, 1.0]) + 1e-300)
LOGITS[0] = -np.inf

SAMPLERS = all_samplers()


def test_softmax_with_reserved_ids_at_0():
    assert inspection.probabilities(LOGITS) == pytest.approx(
        [0, 1 / 4, 1 / 8, 1 / 2, 1 / 8]
    )


@pytest.mark.parametrize("damage", [np.nan, np.inf, -np.inf])
def test_the_scores_of_the_next_token_are_numbers_or_an_error(damage):
    engine = FakeEngine()
    logits = engine.logits((5, 6))
    assert (inspection.next_logits(engine, (5, 6)) == logits[-1]).all()
    logits[-1, 5 if np.isnan(damage) else slice(None)] = damage
    engine.logits = lambda token_ids: logits
    with pytest.raises(EngineError, match="not finite"):
        inspection.next_logits(engine, (5, 6))


def test_temperature_one_half_squares_the_odds():
    squares = np.array([0, 4, 1, 16, 1])
    expected = squares / squares.sum()
    assert inspection.probabilities(LOGITS, 0.5) == pytest.approx(expected)


def test_temperature_0_is_the_best_token_alone():
    assert inspection.probabilities(LOGITS, 0.0).tolist() == [0, 0, 0, 1, 0]


def test_equal_tokens_are_ranked_by_id_and_impossible_ones_left_out():
    distribution = inspection.probabilities(LOGITS)
    assert inspection.top_ids(distribution, 9) == [3, 1, 2, 4]


def test_the_verdict_on_a_token():
    found = inspection.verdict(inspection.probabilities(LOGITS), 2)
    assert found.probability == pytest.approx(1 / 8)
    assert found.rank == 3
    assert found.surprisal == pytest.approx(3.0)  # bits
    # 1/2 ln 2 + 1/4 ln 4 + 2/8 ln 8 = 1.75 ln 2
    assert found.entropy == pytest.approx(1.75 * math.log(2))
    assert found.smallest_p == pytest.approx(3 / 4)


def test_the_best_token_is_admitted_by_any_p():
    found = inspection.verdict(inspection.probabilities(LOGITS), 3)
    assert (found.rank, found.smallest_p) == (1, 0.0)


@pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)
def test_what_a_rule_keeps_is_renormalised(spec):
    values = spec.defaults()
    tempered = inspection.probabilities(LOGITS, inspection.temperature_of(values))
    kept = spec.kept(np, tempered, values)
    assert (inspection.kept_mask(spec, values, LOGITS) == kept).all()
    share = inspection.kept_distribution(spec, values, LOGITS)
    assert share.sum() == pytest.approx(1.0)
    assert (share[~kept] == 0).all() and kept.any()


def test_top_k_of_two_by_hand():
    spec = find_sampler("top_k")
    share = inspection.kept_distribution(spec, {"k": 2, "temperature": 1.0}, LOGITS)
    assert share == pytest.approx([0, 1 / 3, 0, 2 / 3, 0])


def test_a_random_sampler_at_temperature_0_keeps_what_greedy_keeps():
    spec = find_sampler("top_k")
    kept = inspection.kept_mask(spec, {"k": 3, "temperature": 0.0}, LOGITS)
    assert kept.tolist() == [False, False, False, True, False]


@given(st.integers(0, 10_000), st.integers(0, 29))
def test_the_smallest_k_and_p_admit_the_token_and_nothing_less_does(seed, token_id):
    logits = np.random.default_rng(seed).normal(0, 2, 30)
    found = inspection.verdict(inspection.probabilities(logits), token_id)
    top_k, top_p = find_sampler("top_k"), find_sampler("top_p")

    def is_kept(spec, **values):
        values = {"temperature": 1.0, "k": None, **values}
        return inspection.kept_mask(spec, values, logits)[token_id]

    assert is_kept(top_k, k=found.rank)
    assert is_kept(top_p, p=min(1.0, found.smallest_p * (1 + 1e-9) + 1e-12))
    if found.rank > 1:
        assert not is_kept(top_k, k=found.rank - 1)
        assert not is_kept(top_p, p=found.smallest_p * (1 - 1e-9))


@pytest.mark.parametrize("name", ["greedy", "random", "top_k", "top_p"])
def test_scores_made_afterwards_are_those_of_the_engine(name):
    engine = FakeEngine(context_length=64)
    spec = find_sampler(name)
    request = Request(
        "the king", name, spec.defaults(), length=12, seed=3, with_scores=True
    )
    *_, last = engine.generate(request)
    assert isinstance(last, Finished)
    made = last.generation
    bare = replace(made, tokens=tuple(replace(t, score=None) for t in made.tokens))
    assert inspection.has_scores(made) and not inspection.has_scores(bare)
    scored = inspection.with_scores(bare, engine)
    for token, again in zip(made.tokens, scored.tokens, strict=True):
        assert again.score.rank == token.score.rank
        assert again.score.logprob == pytest.approx(token.score.logprob)
        assert again.score.entropy == pytest.approx(token.score.entropy)
        assert again.score.kept_mass == pytest.approx(token.score.kept_mass)
