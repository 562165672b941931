"""Layers of settings: the strongest origin holds, changes are all or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_repl.errors import UsageError
from minigpt_repl.sampling.parameters import format_value
from minigpt_repl.sampling.registry import all_samplers
from minigpt_repl.settings import ORIGINS, SESSION_PARAMETERS, Change, Settings

KEYS = [name for name in Settings().names() if name != "sampler"]


def test_the_start_is_what_the_readme_says():
    settings = Settings()
    assert settings.sampler.name == "top_k" and settings.parameters()["k"] == 10
    expected = {
        "seed": None,
        "length": 80,
        "chat": False,
        "beam.num_beams": 5,
        "contrastive.k": 5,
        "contrastive.alpha": 0.6,
        "speculative.num_speculative_tokens": 5,
        "top_p.p": 0.9,
        "top_p.k": None,
    }
    assert {key: settings.value(key) for key in expected} == expected


@pytest.mark.parametrize("name", ["length", "k", "sampler"])
def test_a_stronger_origin_holds_whatever_the_order(name):
    typed = dict(zip(ORIGINS, ("", "top_p", "beam", "greedy", "random"), strict=True))
    if name != "sampler":
        typed = {origin: str(i) for i, origin in enumerate(ORIGINS, start=1)}
    for origins in (ORIGINS[1:], ORIGINS[:0:-1]):
        settings = Settings()
        for origin in origins:
            key = "top_k.k" if name == "k" else name
            settings, _ = settings.set({key: typed[origin]}, origin)
        key = "top_k.k" if name == "k" else name
        assert format_value(settings.value(key)) == typed["set"]
        assert settings.origin(key) == "set"
        after, change = settings.unset(key)
        assert after.origin(key) == "flag"
        assert format_value(change.after) == typed["flag"]


def test_changes_tell_before_and_after_and_leave_the_old_settings():
    before = Settings()
    after, changes = before.set({"k": "5", "seed": "7"})
    assert changes == (Change("k", 10, 5), Change("seed", None, 7))
    assert before == Settings() and after.value("top_k.k") == 5


def test_the_sampler_is_switched_before_its_parameters_are_read():
    after, _ = Settings().set({"p": "0.5", "sampler": "top_p"})
    assert after.parameters() == {"p": 0.5, "k": None, "temperature": 1.0}


def test_nothing_is_set_if_anything_is_wrong():
    with pytest.raises(UsageError):
        Settings().set({"length": "5", "k": "0"})


def test_the_vocabulary_bounds_k():
    settings = Settings(limits={"vocabulary": 71})
    assert settings.set({"k": "71"})[0].value("top_k.k") == 71
    with pytest.raises(UsageError, match=r"k must be a whole number 1\.\.71; got 72"):
        settings.set({"k": "72"})


def test_settings_are_fitted_to_a_smaller_checkpoint():
    settings, _ = Settings().set({"k": "5"}, "config")
    settings, _ = settings.set({"k": "500"})
    fitted, changes = settings.fitted_to({"vocabulary": 71})
    assert changes == (Change("top_k.k", 500, 5),)
    assert fitted.origin("top_k.k") == "config"
    assert settings.fitted_to({"vocabulary": 4})[0].value("top_k.k") == 4


@pytest.mark.parametrize("key", KEYS)
def test_every_setting_takes_its_own_default_as_typed(key):
    settings = Settings()
    typed = format_value(settings.value(key))
    after, _ = settings.set({key: typed})
    assert after.value(key) == settings.value(key)


@given(st.sampled_from(KEYS), st.text(max_size=6) | st.integers().map(str))
def test_whatever_is_typed_is_refused_or_within_its_range(key, text):
    settings = Settings(limits={"vocabulary": 71})
    try:
        after, _ = settings.set({key: text})
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        after.parameter(key).check(after.value(key), after.limits)
        # What is shown can be typed again.
        shown = format_value(after.value(key))
        again = after.set({key: shown})[0].value(key)
        assert format_value(again) == shown


@pytest.mark.parametrize("spec", all_samplers(), ids=lambda spec: spec.name)
def test_the_request_carries_all_of_it(spec):
    values = {"sampler": spec.name, "seed": "3", "length": "9", "stop": "sentence"}
    request = Settings().set(values)[0].request("the king")
    assert (request.prompt, request.sampler) == ("the king", spec.name)
    assert dict(request.parameters) == spec.defaults()
    assert (request.seed, request.length, request.stop) == (3, 9, "sentence")


def test_names_have_help_and_no_name_is_used_twice():
    names = list(Settings().names())
    assert len(names) == len(set(names))
    assert all(parameter.help for parameter in SESSION_PARAMETERS)
