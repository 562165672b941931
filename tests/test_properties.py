"""Laws that hold for every value: settings, their text form, specs, seeds."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minigpt_repl.compare.spec import parse_strategies, text_seed
from minigpt_repl.engine import texts
from minigpt_repl.errors import UsageError
from minigpt_repl.sampling.parameters import Parameter, format_value
from minigpt_repl.sampling.registry import all_samplers, find_sampler
from minigpt_repl.settings import ENDS, ORIGINS, SESSION_PARAMETERS, Settings

LIMITS = {"vocabulary": 50, ENDS: 1}
KEYS = [key for key in Settings().names() if key != "sampler"]
SAMPLERS = [spec.name for spec in all_samplers()]


def values_of(parameter: Parameter):
    """Every value that a parameter allows."""
    maximum = parameter.maximum
    if isinstance(maximum, str):
        maximum = LIMITS[maximum]
    if parameter.kind is bool:
        values = st.booleans()
    elif parameter.kind is str:
        values = st.sampled_from(parameter.choices)
    elif parameter.kind is int:
        values = st.integers(int(parameter.minimum), maximum)
    else:
        values = st.floats(
            parameter.minimum,
            maximum,
            exclude_min=parameter.exclusive_minimum,
            allow_nan=False,
            allow_infinity=False,
        )
    # A temperature too small to divide by comes back as 0.
    values = values.map(lambda value: parameter.check(value, LIMITS))
    return st.one_of(st.none(), values) if parameter.optional else values


def keyed_values():
    return st.sampled_from(KEYS).flatmap(
        lambda key: st.tuples(st.just(key), values_of(Settings().parameter(key)))
    )


@given(keyed_values())
@settings(max_examples=500)
def test_a_value_survives_its_text_form(pair):
    key, value = pair
    parameter = Settings().parameter(key)
    taken = parameter.check(value, LIMITS)
    assert taken == value or abs(value) < (parameter.smallest or 0)
    assert parameter.parse(format_value(taken), LIMITS) == taken


@given(st.dictionaries(st.sampled_from(KEYS), st.text(max_size=8), max_size=4))
def test_a_change_is_made_whole_or_not_at_all(typed):
    before = Settings(limits=LIMITS)
    try:
        after, changes = before.set(typed)
    except UsageError:
        assert before == Settings(limits=LIMITS)
        return
    assert [change.name for change in changes] == list(typed)
    for key in KEYS:
        if key not in typed:
            assert after.value(key) == before.value(key)
    assert after.reset() == before.reset()


@given(st.lists(keyed_values(), max_size=8))
def test_settings_come_back_from_what_they_show(pairs):
    chosen = Settings(limits=LIMITS)
    for key, value in pairs:
        chosen, _ = chosen.set({key: format_value(value)})
    shown = {key: format_value(chosen.value(key)) for key in KEYS}
    again, _ = Settings(limits=LIMITS).set(shown)
    assert {key: again.value(key) for key in KEYS} == {
        key: chosen.value(key) for key in KEYS
    }


@given(keyed_values(), st.permutations(ORIGINS[1:]))
def test_the_strongest_layer_wins_in_whatever_order_they_came(pair, order):
    key, value = pair
    parameter = Settings().parameter(key)
    assume(value != parameter.default)
    chosen = Settings(limits=LIMITS)
    for origin in order:
        given_value = value if origin == "set" else parameter.default
        chosen, _ = chosen.set({key: format_value(given_value)}, origin=origin)
    assert (chosen.value(key), chosen.origin(key)) == (value, "set")
    chosen, _ = chosen.unset(key)
    assert (chosen.value(key), chosen.origin(key)) == (parameter.default, "flag")


@pytest.mark.parametrize("parameter", SESSION_PARAMETERS, ids=lambda p: p.name)
@given(st.text(max_size=12))
@settings(max_examples=50)
def test_any_text_is_a_value_or_one_line(parameter, text):
    try:
        value = parameter.parse(text, LIMITS)
    except UsageError as error:
        assert "\n" not in str(error)
        assert parameter.name in str(error)
    else:
        assert parameter.check(value, LIMITS) == value


@given(st.sampled_from(SAMPLERS), st.data())
def test_a_strategy_comes_back_from_its_label(sampler, data):
    spec = find_sampler(sampler)
    drawn = {p.name: data.draw(values_of(p)) for p in spec.parameters}
    named = {name: value for name, value in drawn.items() if value is not None}
    text = ",".join(f"{name}={format_value(value)}" for name, value in named.items())
    word = f"{sampler}:{text}" if text else sampler
    (strategy,) = parse_strategies([word], Settings(limits=LIMITS))
    assert strategy.parameters == spec.defaults() | named
    (again,) = parse_strategies([strategy.label], Settings(limits=LIMITS))
    assert again == strategy


@given(st.text(max_size=30))
def test_any_word_is_a_strategy_or_one_line(word):
    try:
        strategies = parse_strategies([word], Settings(limits=LIMITS))
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert len(strategies) == 1


@given(st.integers(0, 2**31 - 1), st.integers(0, 1000))
def test_every_seed_that_follows_is_a_seed(seed, index):
    following = text_seed(seed, index)
    Settings().set({"seed": str(following)})
    assert (following - seed) % 2**31 == index


token_ids = st.lists(st.integers(3, 49), max_size=200).map(tuple)
sizes = st.integers(2, 128)


@given(token_ids, sizes, st.integers(1, 300))
def test_a_prompt_keeps_its_end_and_leaves_room(ids, size, new):
    kept = texts.crop(ids, size, new)
    assert kept == ids[len(ids) - len(kept) :]
    room = max(1, size - new)  # the start token included
    assert len(kept) + 1 <= room
    if len(kept) < len(ids):
        assert len(kept) + 1 == room


@given(st.integers(0, 500), sizes)
def test_windows_cover_a_text_without_gap_and_within_the_context(count, size):
    spans = texts.spans(count, size)
    covered = [token for _, first, last in spans for token in range(first, last)]
    assert covered == list(range(count + 1))
    for start, first, last in spans:
        assert start <= first
        assert last - start <= size


@given(token_ids, sizes)
def test_what_is_begun_anew_is_the_end_and_leaves_room(ids, size):
    kept = texts.reprimed(ids, size)
    assert kept == ids[len(ids) - len(kept) :]
    assert len(kept) + 1 < size
