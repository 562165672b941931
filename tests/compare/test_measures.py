"""Measures of a text, against examples that were worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_repl.compare.measures import (
    MEASURES,
    Interval,
    distinct_n,
    longest_repeated_run,
    mean_interval,
    perplexity,
    repeated_ngram_rate,
    student_t,
)
from minigpt_repl.engine.request import (
    Generation,
    Request,
    Started,
    Token,
    TokenScore,
)
from minigpt_repl.formats import Timings

A, B, C = 1, 2, 3
TOKEN_IDS = st.lists(st.integers(0, 3), max_size=24)


@pytest.mark.parametrize(
    ("ids", "n", "expected"),
    [
        ([A, B, A, B], 1, 2 / 4),  # a b
        ([A, B, A, B], 2, 2 / 3),  # ab ba
        ([A, B, A, B], 3, 2 / 2),  # aba bab
        ([A, A, A, A], 2, 1 / 3),
        ([A, B, C], 3, 1.0),
        ([A, B], 3, None),
        ([], 1, None),
    ],
)
def test_distinct_n(ids, n, expected):
    assert distinct_n(ids, n) == expected


def test_the_rate_of_repeated_4_grams():
    # abca bcab cabc abca bcab: five, two of them had been there.
    assert repeated_ngram_rate([A, B, C, A, B, C, A, B]) == pytest.approx(2 / 5)
    assert repeated_ngram_rate([A, B, C, A]) == 0.0
    assert repeated_ngram_rate([A, B, C]) is None


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([], 0),
        ([A], 0),
        ([A, B, C], 0),
        ([A, B, A], 1),
        ([A, A, A], 2),  # the first two and the last two
        ([A, B, C, A, B], 2),
        ([A, B, A, B, A, B, A], 5),
        ([A, B, C, 9, A, B, C, 8, B, C], 3),
    ],
)
def test_the_longest_run_that_occurs_twice(ids, expected):
    assert longest_repeated_run(ids) == expected


@given(TOKEN_IDS)
def test_the_longest_run_is_what_trying_all_lengths_finds(ids):
    def occurs_twice(length):
        runs = [tuple(ids[i : i + length]) for i in range(len(ids) - length + 1)]
        return len(set(runs)) < len(runs)

    tried = max((n for n in range(1, len(ids)) if occurs_twice(n)), default=0)
    assert longest_repeated_run(ids) == tried


def test_perplexity_of_equally_probable_tokens_is_their_number():
    assert perplexity([math.log(1 / 8)] * 5) == pytest.approx(8)
    # A half and an eighth: as a quarter each.
    assert perplexity([math.log(1 / 2), math.log(1 / 8)]) == pytest.approx(4)
    assert perplexity([]) is None
    assert perplexity([-1e4]) == math.inf


def test_the_interval_of_three_values():
    # Mean 4, s = 2; t(0.975, 2) = 4.3027, times 2 / sqrt(3).
    interval = mean_interval([2.0, 4.0, 6.0])
    assert interval.mean == 4.0
    assert interval.half == pytest.approx(4.9683, abs=1e-3)


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert mean_interval([3.0]).half is None
    assert mean_interval([]) is None


def test_what_is_not_finite_has_no_interval():
    # It ended in a trace: such a perplexity has no deviation.
    assert mean_interval([1.0, math.inf]) == Interval(math.inf, None)
    found = mean_interval([math.nan, 1.0, 2.0])
    assert math.isnan(found.mean) and found.half is None


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(1, 12.706), (4, 2.776), (8, 2.306), (9, 2.262), (15, 2.131), (99, 1.984)],
)
def test_students_t_as_in_the_tables(degrees, expected):
    assert student_t(degrees) == pytest.approx(expected, abs=5e-4)


def make_generation(scores, ids=None):
    ids = ids or list(range(len(scores)))
    tokens = tuple(Token(i, f"w{i}", s) for i, s in zip(ids, scores, strict=True))
    return Generation(
        request=Request("a", "greedy", {}),
        started=Started((1,), 5),
        tokens=tokens,
        text="",
        raw_text="",
        stop_reason="length",
        timings=Timings(0.0, 0.004, 0.5),
    )


def test_every_measure_of_one_text():
    scores = [
        TokenScore(math.log(1 / 2), 1, entropy=1.0, kept_mass=0.5),
        TokenScore(math.log(1 / 8), 4, entropy=3.0, kept_mass=1.0),
    ]
    found = {m.key: m.of(make_generation(scores, [7, 7])) for m in MEASURES}
    assert found == {
        "distinct_1": 0.5,
        "distinct_2": 1.0,
        "distinct_3": None,
        "repeated_4": None,
        "longest_run": 1.0,
        "perplexity": pytest.approx(4),
        "entropy_bits": pytest.approx(2 / math.log(2)),
        "kept_mass": 0.75,
        "tokens_per_s": 4.0,
        "first_token_ms": 4.0,
    }
    of_machine = {measure.key for measure in MEASURES if measure.is_of_machine}
    assert of_machine == {"tokens_per_s", "first_token_ms"}


def test_a_text_without_tokens_has_no_figures_but_a_run_of_0():
    found = {m.key: m.of(make_generation([])) for m in MEASURES}
    assert {key for key, value in found.items() if value is not None} == {"longest_run"}
