"""Chains of rules where the user meets them: set, seen, rearranged, compared."""

import pytest
from talk import Talk

from minigpt_repl.repl.commands.saving import dump_session, parse_session
from minigpt_repl.settings import Settings

CHAIN = ":sampler min_p=0.05 + temperature=0.8"


def test_a_chain_is_switched_to_and_the_next_text_made_with_it():
    talk = Talk().type(CHAIN)
    before, after = "top_k:k=10,temperature=1", "min_p=0.05 + temperature=0.8"
    assert talk.notices == [f"sampler: {before} -> {after}"]
    assert talk.engine.warmed == ["min_p + temperature"]
    talk.type("the king")
    request = talk.engine.requests[-1]
    assert request.sampler == "min_p + temperature"
    assert request.parameters == {"min_p": 0.05, "temperature": 0.8}
    assert any("min_p=0.05 + temperature=0.8" in line for line in talk.notices)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        (":set p 0.3", "min_p", 0.3),
        (":set min_p 0.3", "min_p", 0.3),
        (":set min_p.p=0.3", "min_p", 0.3),
        (":set threshold 0.2", "xtc.threshold", 0.2),
        (":set xtc.threshold 0.2", "xtc.threshold", 0.2),
        (":set probability 0.2", "xtc", 0.2),
    ],
)
def test_a_parameter_reaches_its_only_owner(line, key, value):
    talk = Talk().type(":sampler min_p + xtc:threshold=0.3", line)
    assert talk.error is None
    assert talk.session.settings.parameters()[key] == value


def test_what_a_chain_has_it_keeps_while_another_sampler_is_in_use():
    talk = Talk().type(CHAIN, ":set p 0.3", ":sampler top_p", ":set p 0.5")
    assert talk.session.settings.parameters()["p"] == 0.5
    talk.type(":sampler min_p + temperature")
    expected = {"min_p": 0.3, "temperature": 0.8}
    assert talk.session.settings.parameters() == expected
    talk.type(":reset")
    assert talk.session.settings.sampler.name == "top_k"


