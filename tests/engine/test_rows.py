"""Texts made together: each is the one that its seed gives alone."""

import threading

import numpy as np
import pytest

from minigpt_repl.engine import engine as engine_module
from minigpt_repl.engine import rows as rows_module
from minigpt_repl.engine.decode import CORES
from minigpt_repl.engine.engine import LocalEngine
from minigpt_repl.engine.inspection import has_scores
from minigpt_repl.engine.request import (
    Finished,
    Request,
    Started,
    TokenChosen,
)
from minigpt_repl.engine.texts import programs
from minigpt_repl.models.language_model import traces
from minigpt_repl.sampling.registry import find_sampler

pytestmark = pytest.mark.slow

RANDOM = ("random", "top_k", "top_p")


def ask(name="random", seed=7, prompt="the cat", **fields):
    changes = fields.pop("parameters", {})
    fields = {"length": 20} | fields
    values = find_sampler(name).check(changes)
    return Request(prompt, name, values, seed=seed, **fields)


def compile_programs(engine, requests):
    for request, rows, _ in programs(requests):
        engine.warm(request, rows)


def together(engine, requests):
    """The finished texts, in the order of the requests, each batch made whole."""
    compile_programs(engine, requests)
    made = [
        (row, event.generation)
        for row, event in engine.generate_rows(requests)
        if isinstance(event, Finished)
    ]
    assert [row for row, _ in made] == list(range(len(requests)))
    return [generation for _, generation in made]


def alone(engine, request):
    return together(engine, [request])[0]


def assert_as_alone(engine, requests):
    for request, made in zip(requests, together(engine, requests), strict=True):
        single = alone(engine, request)
        assert made.token_ids == single.token_ids
        assert (made.text, made.seed) == (single.text, single.seed)
        assert made.stop_reason == single.stop_reason
        assert made.reprimed == single.reprimed


@pytest.mark.parametrize("name", RANDOM)
def test_a_row_is_the_text_that_its_seed_gives_alone(engine, name):
    seeds = (3, 0, 2**31 - 1, 3, 12345)
    assert_as_alone(engine, [ask(name, seed) for seed in seeds])


