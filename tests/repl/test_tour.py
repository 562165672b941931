"""`:tour`: every claim is judged by its text, and the texts stay."""

import re

import pytest
from fakes import FakeEngine
from page import Page
from talk import talk

from minigpt_repl.repl.commands.tour import CHAPTERS, PROMPTS
from minigpt_repl.repl.output import Ask, ClearScreen

NAMES = [spec.sampler for spec in CHAPTERS]


def test_every_claim_is_judged_by_its_text():
    after = talk(":tour the king", answers=[""] * 9)
    # Between chapters: what was said of the prompt stays above the first.
    assert after.count(ClearScreen) == len(CHAPTERS) - 1 == 6
    verdicts = re.findall(r"^(So it is|Not here):", after.said, re.MULTILINE)
    assert len(verdicts) == 7 and verdicts[0] == "So it is"
    assert re.search("[0-9]+ of 24 guesses were accepted", after.said)
    names = [column.strategy.sampler for column in after.session.comparison.columns]
    assert names == NAMES
    seeds = {column.generations[0].seed for column in after.session.comparison.columns}
    assert seeds == {3} and "seed 3" in after.said
    assert "same for every seed" in after.said


def test_the_texts_stay_in_the_session():
    after = talk(":tour the king", answers=[""] * 9)
    nodes = after.session.nodes
    assert [node.generation.request.sampler for node in nodes] == NAMES
    assert all(node.prompt == "the king" for node in nodes)
    assert "texts 1..7" in after.notices[-1]
    assert after.type(":goto 3", ":continue").session.nodes[-1].parent == 3


def test_a_claim_that_does_not_hold_here_is_corrected():
    # Two tokens can't repeat a 4-gram.
    after = talk(":set length 2", ":tour the king", answers=[""] * 9)
    assert "Not here:" in after.said and CHAPTERS[0].otherwise in after.said


def test_a_tour_without_words_names_its_prompt(monkeypatch):
    monkeypatch.setattr("minigpt_repl.repl.commands.tour.PROMPTS", ("",))
    after = talk(":tour", answers=[""] * 9)
    said = after.said + after.lives + " ".join(after.notices)
    assert "the prompt is the start of a text" in said
    assert "of the start of a text: greedy" in said and "''" not in said


def test_without_a_prompt_some_are_tried_and_it_is_said():
    after = talk(":tour", answers=[""] * 9)
    chosen = after.session.comparison.prompt
    assert chosen in PROMPTS
    told = next(notice for notice in after.notices if "claims hold" in notice)
    held = after.said.count("So it is:")
    assert f"{chosen!r}" in told and f"{held} of 7 claims" in told
    # No other prompt that was tried bears out more.
    for prompt in PROMPTS:
        other = talk(f":tour -- {prompt}", answers=[""] * 9)
        assert other.said.count("So it is:") <= held


def test_it_can_be_left_and_waits_for_nobody_in_a_pipe():
    after = talk(":tour the", answers=["q"])
    assert len(after.session.comparison.columns) == 1 == len(after.session.nodes)
    piped = talk(":tour the", is_terminal=False)
    assert len(piped.session.comparison.columns) == 7
    assert piped.count(ClearScreen) == 0 == piped.count(Ask)


def test_what_is_typed_at_its_question_is_not_lost_without_a_word():
    after = talk(":tour the", answers=[":undo", "q"])
    assert after.count(Ask) == 2 and len(after.session.nodes) == 1
    assert "':undo' has to wait until the tour is left" in after.notices


@pytest.mark.parametrize("typed", ["top_k", "topk", "Top-K -- the king"])
def test_one_chapter(typed):
    after = talk(f":tour {typed}")
    (node,) = after.session.nodes
    assert node.generation.request.sampler == "top_k"
    assert "1 of 1: top_k" in after.said and "text 1 of" in after.notices[-1]


def test_without_a_draft_model_it_is_said():
    engine = FakeEngine(context_length=64, has_draft=False)
    after = talk(":tour the", answers=[""] * 9, engine=engine)
    assert len(after.session.nodes) == 6
    assert after.notices[0].startswith("left out: speculative needs a draft model")


def test_a_handout_has_claim_text_verdict_rule_and_how_to_make_it_again(tmp_path):
    path = tmp_path / "lesson.html"
    after = talk(f":tour --export {path} the king", answers=[])
    assert after.error is None and after.count(Ask) == 0
    page = Page(path.read_text())
    assert "script" not in page.tags
    shown = " ".join(page.text.split())
    for chapter, column in zip(CHAPTERS, after.session.comparison.columns, strict=True):
        assert chapter.claim in shown
        words = (t.text.removeprefix("##") for t in column.generations[0].tokens)
        assert "".join(words) in "".join(shown.split()).lower()
    assert shown.count("So it is:") + shown.count("Not here:") == 7
    assert ":set seed 3 length 12" in shown and ":tour -- the king" in shown
    assert "Use it" in shown and "arXiv:1904.09751" in shown


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (":tour --export", "name a file"),
        (":tour --export a.md", "ends in .html"),
        (":tour tpo_k -- the king", "did you mean top_k"),
        (":tour grredy", "did you mean greedy? A prompt of one word is :tour -- grr"),
        (":tour min_p", ":explain min_p"),
        (":tour greedy top_k -- the king", "one sampler"),
    ],
)
def test_what_can_not_be_is_told(line, told):
    assert told in str(talk(line).error)
