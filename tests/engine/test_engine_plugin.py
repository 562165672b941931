"""A sampler of the user's own works like the built-in ones."""

import sys
import types

import keras
import keras_hub
import pytest
import tensorflow as tf
from keras import ops

from minigpt_repl.engine.request import Request
from minigpt_repl.models.language_model import traces
from minigpt_repl.sampling import registry, rules
from minigpt_repl.sampling.parameters import Parameter
from minigpt_repl.sampling.registry import SamplerSpec, find_sampler


class RankSampler(keras_hub.samplers.Sampler):
    """Takes the token of rank `r`."""

    def __init__(self, r=1, **kwargs):
        super().__init__(**kwargs)
        self.r = r

    def get_next_token(self, probabilities):
        order = ops.argsort(-probabilities, axis=-1)
        return ops.take(order, self.r - 1, axis=-1)


@pytest.fixture
def install(monkeypatch):
    """Enters a sampler's class under a name of its own: one class, one entry."""
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    module = types.ModuleType("their_samplers")
    monkeypatch.setitem(sys.modules, "their_samplers", module)

    def install(name, sampler_class, **fields):
        setattr(module, name, sampler_class)
        fields = {
            "aliases": (f"the_{name}",),
            "summary": "the token of rank r",
            "story": "One. Two. Three.",
            "sampler": f"their_samplers:{name}",
            "parameters": (Parameter("r", int, 2, "rank", 1, "vocabulary"),),
            "is_random": False,
        } | fields
        registry.register(SamplerSpec(name=name, **fields))

    return install


def make(engine, name, length=5, seed=7, **values):
    request = Request("the cat", name, find_sampler(name).check(values), length, seed)
    return list(engine.generate(request))[-1].generation


@pytest.mark.slow
def test_a_registered_sampler_chooses_and_its_parameter_is_live(engine, install):
    install("rank", RankSampler)
    made = make(engine, "rank", r=3)
    rows = engine.logits((*made.started.prompt_ids, *made.token_ids))[-6:-1]
    assert made.token_ids == tuple((-row).argsort()[2] for row in rows)
    best = make(engine, "greedy").token_ids
    traced = traces.total()
    assert make(engine, "the_rank", r=1).token_ids == best
    assert make(engine, "rank", r=2).token_ids != best
    assert traces.total() == traced


@pytest.mark.slow
def test_one_that_shares_a_program_may_have_a_parameter_that_shapes_it(engine, install):
    best = make(engine, "greedy").token_ids
    rank = Parameter("r", int, 2, "rank", 1, "vocabulary", is_structural=True)
    install("rank", RankSampler, parameters=(rank,), takes_rows=True)
    assert make(engine, "greedy").token_ids == best
    assert make(engine, "rank", r=1).token_ids == best
    assert make(engine, "rank", r=2).token_ids != best


@pytest.mark.slow
def test_one_that_draws_repeats_a_text_by_its_seed(engine, install):
    class EvenSampler(keras_hub.samplers.Sampler):
        """Draws from all that is possible, each token as often as another."""

        def __init__(self, seed=None, **kwargs):
            super().__init__(**kwargs)
            self.seed_generator = keras.random.SeedGenerator(seed)

        def get_next_token(self, probabilities):
            is_possible = ops.cast(probabilities > 0, "float32")
            drawn = keras.random.categorical(
                ops.log(is_possible), 1, seed=self.seed_generator
            )
            return ops.squeeze(drawn, axis=-1)

    install("even", EvenSampler, parameters=(), is_random=True)
    first = make(engine, "even", length=20)
    assert make(engine, "even", length=20).token_ids == first.token_ids
    other = make(engine, "even", length=20, seed=8)
    assert other.token_ids != first.token_ids
    assert len(set(first.token_ids)) > 10
    requests = [first.request, other.request]
    rows = dict(engine.generate_rows(requests))  # the last event of each row
    assert rows[0].generation.token_ids == first.token_ids
    assert rows[1].generation.token_ids == other.token_ids


def test_its_rule_tells_what_it_keeps(engine, install):
    install("rank", RankSampler, rule=rules.top("r"))
    request = Request("the cat", "rank", {"r": 2}, length=5, with_scores=True)
    for token in list(engine.generate(request))[-1].generation.tokens:
        assert token.score.rank == 2
        assert token.score.kept_mass >= 2 * 2.718281828**token.score.logprob - 1e-3


@pytest.mark.slow
def test_an_error_while_the_next_step_is_computed_is_told_and_forgotten(
    engine, install
):
    is_broken = tf.Variable(False)

    class FragileSampler(RankSampler):
        def get_next_token(self, probabilities):
            with tf.control_dependencies([tf.debugging.Assert(~is_broken, ["broken"])]):
                return super().get_next_token(tf.identity(probabilities))

    install("fragile", FragileSampler)
    expected = make(engine, "fragile", length=25).token_ids
    request = Request("the cat", "fragile", {"r": 2}, length=25)
    events = engine.generate(request)
    next(events), next(events)
    is_broken.assign(True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="broken"):
        for _ in range(4):
            list(events)
            events = engine.generate(request)
    is_broken.assign(False)
    assert make(engine, "fragile", length=25).token_ids == expected


@pytest.mark.slow
def test_a_sampler_that_can_not_choose_from_nothing_works_on_a_text(engine, install):
    # Where all tokens are equally probable.
    class PickySampler(RankSampler):
        def get_next_token(self, probabilities):
            is_flat = ops.max(probabilities) == ops.min(probabilities)
            with tf.control_dependencies([tf.debugging.Assert(~is_flat, ["flat"])]):
                return super().get_next_token(tf.identity(probabilities))

    install("picky", PickySampler)
    install("rank", RankSampler)
    assert make(engine, "picky").token_ids == make(engine, "rank").token_ids