def test_in_whatever_row_and_among_however_many(engine):
    expected = alone(engine, ask(seed=5)).token_ids
    for count in (1, 2, 8, 11):  # the last in two parts, if there are two cores
        for row in {0, count // 2, count - 1}:
            requests = [ask(seed=100 + n) for n in range(count)]
            requests[row] = ask(seed=5)
            assert together(engine, requests)[row].token_ids == expected


def test_more_texts_than_a_batch_has_rows(engine):
    requests = [ask(seed=seed, length=3) for seed in range(70)]
    made = together(engine, requests)
    assert made[0].timings.rows == 64
    for row in (0, 33, 63, 64, 69):
        assert made[row].token_ids == alone(engine, requests[row]).token_ids


@pytest.mark.parametrize("call_s", [0.0, 1e-3, 1e3])
def test_however_many_tokens_a_call_makes(engine, monkeypatch, call_s):
    requests = [ask(seed=seed, length=30) for seed in (1, 2, 3)]
    expected = [made.token_ids for made in together(engine, requests)]
    monkeypatch.setattr(rows_module, "CALL_S", call_s)
    again = [made.token_ids for made in together(engine, requests)]
    assert again == expected


def test_each_row_has_its_own_parameters(engine):
    assert_as_alone(
        engine,
        [
            ask("top_k", parameters={"k": 1}),
            ask("top_k", parameters={"k": 71, "temperature": 9}),
            ask("top_k", parameters={"k": 5, "temperature": 0.5}),
        ],
    )


def test_samplers_and_prompts_may_differ(engine):
    assert_as_alone(
        engine,
        [
            ask("random"),
            ask("top_p", parameters={"p": 0.5}),
            ask("top_p", prompt="a dog"),
            ask("beam", parameters={"num_beams": 3}),
            ask("greedy"),
            ask("random", parameters={"temperature": 0}),
        ],
    )


def test_rows_of_other_lengths_end_by_themselves(engine):
    # The longest goes on past the context, which is 32.
    assert_as_alone(engine, [ask(seed=s, length=n) for s, n in ((1, 3), (2, 50))])
    assert_as_alone(engine, [ask(seed=s, length=n) for s, n in ((1, 50), (2, 31))])


def test_a_full_context_is_begun_anew_for_each_row(engine):
    requests = [ask(seed=seed, length=40) for seed in (1, 2, 3)]
    assert all(made.reprimed for made in together(engine, requests))
    assert_as_alone(engine, requests)


def test_a_row_that_meets_its_stop_rule_leaves_the_others_alone(engine):
    requests = [ask(seed=s, length=30, stop="sentence") for s in range(8)]
    assert_as_alone(engine, requests)
    made = together(engine, requests)
    assert "stop" in {each.stop_reason for each in made}
    assert len({len(each.token_ids) for each in made}) > 2


def test_events_of_a_row_are_in_order_and_tell_its_text(engine):
    requests = [ask(seed=seed) for seed in (1, 2, 3)]
    of_row = {row: [] for row in range(3)}
    for row, event in engine.generate_rows(requests):
        of_row[row].append(event)
    for first, *chosen, last in of_row.values():
        assert isinstance(first, Started) and isinstance(last, Finished)
        assert all(isinstance(event, TokenChosen) for event in chosen)
        assert "".join(event.delta for event in chosen) == last.generation.text


def test_a_prompt_is_read_as_the_start_its_tokens_and_padding(engine):
    row = rows_module.prompt_window(engine._model, (5, 6))
    assert row.tolist() == [[2, 5, 6, *[0] * 29]]


def test_the_rows_grow_side_by_side(engine):
    requests = [ask(seed=seed) for seed in (1, 2, 3)]
    compile_programs(engine, requests)
    events = engine.generate_rows(requests)
    seen = [row for row, event in events if isinstance(event, TokenChosen)]
    assert seen[:6] == [0, 1, 2, 0, 1, 2]


def test_the_time_is_that_of_all_rows(engine):
    timings = together(engine, [ask(seed=seed) for seed in (1, 2, 3)])[0].timings
    assert (timings.rows, timings.tokens) == (3, 60)
    assert timings.decode_s > 0


def test_a_stop_ends_all_rows_and_keeps_what_they_have(engine):
    requests = [ask(seed=seed, length=400) for seed in (1, 2, 3)]
    compile_programs(engine, requests)
    events = engine.generate_rows(requests)
    made = []
    for row, event in events:
        if isinstance(event, TokenChosen) and event.index == 2 and row == 2:
            engine.stop()
        if isinstance(event, Finished):
            made.append(event.generation)
    assert [each.stop_reason for each in made] == ["interrupted"] * 3
    whole = together(engine, requests)
    for part, full in zip(made, whole, strict=True):
        assert len(part.token_ids) >= 3
        assert part.token_ids == full.token_ids[: len(part.token_ids)]


@pytest.mark.parametrize("limit", [0, 1000])
def test_a_stop_does_not_wait_until_much_text_is_scored(engine, monkeypatch, limit):
    monkeypatch.setattr(engine_module, "SCORED_AFTER_STOP", limit)
    requests = [ask(seed=seed, with_scores=True) for seed in (1, 2)]
    for _, event in engine.generate_rows(requests):
        if isinstance(event, TokenChosen) and event.index == 2:
            engine.stop()
        if isinstance(event, Finished):
            assert has_scores(event.generation) == (limit > 0)


@pytest.fixture(scope="module")
def engine_with_a_hole(make_causal_lm, make_checkpoint, tiny_words):
    """One whose scores are no numbers once the letter x was chosen."""
    causal_lm = make_causal_lm(seed=1)
    (table,) = [
        weight
        for weight in causal_lm.backbone.weights
        if weight.shape == (80, 16) and "embeddings" in weight.path
    ]
    values = np.array(table)
    values[tiny_words.index("x")] = np.nan
    table.assign(values)
    return LocalEngine(make_checkpoint(causal_lm))


def test_a_row_that_meets_nan_ends_and_leaves_the_others_alone(
    engine_with_a_hole, engine, tiny_words
):
    requests = [
        ask(seed=seed, parameters={"temperature": 9}, length=25) for seed in range(8)
    ]
    x = tiny_words.index("x")
    made = together(engine_with_a_hole, requests)
    sound = together(engine, requests)
    ended = [each for each in made if each.stop_reason == "not_finite"]
    assert 0 < len(ended) < 8
    for with_hole, without in zip(made, sound, strict=True):
        ids = without.token_ids
        if x in ids[:-1]:
            assert with_hole.stop_reason == "not_finite"
            assert with_hole.token_ids == ids[: ids.index(x) + 1]
        else:
            assert with_hole.stop_reason == "length"
            assert with_hole.token_ids == ids


@pytest.mark.parametrize("name", ["random", "beam"])
def test_a_text_that_met_nan_leaves_nothing_behind(engine_with_a_hole, engine, name):
    met = alone(engine_with_a_hole, ask(name, prompt="cat x"))
    assert met.stop_reason == "not_finite"
    # Before the first token of an empty prompt nothing is read.
    empty = ask(name, prompt="", length=1)
    after = alone(engine_with_a_hole, empty)
    assert after.token_ids == alone(engine, empty).token_ids


@pytest.fixture
def fresh_engine(make_checkpoint, tiny_causal_lm, monkeypatch):
    """One that compiles nothing more, once it is told to hold, until let go."""
    engine = LocalEngine(make_checkpoint(tiny_causal_lm))
    engine.let_go = threading.Event()

    def held(make):
        return lambda *arguments: engine.let_go.wait() and make(*arguments)

    def hold():
        programs = engine._programs
        monkeypatch.setattr(programs, "_compile", held(programs._compile))

    engine.hold = hold
    yield engine
    engine.let_go.set()
    engine.close()


def test_texts_begin_with_the_program_that_is_there(fresh_engine, engine):
    requests = [ask(seed=seed) for seed in range(CORES + 1)]
    fresh_engine.warm(Request("", "random", {}))  # for a text on each core
    fresh_engine.hold()
    made = {}
    for row, event in fresh_engine.generate_rows(requests):
        if isinstance(event, Finished):
            made[row] = event.generation
            if row == 0:  # the wide program comes while the texts are made
                fresh_engine.let_go.set()
                compile_programs(fresh_engine, requests)
    assert [made[row].timings.rows for row in made] == [CORES] * CORES + [1]
    for row, request in enumerate(requests):
        assert made[row].token_ids == alone(engine, request).token_ids


def test_a_search_begins_with_a_wider_program_that_is_there(fresh_engine, engine):
    fresh_engine.warm(Request("", "beam", {"num_beams": 9}))
    fresh_engine.warm(Request("", "contrastive", {"k": 9}))
    fresh_engine.hold()
    for request in (
        *(ask("beam", parameters={"num_beams": n}) for n in (3, 10)),
        *(ask("contrastive", parameters={"k": n}) for n in (3, 10)),
        ask("contrastive", parameters={"k": 4, "alpha": 1.0, "temperature": 0.01}),
    ):
        expected = alone(engine, request).token_ids
        traced = traces.total()
        (*_, last) = fresh_engine.generate(request)
        assert last.generation.token_ids == expected
        assert traces.total() == traced
