"""A text of the user's is scored; what looks into texts works on it."""

import math

import pytest
from fakes import FakeEngine
from talk import Talk

from minigpt_repl.compare.export import read_recorded
from minigpt_repl.engine.inspection import probabilities, score
from minigpt_repl.errors import UsageError

TEXT = "the old king said"


def reasons(comparisons):
    """Why the first text of each ended, as a file tells it."""
    return [one.strategies[0].texts[0].stop_reason for one in comparisons]


def test_surprisals_are_the_models():
    engine = FakeEngine()
    scored = score(engine, TEXT)
    rows = engine.logits(scored.token_ids)
    for row, token_id, bits in zip(rows, scored.token_ids, scored.bits, strict=False):
        assert bits == pytest.approx(-math.log2(probabilities(row)[token_id]))
    mean = sum(scored.bits) / 4
    assert f"4 tokens, {mean:.1f} bits a token" in scored.summary
    assert f"{sum(scored.bits) / len(TEXT):.3f} bits a byte" in scored.summary


def test_unknown_words_are_left_out_and_said():
    told = score(FakeEngine(), "the xyz king").summary
    assert told.endswith("1 unknown to the model, left out, so no bits a byte")


def test_nothing_is_refused():
    with pytest.raises(UsageError):
        score(FakeEngine(), "")
    assert ":score takes a text" in str(Talk().type(":score").error)


def test_heat_and_why_work_on_it():
    talk = Talk().type(f":score {TEXT}")
    assert talk.error is None
    assert talk.notices[0].startswith("4 tokens, ")
    assert talk.session.node.text == TEXT
    for line in (":heat", ":why 2", ":why king", ":continue"):
        assert talk.type(line).error is None, line


def test_the_last_prompt_is_still_the_one_that_was_typed():
    talk = Talk().type("the king", f":score {TEXT}", ":again", ":compare greedy")
    assert talk.error is None
    assert talk.session.node.prompt == "the king"
    assert talk.session.comparison.first.prompt == "the king"
    alone = Talk().type(f":score {TEXT}", ":again")
    assert "type a prompt first" in str(alone.error)


def test_no_rule_is_said_to_have_chosen_it():
    said = Talk().type(f":score {TEXT}", ":why 2").said
    assert "surprisal" in said
    assert "random" not in said and "rule" not in said


def test_it_is_shown_as_the_users_own_and_not_as_a_samplers(tmp_path, monkeypatch):
    # It was "random seed 0", and counted among the texts of random.
    monkeypatch.chdir(tmp_path)
    talk = Talk().set(length="3", seed="5").type(f":score {TEXT}", "the king")
    assert f"1 your text |{TEXT}" in talk.type(":tree").said
    history = talk.type(":show history").said
    assert "your text" in history and "random" not in history
    stats = talk.type(":show stats").said
    assert "your text" in stats and "random" not in stats
    assert (
        talk.type(":export --session all.html", ":export --session a.json").error
        is None
    )
    page = (tmp_path / "all.html").read_text(encoding="utf-8")
    assert "your text" in page and "random" not in page.partition("How it was")[0]
    texts = read_recorded((tmp_path / "a.json").read_text(encoding="utf-8"), "a.json")
    assert reasons(texts) == ["picked", "length"]


def test_a_part_of_it_is_still_the_users_own():
    # It was random's, with seed 0, and a replay would have drawn another text.
    talk = Talk().set(length="3", seed="5").type(f":score {TEXT}", ":branch 2")
    assert talk.error is None
    assert [one.generation.stop_reason for one in talk.session.nodes[:2]] == [
        "picked",
        "picked",
    ]
    assert "2 your text" in talk.type(":tree").said


def test_a_text_with_a_token_of_ones_own_can_be_replayed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    talk = Talk().set(length="5", seed="5").type("the king", ":branch 3 old")
    assert talk.type(":export --session a.json").error is None
    texts = read_recorded((tmp_path / "a.json").read_text(encoding="utf-8"), "a.json")
    assert reasons(texts) == ["length", "picked", "length"]
