"""Sessions saved and loaded; whatever else a file holds gives one line."""

import json
from dataclasses import fields, replace

import pytest
from fakes import FakeEngine
from hypothesis import given, settings
from hypothesis import strategies as st
from talk import Talk

from minigpt_repl import formats
from minigpt_repl.engine.request import (
    Generation,
    Request,
    Started,
    Token,
    TokenScore,
)
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.repl.commands.saving import dump_session, parse_session
from minigpt_repl.repl.context import Session
from minigpt_repl.settings import Settings


def a_session():
    talk = Talk(FakeEngine(context_length=16)).set(length="20", seed="5", chat="on")
    talk.type("the zebra", ":continue", ":sampler speculative", "the queen")
    talk.type(":set temperature=0.5 color never", ":set top_p.k=3")
    return talk.session


def reload(session, present=None):
    present = present or Settings(limits=session.settings.limits)
    return parse_session(dump_session(session), "file.json", present)


def test_a_session_comes_back_with_texts_settings_and_seeds():
    session = a_session()
    loaded = reload(session)
    assert loaded.nodes == session.nodes and loaded.current == session.current
    for name in session.settings.names():
        if name != "color":
            assert loaded.settings.value(name) == session.settings.value(name)


def test_the_terminal_of_the_one_who_loads_stays_as_it_is():
    present, _ = Settings().set({"color": "always", "keys": "vi"})
    loaded = reload(a_session(), present)
    assert loaded.settings.value("color") == "always"
    assert loaded.settings.value("keys") == "vi"


def test_only_what_differs_here_counts_as_set():
    loaded = reload(a_session())
    assert loaded.settings.origin("length") == "set"
    assert loaded.settings.origin("top_k.k") == "default"
    config, _ = Settings().set({"length": "20"}, origin="config")
    assert reload(a_session(), config).settings.origin("length") == "config"


def test_an_empty_session_comes_back():
    assert reload(Talk().session) == replace(
        Talk().session, settings=reload(Talk().session).settings
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "not a saved session"),
        ("{}", "not a saved session"),
        ('{"kind": "recipe"}', "not a saved session"),
        ('{"kind": "minigpt-repl session"}', "is damaged: version"),
        ('{"kind": "minigpt-repl session", "version": 2}', "newer minigpt-repl"),
        ('{"kind": "minigpt-repl session", "version": 1}', "settings is missing"),
    ],
)
def test_other_files_are_refused_in_one_line(content, words):
    with pytest.raises(MiniGPTError, match=words) as caught:
        parse_session(content, "file.json", Settings())
    assert str(caught.value).startswith("file.json")
    assert "\n" not in str(caught.value)


CONTENT = json.loads(dump_session(a_session()))
WRONG = [None, True, -1, 10**30, 1.5, "", "\x1b[31m", [], {}, [[]], "1"]


def places(value, path=()):
    """The path of every field in a saved session."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in items:
        yield (*path, name)
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*path, name))


PLACES = list(places(CONTENT))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from(WRONG))
def test_a_damaged_field_is_told_or_harmless(place, wrong):
    content = json.loads(json.dumps(CONTENT))
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = wrong
    try:
        session = parse_session(json.dumps(content), "file.json", Settings())
    except MiniGPTError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
    else:
        # What was taken can be saved again, shown and worked with.
        assert reload(session).nodes == session.nodes
        assert "\x1b" not in dump_session(session).replace("\\u001b", "\x1b")
        for name in session.settings.names():
            if name != "sampler":
                session.settings.parameter(name).check(session.settings.value(name))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(json.dumps(CONTENT)) - 1))
def test_a_truncated_file_is_told(length):
    with pytest.raises(MiniGPTError):
        parse_session(json.dumps(CONTENT)[:length], "file.json", Settings())


def test_what_this_model_does_not_allow_is_taken_back_and_told(tmp_path):
    path = tmp_path / "other.json"
    made = Talk().set(k="30").set(sampler="speculative").type("the king")
    path.write_text(dump_session(made.session))
    smaller = Talk()
    limits = {"vocabulary": 20, "draft": 0}
    smaller.session = Session(Settings(limits=limits))
    smaller.type(f":load {path}")
    assert smaller.error is None and len(smaller.session.nodes) == 1
    assert smaller.notices[1:] == [
        "sampler: speculative -> top_k, the model has no draft model",
        "top_k.k: 30 -> 10, the model's vocabulary is smaller",
    ]
    assert smaller.session.settings.sampler.name == "top_k"


SAVED = [
    (formats.SavedGeneration, Generation),
    (formats.SavedToken, Token),
    (formats.Started, Started),
    (formats.Request, Request),
    (formats.Score, TokenScore),
]


@pytest.mark.parametrize(("saved", "made"), SAVED)
def test_every_field_of_a_text_is_saved(saved, made):
    # What a chain had rescued was forgotten.
    names = {field.name for field in fields(made)}
    assert names - {"top"} == set(saved.__struct_fields__)  # of `--json --top` only


def test_what_a_chain_rescued_comes_back():
    session = a_session()
    first = session.nodes[0]
    made = replace(first.generation, rescued=(("min_p", 2),))
    session = replace(
        session, nodes=(replace(first, generation=made), *session.nodes[1:])
    )
    assert reload(session).nodes == session.nodes
    older = dump_session(a_session()).replace(',\n    "rescued": []', "")
    assert "rescued" not in json.loads(older)["turns"][0]["generation"]
    assert parse_session(older, "file.json", Settings()).nodes == a_session().nodes
