"""Several texts of the real engine at once: none ends another, none is made twice."""

from dataclasses import replace

import pytest

from minigpt_repl.engine.request import Finished, Request, Started, TokenChosen
from minigpt_repl.engine.texts import batches, programs

pytestmark = pytest.mark.slow


def ask(sampler, seed, length=8, **parameters):
    return Request("the cat", sampler, parameters, length=length, seed=seed)


def generations(events):
    return {row: e.generation for row, e in events if isinstance(e, Finished)}


def test_a_search_is_alone_even_if_the_same_request_comes_twice():
    search = ask("speculative_sampling", 3)
    assert list(batches([search, search])) == [[[0]], [[1]]]
    drawn = ask("top_k", 3, k=4)
    assert list(batches([drawn, drawn])) == [[[0], [1]]]


def test_what_differs_in_nothing_but_its_seed_is_made_once(engine):
    requests = [
        ask("greedy", 3),
        ask("top_k", 3, k=4),
        ask("greedy", 4),
        ask("top_k", 4, k=4),
        ask("greedy", 5, length=3),
        ask("random", 6, temperature=0),
        ask("random", 7, temperature=0),
    ]
    rows = [row for batch in batches(requests) for row in batch]
    assert rows == [[0, 2], [1], [3], [4], [5, 6]]
    events = list(engine.generate_rows(requests))
    seeds = {row: event.seed for row, event in events if isinstance(event, Started)}
    assert seeds == dict(enumerate([3, 3, 4, 4, 5, 6, 7]))
    made = generations(events)
    assert [made[row].request.seed for row in range(7)] == [3, 3, 4, 4, 5, 6, 7]
    assert made[0].token_ids == made[2].token_ids and len(made[4].tokens) == 3
    for row, generation in made.items():
        chosen = [e for n, e in events if n == row and isinstance(e, TokenChosen)]
        assert "".join(event.delta for event in chosen) == generation.text


def test_the_engine_makes_them_once_too(engine):
    made = generations(engine.generate_rows([ask("greedy", n) for n in range(5)]))
    assert len(made) == 5 and {one.timings.rows for one in made.values()} == {1}
    assert {one.timings.tokens for one in made.values()} == {8}


def test_a_stop_ends_all_rows_and_no_other_batch_is_begun(engine):
    requests = [ask("top_k", seed, length=500, k=4) for seed in range(3)]
    requests.append(ask("contrastive", 9, k=4))
    engine.warm(Request("", "top_k", {"k": 4}), 3)
    events = []
    for row, event in engine.generate_rows(requests):
        events.append((row, event))
        if isinstance(event, TokenChosen) and event.index == 2:
            engine.stop()
    made = generations(events)
    assert sorted(made) == [0, 1, 2]
    assert {one.stop_reason for one in made.values()} == {"interrupted"}
    assert all(2 <= len(one.tokens) < 500 for one in made.values())


def test_which_programs_texts_need():
    requests = [
        *(ask("top_k", seed, k=seed + 1) for seed in range(5)),
        *(ask("beam", seed, num_beams=3) for seed in range(5)),
        ask("beam", 0, num_beams=4),
    ]
    found = [(request.sampler, rows) for request, rows, _ in programs(requests)]
    assert found == [("top_k", 5), ("beam", 1), ("beam", 1)]
    both = [ask("top_k", 1), replace(ask("top_k", 1), noise="shared")]
    assert len({key for *_, key in programs(both)}) == 2
