"""`:step`: by single keys on a terminal, by lines elsewhere."""

import pytest
from fakes import VOCABULARY, FakeEngine
from talk import Talk, talk

from minigpt_repl.engine.request import finished
from minigpt_repl.errors import EngineStopped
from minigpt_repl.repl.output import AskKey, Live


def test_stepping_accepts_picks_undoes_switches_and_runs_on():
    answers = ["", "0", "u", "1", "what?", "s greedy", "c"]
    after = talk(":step the king", answers=answers)
    texts = [node.generation.request.sampler for node in after.session.nodes]
    # Accepted, picked, picked instead after the undo, run on by greedy.
    assert texts == ["top_k", "top_k", "top_k", "greedy"]
    _, undone, picked, rest = after.session.nodes
    assert undone.parent == picked.parent and rest.parent == picked.id
    assert len(rest.generation.tokens) == 10
    assert any("'what?'" in notice for notice in after.notices)


def test_a_digit_picks_the_token_of_that_row():
    after = talk(":step the king", answers=["2", "q"])
    rows = after.engine.logits(after.engine.encode("the king"))[-1]
    third = int((-rows).argsort()[2])
    (node,) = after.session.nodes
    assert node.generation.token_ids == (third,)
    assert node.generation.tokens[0].score.rank == 3
    assert node.generation.stop_reason == "picked"


def test_stepping_goes_on_from_the_current_text_by_its_tokens():
    after = talk("the king", ":step", answers=["", "q"])
    first, stepped = after.session.nodes
    assert stepped.parent == first.id
    ids = (*first.generation.started.prompt_ids, *first.generation.token_ids)
    assert after.engine.requests[-1].prompt_ids[: len(ids)] == ids


def test_stepping_ends_at_the_length_or_with_the_input():
    assert len(talk(":step the", answers=[""] * 50).session.nodes) == 12
    assert talk(":step the", answers=[]).session.nodes == ()


def test_undoing_the_first_and_a_wrong_sampler_are_told_and_asked_again():
    answers = ["u", "s gredy", "s", "what", "q"]
    after = talk(":step the", answers=answers, is_terminal=True)
    said = " ".join(after.notices)
    assert "nothing to undo" in said and "did you mean greedy?" in said
    assert "speculative" in said


def press(*keys, line=":step the king", **more):
    return talk(line, keys=keys, **more)


def test_a_step_is_one_key_on_a_screen_that_is_redrawn_in_place():
    after = press("enter", "enter", "escape")
    assert after.count(AskKey) == 3 == after.count(Live)
    first, second = after.session.nodes
    assert second.parent == first.id and second.generation.stop_reason == "length"
    assert "token 3 of 12 · top_k:k=10,temperature=1 · seed 5" in after.lives
    assert after.said.strip() == second.text


def test_digits_pick_and_going_back_keeps_what_was_left():
    after = press("1", "left", "0", "backspace", "left", "escape")
    one, other = after.session.nodes
    assert one.parent is None is other.parent and after.session.current is None
    scores = after.engine.logits(after.engine.encode("the king"))[-1]
    best, second = (-scores).argsort(kind="stable")[:2]
    assert one.generation.token_ids == (second,)
    assert other.generation.token_ids == (best,)


def test_what_is_typed_is_the_next_token_and_escape_takes_it_back():
    after = press(*"queen", "enter", "escape")
    (node,) = after.session.nodes
    assert node.generation.token_ids == (VOCABULARY.index("queen"),)
    assert node.generation.stop_reason == "picked" and node.text == "the king queen"
    assert "the king queen▍" in after.lives
    assert press(*"queen", "escape", "escape").session.nodes == ()
    two = press(*"old queen", "enter", "escape").session.nodes
    assert [node.generation.tokens[0].text for node in two] == ["old", "queen"]
    assert two[1].parent == two[0].id


