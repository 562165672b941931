"""Commands that change settings, and every mistake one can make with them."""

from dataclasses import replace

import pytest
from talk import Talk


@pytest.mark.parametrize(
    ("line", "notices"),
    [
        (":set k 5", ["k: 10 -> 5"]),
        (":set k=5", ["k: 10 -> 5"]),
        (":set k = 5", ["k: 10 -> 5"]),
        (":set k=5 temperature=0.8", ["k: 10 -> 5", "temperature: 1 -> 0.8"]),
        (":set k 5 seed 7", ["k: 10 -> 5", "seed: off -> 7"]),
        (
            ":set k 5 seed=7 length 9",
            ["k: 10 -> 5", "seed: off -> 7", "length: 80 -> 9"],
        ),
        (":set top_p.p 0.5", ["top_p.p: 0.9 -> 0.5"]),
        (":set topp.k 3", ["topp.k: off -> 3"]),
        (":set stop sentence", ["stop: none -> sentence"]),
        (":set k 10", ["k: 10, as before"]),
        (":set sampler top_p p 0.5", ["sampler: top_k -> top_p", "p: 0.9 -> 0.5"]),
    ],
)
def test_set_understands_both_forms_and_echoes(line, notices):
    talk = Talk().type(line)
    assert talk.error is None and talk.notices == notices