def test_a_stage_is_added_before_the_one_that_chooses():
    talk = Talk().type(":sampler min_p + mirostat", ":chain add top_k 4")
    assert talk.session.settings.sampler.name == "min_p + top_k + mirostat"
    talk.type(":chain add greedy")
    assert "mirostat chooses the token" in str(talk.error)
    talk.type(":chain add dry at 4")
    assert "mirostat chooses the token: dry can't stand" in str(talk.error)
    assert talk.session.settings.sampler.name == "min_p + top_k + mirostat"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (":sampler min_p + tpyical_p", "no rule 'tpyical_p' ... did you mean typical"),
        (":sampler min_p=2 + top_k", "must be a number 0..1; got 2"),
        (":sampler min_p:k=3 + top_k", "min_p has no parameter 'k'"),
        (":sampler min_p + min_p", "min_p is in the chain twice"),
        (":sampler min_p + ", "a chain is NAME=VALUE + NAME:K=V,K=V"),
        (":sampler min_p= + top_k", "min_p needs a value"),
        (':sampler min_p="0.1 + top_k', "a quote is not closed"),
        (":sampler beam + top_k", "no rule 'beam' for a chain"),
        (":sampler top_k + greedy=1", "greedy has no parameter"),
        (":sampler greedy + top_k", "greedy chooses the token: top_k can't stand"),
        (":sampler ban=zzz + top_k", "ban: the model has no tokens for 'zzz'"),
        (":sampler ban=#9999 + top_k", "there is no token '#9999'"),
        (":sampler logit_bias=king + top_k", "WORD:AMOUNT ...; got 'king'"),
        (":sampler logit_bias=king:inf + top_k", "WORD:AMOUNT ...; got"),
        (":sampler min_length + top_k", "did not learn where a document ends"),
        (":load-preset nope.json", "nope.json"),
        (":load-preset", ":load-preset FILE"),
        (":set p 0.5", "several stages have a p: write min_p.p or top_p.p"),
        (":set nope 5", "no setting 'nope'"),
        (":set min_p 7", "min_p must be a number 0..1"),
        (":chain drop 3", "the chain has no stage '3': it has min_p, top_p"),
        (":chain drop xtc", "the chain has no stage 'xtc': it has min_p, top_p"),
        (":chain add xtc at 9", "a place in the chain is a whole number 1..3; got '9'"),
        (":chain add min_p", "min_p is in the chain already: :set min_p VALUE"),
        (":chain add Min-P=0.1", "min_p is in the chain already: :set min_p VALUE"),
        (":sampler min_p=0.05 temperature=0.8", "min_p + temperature stacks them"),
        (":chain move top_p", ":chain add STAGE [at N], :chain move"),
        (":chain move top_p one", "a whole number 1..2; got 'one'"),
        (":chain turn", ":chain add STAGE"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(line, words):
    talk = Talk().type(":sampler min_p + top_p")
    before = talk.session
    talk.type(line)
    message = str(talk.error)
    assert "\n" not in message
    for part in words.split(" ... "):
        assert part in message
    assert talk.session == before


def test_the_stages_are_shown_with_what_each_leaves():
    talk = Talk().type(
        "the king", ":sampler top_k=3 + temperature=0.5 + top_p=0.5", ":chain"
    )
    assert talk.error is None
    lines = talk.said.splitlines()
    assert any("1" in line and "top_k=3" in line and " 3 " in line for line in lines)
    assert any("2" in line and "temperature=0.5" in line for line in lines)
    assert "top_k=3 + temperature=0.5 + top_p=0.5" in talk.notices[0]


def test_a_chain_is_rearranged():
    talk = Talk().type(":sampler min_p=0.1 + temperature=0.8")
    talk.type(":chain add typical_p 0.9 at 2", ":chain add xtc:threshold=0.2")
    text = "min_p=0.1 + typical_p=0.9 + temperature=0.8 + xtc:probability=0.5"
    assert talk.notices[0].endswith(f"{text},threshold=0.2")
    talk.type(":chain move temperature 1", ":chain drop xtc", ":chain drop 3")
    assert talk.notices[0].endswith("-> temperature=0.8 + min_p=0.1")
    assert talk.session.settings.sampler.name == "temperature + min_p"


def test_a_stage_is_dropped_by_its_name_in_whatever_spelling():
    talk = Talk().type(":sampler typical_p=0.9 + min_p=0.1", ":chain drop typical-p")
    assert talk.notices[0].endswith("-> min_p=0.1")


def test_a_sampler_becomes_a_chain_of_its_rule():
    talk = Talk().type(":sampler top_k k=4 temperature=0.5", ":chain")
    assert talk.notices[0].startswith("temperature=0.5 + top_k=4, the next token")
    talk.type(":chain add min_p=0.1")
    assert talk.notices[0].endswith("-> temperature=0.5 + top_k=4 + min_p=0.1")
    talk.type(":sampler beam", ":chain")
    assert "beam is no rule of a chain" in str(talk.error)
    talk.type(":sampler top_p p=0.9 k=5", ":chain")
    assert "top_p with k is no chain: :set k off first" in str(talk.error)
    for name in ("random", "greedy"):
        talk.type(f":sampler {name}", ":chain")
        assert talk.notices[0].startswith(f"temperature=1 + {name}, the next token")
    talk.type(":chain drop greedy")
    assert "at least one stage" in str(talk.error)


def test_why_has_a_line_for_each_stage():
    talk = Talk().type(CHAIN, "the king", ":why 1")
    assert talk.error is None
    lines = [line.split() for line in talk.said.splitlines()]
    for name in ("min_p", "temperature"):
        assert any(line[:2] == [name, "leaves"] for line in lines)


def test_a_temperature_removes_nothing_however_low_it_is():
    # What was only very improbable behind it was told as removed.
    talk = Talk().type(":sampler temperature=0.001 + random", "the king", ":why 1")
    lines = [" ".join(line.split()) for line in talk.said.splitlines()]
    assert "temperature leaves 35 of 35 tokens, 100.0%" in lines


@pytest.mark.parametrize(
    "line",
    [
        ":next",
        ":next 5 min_p=0.1 + temperature=2 top_k",
        ":explain",
        ":explain min_p",
        ":explain min_p + xtc",
        ":help typical_p",
        ":diff",
        ":heat",
        ":sampler",
        ":set",
        ":show settings",
        ":show stats",
        ":compare greedy repetition_penalty=2 + min_p=0.2 n=2",
        ":sweep temperature 0.5 1",
        ":sweep p 0.1 0.5",
        ":again",
        ":continue",
    ],
)
def test_every_view_takes_a_chain(line):
    talk = Talk().type(CHAIN, "the king", line)
    assert talk.error is None and talk.outputs


def test_explain_tells_the_rule_its_formula_and_its_origin():
    talk = Talk().type(":explain min_p")
    said = " ".join(talk.said.split())
    assert "Min-p keeps the tokens" in said and "arXiv:2407.01082" in said
    assert "probability >= p * highest" in said


def test_a_saved_session_has_its_chain_and_the_other_samplers_values():
    talk = Talk().type(":set top_p.p 0.4", ":sampler top_p=0.3 + xtc", "the king")
    again = parse_session(dump_session(talk.session), "a file", Settings())
    settings = again.settings
    assert settings.sampler.name == "top_p + xtc"
    assert settings.parameters() == talk.session.settings.parameters()
    assert settings.value("top_p.p") == 0.4
    assert again.node.generation.request.sampler == "top_p + xtc"


def test_what_chain_did_is_undone_before_texts_are_dropped():
    talk = Talk().type(
        CHAIN, "the king", ":chain add top_k=3 at 1", ":chain drop min_p"
    )
    talk.type(":undo", ":undo")
    assert talk.session.settings.sampler.name == "min_p + temperature"
    assert talk.session.settings.parameters() == {"min_p": 0.05, "temperature": 0.8}
    assert len(talk.session.nodes) == 1
    talk.type(":undo")
    assert not talk.session.nodes


def test_a_chain_that_would_leave_nothing_says_what_it_keeps():
    talk = Talk().type(":sampler epsilon_cutoff=0.99 + top_k=2", "the king", ":chain")
    words = "would leave nothing: the most probable token is kept; removes"
    assert "1 epsilon_cutoff=0.99" in talk.said and words in talk.said
    talk.type(":why 1")
    assert "would leave nothing: the most probable token is kept" in talk.said


def test_a_banned_word_never_comes_and_a_pushed_one_does():
    talk = Talk().type(":set length 30", ':sampler ban="king, ##ing" + random', "the")
    made = talk.session.node.generation
    assert not {"king", "##ing"} & {token.text for token in made.tokens}
    talk.type(":sampler logit_bias=king:1000 + top_k=1", "the")
    made = talk.session.node.generation
    assert {token.text for token in made.tokens} == {"king"}
    assert any("logit_bias=king:1000 + top_k=1" in line for line in talk.notices)


@pytest.mark.parametrize(("name", "words"), [("logit_bias", "king:2"), ("ban", "king")])
def test_a_rule_without_the_words_that_it_is_for_says_that_it_does_nothing(name, words):
    (told,) = Talk().type(f":sampler {name}").notices[1:]
    assert told.startswith(f"{name} has no words, so it does nothing: words")
    assert len(Talk().type(f":sampler {name}={words}").notices) == 1
    # Breakers are only a part of what dry does.
    assert len(Talk().type(":sampler dry:breakers=off").notices) == 1


def test_quotes_hold_words_together_wherever_a_chain_is_typed():
    talk = Talk().type(':sampler ban="the king, old" + top_k=3')
    assert talk.session.settings.parameters()["ban"] == "the king, old"
    talk.type(':set ban "queen, old"', ':chain add logit_bias="king: 2" at 1')
    assert talk.notices[0].endswith('logit_bias="king: 2" + ban="queen, old" + top_k=3')
    talk.type(':compare greedy ban="old, king"+top_k=2 n=1 -- the king')
    assert talk.error is None


def test_a_preset_is_loaded_and_what_is_not_known_is_named(tmp_path):
    path = tmp_path / "preset.json"
    path.write_text('{"temp": 0.7, "min_p": 0.1, "top_p": 1, "tfs": 1, "guidance": 2}')
    talk = Talk().type(f":load-preset {path}")
    assert talk.notices[0].endswith("-> min_p=0.1 + temperature=0.7")
    assert talk.notices[1] == "not known here: tfs, guidance"
    before = talk.session
    for content in ("[1]", "{", '{"top_k": "many"}', '{"tfs": 1}', "[" * 100_000):
        path.write_text(content)
        talk.type(f":load-preset {path}")
        assert "preset.json" in str(talk.error) or "top_k" in str(talk.error)
        assert "\n" not in str(talk.error) and talk.session == before