def test_a_word_that_the_model_does_not_have_is_told_and_asked_again():
    after = press(*"zebra", "enter", "escape")
    assert after.session.nodes == () and "no tokens for 'zebra'" in after.notices[0]


def test_tab_takes_another_sampler_and_an_angle_runs_on():
    after = press("tab", "enter", ">")
    stepped, rest = after.session.nodes
    assert stepped.generation.request.sampler == "top_p"
    assert rest.parent == stepped.id and len(rest.generation.tokens) == 11


def test_removed_tokens_are_marked_and_those_of_the_rule_are_not():
    after = talk(":sampler greedy", ":step the king", keys=["escape"])
    rows = [line for line in after.lives.splitlines() if "%" in line][:10]
    assert rows[0].endswith("100.0%") and all(row.endswith("-") for row in rows[1:])


@pytest.mark.parametrize("keys", [["enter"] * 20, None])
def test_two_strategies_go_together_until_they_part(keys):
    line = ":step greedy random:temperature=5 -- the king"
    after = talk(line, keys=keys, answers=[""] * 20)
    *together, one, other = after.session.nodes
    assert one.parent == other.parent == (together[-1].id if together else None)
    assert one.generation.token_ids != other.generation.token_ids
    names = [node.generation.request.sampler for node in (one, other)]
    assert names == ["greedy", "random"]
    assert "they part" in after.notices[-1] and ":goto" in after.notices[-1]


def test_a_step_can_be_made_again_by_its_seed():
    after = Talk(engine=FakeEngine(context_length=64), keys=["enter"] * 3 + ["escape"])
    after.set(length="12").type(":step the king")
    for node in after.session.nodes:
        *_, last = after.engine.generate(node.generation.request)
        assert finished(last).token_ids == node.generation.token_ids
        assert f"seed {node.generation.seed}" in after.lives
    seeds = [node.generation.seed for node in after.session.nodes]
    assert seeds == [seeds[0], seeds[0] + 1, seeds[0] + 2]


def test_more_than_two_and_unknown_strategies_are_refused():
    assert "at most two" in str(talk(":step greedy random top_k -- a").error)
    assert "did you mean greedy" in str(talk(":step gredy -- a").error)
    assert "needs a text" in str(talk(":step greedy random --").error)


def test_a_stop_keeps_what_was_stepped():
    engine = FakeEngine(context_length=64)
    generate = engine.generate

    def stopping(request):
        if len(engine.requests) == 2:
            raise EngineStopped("stopped before the first token")
        return generate(request)

    engine.generate = stopping
    after = press("enter", "enter", "enter", engine=engine)
    assert after.error is None and len(after.session.nodes) == 2
    assert "stopped before" in after.notices[-1]


def test_a_prompt_may_have_two_dashes_in_it():
    # It was taken for strategies: "no sampler 'the'".
    for line, prompt in (
        (":step the king -- the old one", "the king -- the old one"),
        (":step a king and the queen -- the old", "a king and the queen -- the old"),
        (":step don't go -- said he", "don't go -- said he"),
        (":step -- the king -- the old", "the king -- the old"),
        (":step greedy -- the king -- the old", "the king -- the old"),
    ):
        after = talk(line, answers=["", "q"])
        assert after.error is None and after.session.nodes[0].prompt == prompt
    for line in (":step gredy -- the king", ":step top_k:k=3 the -- king"):
        assert "no sampler" in str(talk(line).error)


@pytest.mark.parametrize("keys", [["enter", ">"], None])
def test_steps_and_what_runs_on_heed_every_setting(keys):
    # Noise and the stop rule were forgotten.
    after = talk(":set noise shared", ":set stop sentence")
    after.keys, after.answers = keys and iter(keys), iter(["", "c"])
    after.type(":step the king")
    assert [len(one.generation.tokens) for one in after.session.nodes] == [1, 11]
    heeded = {(one.noise, one.stop) for one in after.engine.requests}
    assert heeded == {("shared", "sentence")}
