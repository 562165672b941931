"""A sampler of the user's own works like the built-in ones."""

import pytest

from minigpt_repl.engine.request import Request
from minigpt_repl.sampling import registry
from minigpt_repl.sampling.parameters import Parameter
from minigpt_repl.sampling.registry import SamplerSpec, find_sampler


@pytest.fixture
def rank_sampler(monkeypatch):
    """`rank` takes the token of rank `r`: one class, one registry entry."""
    import sys
    import types

    import keras_hub
    from keras import ops

    class RankSampler(keras_hub.samplers.Sampler):
        def __init__(self, r=1, **kwargs):
            super().__init__(**kwargs)
            self.r = r

        def get_next_token(self, probabilities):
            order = ops.argsort(-probabilities, axis=-1)
            return ops.take(order, self.r - 1, axis=-1)

    module = types.ModuleType("their_samplers")
    module.RankSampler = RankSampler
    monkeypatch.setitem(sys.modules, "their_samplers", module)
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    registry.register(
        SamplerSpec(
            name="rank",
            aliases=("nth",),
            summary="the token of rank r",
            story="One. Two. Three.",
            sampler="their_samplers:RankSampler",
            parameters=(Parameter("r", int, 2, "rank", 1, "vocabulary"),),
            is_random=False,
            keeps=lambda probabilities, values: probabilities > 0,
        )
    )


def test_a_registered_sampler_chooses(engine, rank_sampler):
    spec = find_sampler("nth")
    request = Request("the cat", "rank", spec.check({"r": 3}), length=5)
    made = list(engine.generate(request))[-1].generation
    rows = engine.logits((*made.started.prompt_ids, *made.token_ids))[-6:-1]
    assert made.token_ids == tuple((-row).argsort()[2] for row in rows)


def test_its_parameter_is_live(engine, rank_sampler):
    def ids(r):
        values = find_sampler("rank").check({"r": r})
        request = Request("the cat", "rank", values, length=5)
        return list(engine.generate(request))[-1].generation.token_ids

    greedy = Request("the cat", "greedy", {}, length=5)
    best = list(engine.generate(greedy))[-1].generation.token_ids
    assert ids(2) != best
    traced = engine.trace_count
    assert ids(1) == best
    assert engine.trace_count == traced


def test_an_error_while_the_next_step_is_computed_is_told_and_forgotten(
    engine, rank_sampler, monkeypatch
):
    import sys

    import tensorflow as tf

    is_broken = tf.Variable(False)
    plain = sys.modules["their_samplers"].RankSampler

    class FragileSampler(plain):
        def get_next_token(self, probabilities):
            with tf.control_dependencies([tf.debugging.Assert(~is_broken, ["broken"])]):
                return super().get_next_token(tf.identity(probabilities))

    monkeypatch.setattr(sys.modules["their_samplers"], "RankSampler", FragileSampler)
    engine._samplers.clear()  # the graphs of the sampler that was
    request = Request("the cat", "rank", find_sampler("rank").defaults(), length=9)
    expected = list(engine.generate(request))[-1].generation.token_ids
    events = engine.generate(request)
    for _ in range(4):
        next(events)
    is_broken.assign(True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="broken"):
        list(events)
    is_broken.assign(False)
    assert list(engine.generate(request))[-1].generation.token_ids == expected
    engine._samplers.clear()


def test_a_sampler_that_can_not_choose_from_nothing_works_on_a_text(
    engine, rank_sampler, monkeypatch
):
    # Its graphs are tried on nothing, where all tokens are equally probable.
    import sys

    import tensorflow as tf
    from keras import ops

    plain = sys.modules["their_samplers"].RankSampler

    class PickySampler(plain):
        def get_next_token(self, probabilities):
            is_flat = ops.max(probabilities) == ops.min(probabilities)
            with tf.control_dependencies([tf.debugging.Assert(~is_flat, ["flat"])]):
                return super().get_next_token(tf.identity(probabilities))

    request = Request("the cat", "rank", find_sampler("rank").defaults(), length=5)
    expected = list(engine.generate(request))[-1].generation.token_ids
    monkeypatch.setattr(sys.modules["their_samplers"], "RankSampler", PickySampler)
    engine._samplers.clear()  # the graphs of the sampler that was
    assert list(engine.generate(request))[-1].generation.token_ids == expected
    engine._samplers.clear()