def test_the_next_text_is_made_with_what_was_set():
    talk = Talk().type(":set k 3 seed 5 length 4", "the king")
    request = talk.engine.requests[-1]
    assert request.parameters["k"] == 3
    assert request.seed == 5 and request.length == 4


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (":smapler", "no command :smapler; did you mean :sampler?"),
        (":sampler tpk", "no sampler 'tpk' ... did you mean top_k?"),
        (":set k ten", "k must be a whole number 1..38; got 'ten'"),
        (":set k 0", "k must be a whole number 1..38; got 0"),
        (":set k 39", "1..38; got 39"),
        (":set k 5.5", "k must be a whole number 1..38; got '5.5'"),
        (":set kk 5", "no setting 'kk' ... did you mean k?"),
        (":set max_tokens 5", "no setting 'max_tokens' ... did you mean length?"),
        (":set p 0.5", "top_k has no parameter 'p' ... p belongs to top_p"),
        (":set k=5 p=0.5", "p belongs to top_p"),
        (":set k 5 seed -1", "seed must be a whole number 0..2147483647, or off"),
        (":set k", None),
        (":set k=", "k needs a value"),
        (":set k 5 length", "length needs a value"),
        (":set =5", "a name is missing"),
        (":set k 5 k 6", "k is given twice"),
        (":set stop here", "stop must be none, sentence, end; got 'here'"),
        (":set chat maybe", "chat must be on or off; got 'maybe'"),
        (":set temperature nan", "temperature must be a number 0..100; got nan"),
        (":set length 0", "length must be a whole number 1..100000; got 0"),
        (":sampler top_k kk=5", "no setting 'kk'"),
        (":sampler top_k 5", "5 needs a value: write :sampler top_k=VALUE"),
        (":sampler top_k k", "k needs a value ... or :sampler top_k NAME=VALUE"),
        (":set top_k", "top_k is no setting: write sampler=top_k"),
        (":set min_p 0.1", "min_p is no setting: write sampler=min_p"),
        (":sampler top_k k=5 7", "7 needs a value ... :sampler top_k NAME=VALUE"),
        (":sampler top_p p=2", "p must be a number 0 < p <= 1; got 2"),
        (":sampler top_p sampler=greedy", "named twice"),
        (":unset", ":unset NAME"),
        (":unset kk", "did you mean k?"),
        (":unset seed kk", "did you mean k?"),
        (":reset all", ":reset takes no arguments"),
        (":load missing.json", "can't read missing.json: there is no such file"),
        (":model /nowhere", "there is no checkpoint at /nowhere"),
        (":s", ":sampler"),
        (":show sttings", "did you mean settings?"),
        (":show", "settings, model, history, stats"),
        (":again", ":again needs a text: type a prompt first"),
        (":continue", ":continue needs a text"),
        (":raw", ":raw needs a text"),
        (":undo", "there is no text to drop"),
        (":save", ":save FILE"),
        (":load", ":load FILE"),
        (":source", ":source FILE"),
        (":source missing.txt", "there is no such file"),
        (":explain tpo_k", "did you mean top_k?"),
        (":help smapler", "did you mean :sampler?"),
        (":help gree", "did you mean greedy?"),
        (":help typcal_p", "did you mean typical_p?"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(line, words):
    talk = Talk().set(seed="3")
    before = talk.session
    talk.type(line)
    assert talk.session == before
    if words is None:
        assert talk.error is None
        return
    message = str(talk.error)
    assert "\n" not in message
    for part in words.split(" ... "):
        assert part in message


def test_k_under_greedy_names_the_samplers_that_have_it():
    talk = Talk().type(":sampler greedy")
    before = talk.session
    message = str(talk.type(":set k 10").error)
    assert "greedy has no parameter 'k'" in message
    assert "top_k, top_p, contrastive" in message
    assert talk.session == before


def test_either_all_of_a_line_holds_or_nothing():
    talk = Talk().type(":set k=5 temperature=-1")
    assert talk.error is not None
    assert talk.session.settings.value("top_k.k") == 10
    talk = Talk().type(":sampler top_p p=7")
    assert talk.session.settings.sampler.name == "top_k"


@pytest.mark.parametrize("name", ["topp", "top-p", "TOP_P", "nucleus"])
def test_a_sampler_goes_by_all_its_names(name):
    talk = Talk().type(f":sampler {name} p=0.5")
    assert talk.session.settings.sampler.name == "top_p"
    assert talk.notices == [
        "sampler: top_k -> top_p (p=0.5 k=off temperature=1)",
        "p: 0.9 -> 0.5",
    ]


def test_each_sampler_keeps_its_own_parameters():
    talk = Talk().type(":set k 3", ":sampler contrastive k=7", ":sampler top_k")
    assert talk.session.settings.parameters()["k"] == 3
    talk.type(":sampler contrastive")
    assert talk.session.settings.parameters()["k"] == 7


def test_temperature_zero_is_said_to_mean_greedy():
    assert "means greedy" in " ".join(Talk().type(":set temperature 0").notices)
    # Too small to divide by: the same is meant.
    tiny = Talk().type(":set temperature 1e-30", "the king")
    assert tiny.error is None and tiny.engine.requests[0].parameters["temperature"] == 0


def test_bare_sampler_shows_all_and_marks_the_current_one():
    said = Talk().type(":sampler top_p", ":sampler").said
    marked = [line for line in said.splitlines() if line.startswith("*")]
    assert len(marked) == 1 and "top_p" in marked[0] and "p=0.9" in marked[0]
    for name in ("greedy", "beam", "random", "top_k", "contrastive", "speculative"):
        assert name in said


def test_bare_set_shows_every_setting_with_default_and_range():
    talk = Talk().type(":set k 5", ":set")
    lines = talk.said.splitlines()
    k = next(line.split() for line in lines if line.startswith("k "))
    assert k[:4] == ["k", "5", "10", "1..38"]
    shown = {line.split()[0] for line in lines if line and line[0] != " "}
    names = set(talk.session.settings.names())
    assert {name.removeprefix("top_k.") for name in names} <= shown


def test_a_name_alone_shows_that_setting():
    said = Talk().type(":set p.p", ":set top_p.p").said
    assert "top_p.p" in said and "0 < p <= 1" in said


def test_unset_gives_way_to_the_weaker_origin():
    talk = Talk()
    settings, _ = talk.session.settings.set({"k": "20"}, origin="config")
    talk.session = replace(talk.session, settings=settings)
    talk.type(":set k 5 seed 3", ":unset k seed")
    assert talk.notices == ["k: 5 -> 20 (config)", "seed: 3 -> off (default)"]


def test_reset_takes_back_everything_that_was_set():
    talk = Talk().type(":set k 5", ":sampler top_p", ":reset")
    assert talk.notices == ["sampler: top_p -> top_k", "top_k.k: 5 -> 10"]
    assert talk.session.settings == Talk().session.settings.reset()
    assert talk.type(":reset").notices == ["nothing was set"]


def test_show_settings_tells_where_each_value_came_from():
    talk = Talk()
    settings = talk.session.settings
    for origin, name in [("config", "length"), ("environment", "seed"), ("flag", "k")]:
        settings, _ = settings.set({name: "7"}, origin=origin)
    talk.session = replace(talk.session, settings=settings)
    said = talk.type(":set stats off", ":show settings").said
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines()}
    assert rows["length"] == ["7", "config"]
    assert rows["seed"] == ["7", "environment"]
    assert rows["k"] == ["7", "flag"]
    assert rows["stats"] == ["off", ":set"]
    assert rows["chat"] == ["off", "default"]


def test_what_is_named_is_compiled_at_once_where_someone_is_typing():
    talk = Talk().type(":sampler beam num_beams=3", ":set seed 7", ":set num_beams 4")
    assert talk.engine.warmed == ["beam", "beam"]
    assert talk.type(":sampler beam").engine.warmed == ["beam", "beam"]
    talk.type(":sampler top_k", ":set noise shared", ":set seed 8", ":unset noise")
    assert talk.engine.warmed[2:] == ["top_k"] * 3
    assert talk.engine.warmed_noise[2:] == ["own", "shared", "own"]
    piped = Talk(is_terminal=False).type(":sampler beam")
    assert piped.engine.warmed == []


def test_what_is_taken_back_or_loaded_is_prepared_too(tmp_path):
    talk = Talk().type(":sampler beam", f":save {tmp_path / 'a.json'}", ":reset")
    assert talk.engine.warmed == ["beam", "top_k"]
    talk.type(f":load {tmp_path / 'a.json'}")
    assert talk.engine.warmed == ["beam", "top_k", "beam"]
