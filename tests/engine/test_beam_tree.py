"""The tree of beam search against the real search: its sums, survivors and margins."""

import math

import pytest

from minigpt_repl.engine.inspection import probabilities
from minigpt_repl.engine.request import Request
from minigpt_repl.repl.commands.searches import BeamTree


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_step_keeps_the_best_extensions_and_tells_how_short_others_were(
    engine, temperature
):
    values = {"num_beams": 3, "temperature": temperature}
    request = Request("the cat", "beam", values, length=4, with_details=True)
    tree = BeamTree(request, engine)
    for event in engine.generate(request):
        tree.follow(event)
    parents = {(): 0.0}
    assert len(tree.steps) == 4
    for step in tree.steps:
        every = {}
        for parent, total in parents.items():
            shares = probabilities(
                engine.logits((*tree.prompt_ids, *parent))[-1], temperature
            )
            for token_id, share in enumerate(shares):
                if share > 0:
                    every[(*parent, token_id)] = total + math.log(share)
        best = sorted(every, key=lambda ids: -every[ids])
        kept = [one for one in step if one.margin is None]
        dropped = [one for one in step if one.margin is not None]
        assert {one.token_ids for one in kept} == set(best[:3])
        assert [one.token_ids for one in dropped] == best[3:5]
        for one in step:
            assert one.logprob == pytest.approx(every[one.token_ids], abs=1e-3)
        for one in dropped:
            short = every[best[2]] - every[one.token_ids]
            assert one.margin == pytest.approx(short, abs=1e-3)
        parents = {one.token_ids: one.logprob for one in kept}
