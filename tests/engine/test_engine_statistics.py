"""Rows of random samplers are drawn as often as the distribution says."""

import numpy as np
import pytest
from closeness import chi_square_limit

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
    expected = DRAWS * kept_distribution(spec, values, engine.logits(IDS)[-1])
    counts = np.bincount(draw(engine, spec, values), minlength=71)
    assert counts[expected == 0].sum() == 0
    # Rare ids share a cell: the statistic needs some five expected in each.
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    cells = np.append(expected[~rare], expected[rare].sum())
    counts, cells = counts[cells > 0], cells[cells > 0]
    assert len(cells) >= 3
    statistic = ((counts - cells) ** 2 / cells).sum()
    assert statistic < chi_square_limit(len(cells) - 1)


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
