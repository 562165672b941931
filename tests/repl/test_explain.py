"""`:explain`: each rule by its own working, on the model's own next token."""

import numpy as np
import pytest
from fakes import VOCABULARY, FakeEngine
from talk import Talk

from minigpt_repl.compare.pieces import ending_in_a_line
from minigpt_repl.engine.inspection import probabilities
from minigpt_repl.sampling.chain import STAGES
from minigpt_repl.sampling.registry import all_samplers, find_sampler

DRAWING = [spec for spec in all_samplers() if spec.search is None]


def explained(name, **settings):
    return (
        Talk()
        .set(length="9", seed="1", **settings)
        .type("the king", f":explain {name}")
    )


def cells(talk):
    """The rows that tell of a token, split into cells."""
    rows = (line.split() for line in talk.said.splitlines() if "%" in line)
    return [row for row in rows if row[1] != "more" and row[0] != "──"]


def test_behind_a_text_of_your_own_is_the_next_token():
    talk = Talk().type("the fox", ":score the king was old", ":explain top_k")
    assert "after: the king was old" in talk.notices[0]


def test_explain_takes_values_as_sampler_does():
    spaced, joined = (explained(f"top_p{sep}p=0.5") for sep in " :")
    assert spaced.error is None and spaced.said == joined.said
    several = explained("top_k k = 3 temperature 0.5")
    assert several.notices[0].startswith("top_k k=3 temperature=0.5, the next token")


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("ban=old king", 'ban="old king"'),
        ("logit_bias=king:2, old:-1", 'logit_bias="king:2, old:-1"'),
        ("top_k:k=3, temperature=0.5", "top_k k=3 temperature=0.5"),
    ],
)
def test_words_of_a_value_stay_together(typed, named):
    assert explained(typed).notices[0].startswith(f"{named}, the next token")


@pytest.mark.parametrize("spec", all_samplers(), ids=lambda spec: spec.name)
def test_explain_tells_story_formula_source_and_use(spec):
    said = " ".join(explained(spec.name).said.split())
    for told in (spec.story, spec.formula, spec.origin, spec.use):
        assert told and " ".join(told.split()) in said
    assert "Use it" in spec.use and "Not " in spec.use


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_every_rule_of_a_chain_tells_when_to_use_it(stage):
    assert stage.use.startswith("Use it") and "Not " in stage.use
    said = " ".join(explained(stage.name).said.split())
    assert stage.use in said or find_sampler(stage.name).use in said
    assert stage.use not in stage.story


@pytest.mark.parametrize("spec", DRAWING, ids=lambda spec: spec.name)
def test_explain_shows_before_and_after_with_the_cut(spec):
    talk = explained(spec.name)
    model = probabilities(talk.engine.logits(talk.engine.encode("the king"))[-1])
    kept = spec.kept(np, model, talk.session.settings.parameters(spec))
    best = [int(i) for i in np.argsort(-model, kind="stable") if model[i] > 0]
    for row in cells(talk):
        token_id = VOCABULARY.index(row[0].removeprefix("·"))
        assert row[1] == f"{100 * model[token_id]:.1f}%" or row[1] == "<0.1%"
        after = 100 * model[token_id] / model[kept].sum()
        assert row[-1] == (f"{after:.1f}%" if kept[token_id] else "-")
    cut = (
        f"── cut: {kept.sum()} of {len(best)} tokens, {100 * model[kept].sum():.1f}% ──"
    )
    is_cut = kept.sum() < len(best)
    assert (cut in talk.said) == is_cut
    assert ("nothing is removed" in talk.said) != is_cut
    if is_cut:
        above, below = talk.said.split("── cut")
        last, first = best[kept.sum() - 1], best[kept.sum()]
        assert above.splitlines()[-2 if not above.endswith("\n") else -1].split()[
            0
        ] in (
            f"·{VOCABULARY[last]}",
            VOCABULARY[last],
        )
        assert VOCABULARY[first] in below.splitlines()[1]


def test_explain_contrastive_shows_both_parts_of_the_score():
    talk = explained("contrastive:alpha=0.25")
    (request,) = [r for r in talk.engine.requests if r.sampler == "contrastive"]
    assert request.length == 1 and request.parameters["alpha"] == 0.25
    rows = [line.split() for line in talk.said.splitlines() if line.count(".") >= 5]
    assert rows and "chosen" in talk.said
    for row in rows:
        similarity, own, penalty, score = map(float, row[-4:])
        assert penalty == pytest.approx(-0.25 * similarity, abs=2e-3)
        assert score == pytest.approx(own + penalty, abs=3e-3)


def test_explain_beam_shows_the_tree_and_speculative_its_drafts():
    tree = explained("beam:num_beams=2").said
    assert "├── " in tree and "dropped," in tree and "short" in tree
    drafts = explained("speculative")
    assert " +" in drafts.said and " -" in drafts.said and " =" in drafts.said
    assert "drafted tokens" in drafts.notices[-1]
    without = Talk(engine=FakeEngine(has_draft=False)).type(":explain speculative")
    assert "no" in str(without.error) and "draft model" in str(without.error)


def test_explain_shows_the_penalty_on_what_was_there():
    talk = explained("presence_penalty=2")
    text = talk.session.node.text
    rows = [line.split() for line in talk.said.splitlines() if "%" in line]
    changed = [row for row in rows if row[3] == "-2.00"]
    assert changed
    for row in changed:
        assert row[0].lstrip("·#") in text and int(row[1]) >= 1
        before, after = (float(cell.strip("<%")) for cell in row[4:6])
        assert before > after or before == 0.1
    assert ending_in_a_line(text) in talk.notices[-1]
    assert "it changes nothing here" in explained("no_repeat_ngram=9").said


def test_explain_reads_values_and_refuses_those_that_are_none():
    assert "cut: 2 of" in explained("top_k:k=2").said
    assert "whole number" in str(explained("top_k:k=abc").error)
    assert "did you mean top_k" in str(explained("tpo_k").error)


def test_explain_starts_from_nothing_and_means_the_sampler_in_use():
    talk = Talk().set(sampler="greedy").type(":explain")
    assert talk.notices == ["greedy, the next token at the start"]
    best = int(talk.engine.logits(())[-1].argmax())
    kept = [line.split() for line in talk.said.splitlines() if "100.0%" in line]
    assert [row[0].removeprefix("·") for row in kept] == [VOCABULARY[best]]


def test_explain_names_a_prompt_of_several_lines_in_one():
    talk = Talk().set(sampler="greedy").type("the king\nand the queen", ":explain")
    assert talk.notices[-1].endswith("the next token after: the king and the queen")


def test_explain_applies_the_temperature():
    talk = Talk().type(":set temperature 0.5", ":explain random")
    assert "temperature=1" in talk.notices[0]
    sharp = Talk().type(":explain").said
    talk = Talk().type(":set temperature 0.5", ":explain")
    scores = talk.engine.logits(())[-1]
    best = f"{100 * probabilities(scores, 0.5).max():.1f}%"
    assert best in talk.said and best not in sharp
    greedy = Talk().type(":set temperature 0", ":explain").said
    assert greedy.count("100.0%") == 1
