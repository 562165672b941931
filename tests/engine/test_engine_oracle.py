"""The engine's tokens are those of the slow, obvious loop."""

import pytest
from oracle import Oracle, forward

from minigpt_repl.engine.request import Finished, Request
from minigpt_repl.sampling.registry import find_sampler

PROMPTS = ((), tuple(range(10, 22)))
LENGTH = 8
CASES = (
    ("greedy", {}),
    ("random", {}),
    ("random", {"temperature": 0.5}),
    ("top_k", {}),
    ("top_k", {"k": 3, "temperature": 1.7}),
    ("top_p", {}),
    ("top_p", {"p": 0.3}),
    ("top_p", {"p": 1.0, "k": 4, "temperature": 2.0}),
    ("beam", {"num_beams": 1}),
    ("beam", {"num_beams": 4}),
    ("beam", {"num_beams": 6, "temperature": 2.0}),
    ("diverse_beam", {"num_beams": 4, "num_groups": 2}),
    ("contrastive", {}),
    ("contrastive", {"k": 3, "alpha": 0.2, "temperature": 1.5}),
    ("contrastive", {"k": 4, "alpha": 0.0}),
    ("contrastive", {"k": 7, "alpha": 1.0}),  # in the program of 8
    ("speculative", {}),
    ("speculative", {"num_speculative_tokens": 3}),
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes"), CASES, ids=[f"{n}-{c}" for n, c in CASES])
def test_tokens_are_the_oracles(engine, tiny_causal_lm, tiny_draft, name, changes):
    spec = find_sampler(name)
    values = spec.check(changes)
    seeds = (7, 123456) if spec.is_random else (7,)
    for prompt in PROMPTS:
        for seed in seeds:
            request = Request(
                "", name, values, length=LENGTH, seed=seed, prompt_ids=prompt
            )
            draft = tiny_draft if name == "speculative" else None
            oracle = Oracle(tiny_causal_lm, spec, values, seed, draft)
            made = list(engine.generate(request))[-1]
            assert isinstance(made, Finished)
            assert made.generation.token_ids == oracle.continue_ids(prompt, LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["beam", "contrastive", "speculative"])
def test_whole_sequences_are_the_oracles_up_to_the_last_position(
    engine, tiny_causal_lm, tiny_draft, name
):
    spec = find_sampler(name)
    values = spec.defaults()
    draft = tiny_draft if name == "speculative" else None
    expected = Oracle(tiny_causal_lm, spec, values, draft=draft).continue_ids((), 31)
    request = Request("", name, values, length=40, seed=1)
    made = list(engine.generate(request))[-1].generation
    assert made.token_ids == expected
    assert made.stop_reason == "context"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["greedy", "random", "top_k", "top_p"])
def test_a_full_context_is_begun_anew_from_its_last_tokens(
    engine, tiny_causal_lm, name
):
    spec = find_sampler(name)
    oracle = Oracle(tiny_causal_lm, spec, spec.defaults(), seed=3)
    # Its random numbers go on where they were.
    expected = oracle.continue_ids((), 31)
    expected += oracle.continue_ids(expected[-16:], 15)
    expected += oracle.continue_ids(expected[-16:], 4)
    request = Request("", name, spec.defaults(), length=50, seed=3)
    made = list(engine.generate(request))[-1].generation
    assert made.token_ids == expected
    assert made.reprimed == (31, 46)


def test_logits_are_those_of_the_plain_pass(engine, tiny_causal_lm):
    ids = tuple(range(3, 60))
    scores = engine.logits(ids)
    assert scores.shape == (58, 71)
    expected, _ = forward(tiny_causal_lm, [[2, *ids[:31]]])
    assert scores[:31] == pytest.approx(expected[0, :31, :71].numpy(), abs=1e-3)
    # As generated: the context is full and is begun anew from 16 tokens.
    expected, _ = forward(tiny_causal_lm, [[2, *ids[15:46]]])
    assert scores[31:46] == pytest.approx(expected[0, 16:31, :71].numpy(), abs=1e-3)
    expected, _ = forward(tiny_causal_lm, [[2, *ids[30:57]]])
    assert scores[46:] == pytest.approx(expected[0, 16:, :71].numpy(), abs=1e-3)


def test_logits_of_no_tokens_are_what_follows_the_start(engine, tiny_causal_lm):
    expected, _ = forward(tiny_causal_lm, [[2]])
    assert engine.logits(()) == pytest.approx(expected[0, :, :71].numpy(), abs=1e-3)
