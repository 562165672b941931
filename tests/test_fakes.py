"""The fake engine keeps the promises of the real one, so that tests may trust it."""

import pytest
from fakes import FakeEngine

from minigpt_repl.engine.request import Finished, Request, Started, TokenChosen
from minigpt_repl.sampling.registry import all_samplers


def make(engine, sampler="top_k", prompt="the king", length=12, **more):
    values = dict(next(s for s in all_samplers() if s.name == sampler).defaults())
    request = Request(prompt, sampler, values, length=length, **more)
    return list(engine.generate(request))


@pytest.mark.parametrize("sampler", [spec.name for spec in all_samplers()])
def test_every_sampler_starts_finishes_and_repeats_with_its_seed(sampler):
    first = make(FakeEngine(), sampler, seed=3, with_details=True)
    again = make(FakeEngine(), sampler, seed=3, with_details=True)
    assert first == again
    assert isinstance(first[0], Started) and isinstance(first[-1], Finished)
    generation = first[-1].generation
    assert generation.seed == 3
    assert len(generation.tokens) == 12 and min(generation.token_ids) >= 3


def test_a_stopped_text_still_finishes():
    engine = FakeEngine()
    events = engine.generate(Request("the", "greedy", {}, length=50))
    for event in events:
        if isinstance(event, TokenChosen) and event.index == 2:
            engine.stop()
    assert event.generation.stop_reason == "interrupted"
    assert len(event.generation.tokens) == 3


def test_long_prompts_are_cropped_and_full_contexts_primed_again():
    engine = FakeEngine(context_length=8)
    finished = make(engine, "greedy", "the king " * 10, length=10)[-1].generation
    assert finished.started.cropped == 20 - 6
    assert finished.reprimed and finished.stop_reason == "length"
    whole = make(engine, "contrastive", "the king", length=10)[-1].generation
    assert whole.stop_reason == "context"
