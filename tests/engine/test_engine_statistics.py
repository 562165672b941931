"""Rows of random samplers are drawn as often as the distribution says."""

import pytest
from closeness import assert_drawn_as

from minigpt_repl.engine.inspection import kept_distribution
from minigpt_repl.engine.request import Request, TokenChosen
from minigpt_repl.sampling.registry import find_sampler

DRAWS = 2000
IDS = (5, 9, 20)
CASES = (
    ("random", {"temperature": 8}),
    ("top_k", {"k": 6, "temperature": 9}),
    ("top_p", {"p": 0.8, "temperature": 7}),
    ("top_p", {"p": 0.9, "k": 9, "temperature": 10}),
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes"), CASES, ids=[f"{n}-{c}" for n, c in CASES])
def test_frequencies_are_those_of_the_distribution(engine, name, changes):
    spec = find_sampler(name)
    values = spec.check(changes)
    expected = kept_distribution(spec, values, engine.logits(IDS)[-1])
    assert_drawn_as(draw(engine, spec, values), expected, cells=3)


def draw(engine, spec, values):
    """The token after `IDS`, drawn with many seeds."""
    requests = [
        Request("", spec.name, values, length=1, seed=seed, prompt_ids=IDS)
        for seed in range(DRAWS)
    ]
    return [
        event.token.id
        for _, event in engine.generate_rows(requests)
        if isinstance(event, TokenChosen)
    ]
