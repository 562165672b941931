"""A text of the user's is scored; what looks into texts works on it."""

import math

import pytest
from fakes import FakeEngine
from talk import Talk

from minigpt_repl.engine.inspection import probabilities
from minigpt_repl.engine.scoring import score
from minigpt_repl.errors import UsageError

TEXT = "the old king said"


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
    assert "1 unknown to the model" in score(FakeEngine(), "the xyz king").summary


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
