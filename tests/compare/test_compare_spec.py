"""What may be typed of a comparison, and what is said of what may not."""

import pytest

from minigpt_repl.compare.comparison import make_plan
from minigpt_repl.compare.spec import (
    Strategy,
    parse_count,
    parse_strategies,
    parse_sweep,
    parse_typed,
    split_prompt,
    text_seed,
)
from minigpt_repl.errors import UsageError
from minigpt_repl.settings import Settings

SETTINGS = Settings(limits={"vocabulary": 40})


def swept(words, name):
    """The values of a sweep."""
    return [each.parameters[name] for each in parse_sweep(words, name, SETTINGS)]


def test_strategies_count_and_prompt_in_one_line():
    line = "greedy topk:k=3,temperature=0.5 n=5 -- the -- king"
    strategies, count, prompt = parse_typed(line, SETTINGS)
    assert strategies == (
        Strategy("greedy", {}),
        Strategy("top_k", {"k": 3, "temperature": 0.5}),
    )
    assert (count, prompt) == (5, "the -- king")


def test_what_is_not_named_is_as_it_is_set():
    settings, _ = SETTINGS.set({"top_k.k": "7"})
    (strategy,) = parse_strategies(["top_k:temperature=2"], settings)
    assert strategy.parameters == {"k": 7, "temperature": 2.0}


@pytest.mark.parametrize(
    ("line", "words", "prompt"),
    [
        ("greedy", "greedy", None),
        ("greedy -- a b", "greedy", "a b"),
        ("-- a", "", "a"),
        ("greedy --", "greedy", ""),
        ("--", "", ""),
        ("", "", None),
        ("a--b", "a--b", None),
    ],
)
def test_the_prompt_stands_after_two_dashes(line, words, prompt):
    assert split_prompt(line) == (words, prompt)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gredy", "did you mean greedy?"),
        ("top_k:k", "SAMPLER:NAME=VALUE"),
        ("top_k:p=0.5", "p belongs to top_p"),
        ("top_k:k=41", "1..40"),
        ("k=3", "SAMPLER:k=3"),
        ("n=0", "1..100"),
        ("n=x", "got 'x'"),
        ("top_k topk", "named twice"),
    ],
)
def test_what_is_wrong_is_told(line, said):
    with pytest.raises(UsageError) as error:
        parse_typed(line, SETTINGS)
    assert said in str(error.value)


def test_at_most_a_screenful_of_strategies():
    words = [f"top_k:k={k}" for k in range(1, 34)]
    with pytest.raises(UsageError, match="at most 32"):
        parse_strategies(words, SETTINGS)


def test_text_i_has_the_seed_plus_i_and_stays_a_seed():
    assert [text_seed(7, i) for i in range(3)] == [7, 8, 9]
    assert text_seed(2**31 - 1, 1) == 0


def test_a_plan_has_seed_length_and_stop_of_the_settings():
    settings, _ = SETTINGS.set({"seed": "4", "length": "9", "stop": "sentence"})
    plan = make_plan(settings, parse_strategies(["top_k"], settings), "a", count=2)
    request = plan.requests[1]
    assert (request.seed, request.length, request.stop) == (5, 9, "sentence")
    assert request.with_scores


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["0.2", "1"], [0.2, 1.0]),
        (["0.2..1.4/5"], [0.2, 0.5, 0.8, 1.1, 1.4]),
        (["0..1/3", "2"], [0.0, 0.5, 1.0, 2.0]),
        (["1", "1.0"], [1.0]),
    ],
)
def test_values_of_a_sweep(words, values):
    assert swept(words, "temperature") == pytest.approx(values)


def test_a_range_of_whole_numbers_has_whole_numbers():
    assert swept(["1..10/4"], "k") == [1, 4, 7, 10]


@pytest.mark.parametrize("word", ["0..1/1", "0..1/x", "a..b/3", "0..1/99", "-1"])
def test_values_that_no_sweep_can_have(word):
    with pytest.raises(UsageError):
        swept([word], "temperature")


def test_a_sweep_changes_one_parameter_only():
    low, high = parse_sweep(["1", "9"], "k", SETTINGS)
    assert low.parameters == {"k": 1, "temperature": 1.0}
    assert high.label == "top_k:k=9,temperature=1"


def test_a_count_is_a_number_in_range():
    assert parse_count("100") == 100
    for text in ("101", "-1", "1.5", ""):
        with pytest.raises(UsageError):
            parse_count(text)
