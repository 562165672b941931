"""Diverse beam search against a slow version of what the paper and transformers do."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from oracle import Oracle

from minigpt_repl.engine.inspection import probabilities
from minigpt_repl.engine.request import HypothesesChanged, Request
from minigpt_repl.models.language_model import traces
from minigpt_repl.repl.commands.searches import BeamTree
from minigpt_repl.sampling.beam_samplers import BeamSearch, DiverseBeamSearch
from minigpt_repl.sampling.registry import find_sampler

pytestmark = pytest.mark.slow

IDS = (5, 9, 20)


def ask(name="diverse_beam", length=8, stop="none", **values):
    values = find_sampler(name).check(values)
    return Request("", name, values, length, 1, stop, IDS)


def make(engine, *arguments, **values):
    """The last hypotheses by their groups, and the text."""
    *events, last = engine.generate(ask(*arguments, **values))
    changed = [event for event in events if isinstance(event, HypothesesChanged)]
    groups = {}
    for each in changed[-1].survivors:
        groups.setdefault(each.group, []).append(each)
    return groups, last.generation


def group_beam_search(engine, length, beams, groups, penalty, is_end, temperature=1.0):
    """As `group_beam_search` of transformers: each group's (ids, ln p, taken off).

    A text that has ended is put aside; a group in which as many have as it keeps is
    done. What earlier groups chose at a step is counted, texts that end with it too.
    """
    sizes = [beams // groups + (g < beams % groups) for g in range(groups)]
    running, ended = [[((), 0.0, 0.0)] for _ in sizes], [[] for _ in sizes]
    for _ in range(length):
        chosen = []
        for group, size in enumerate(sizes):
            found = []
            for ids, logprob, taken in running[group]:
                logits = engine.logits((*IDS, *ids))[-1]
                shares = np.maximum(probabilities(logits, temperature), 1e-300)
                for token_id, one in enumerate(np.log(shares)):
                    more = penalty * chosen.count(token_id)
                    found.append(((*ids, token_id), logprob + one, taken + more))
            kept = sorted(found, key=lambda each: each[2] - each[1])[:size]
            chosen += [ids[-1] for ids, _, _ in kept]
            ended[group] += [each for each in kept if is_end(each[0])]
            running[group] = [each for each in kept if not is_end(each[0])]
            if len(ended[group]) >= size:
                running[group] = []
    return [done + left for done, left in zip(ended, running, strict=True)]


def never(ids):
    return False


def assert_same(groups, expected, sizes):
    for group, size in enumerate(sizes):
        wanted = sorted(expected[group], key=lambda each: each[2] - each[1])[:size]
        found = sorted(groups[group], key=lambda each: -each.total)[:size]
        assert [each.token_ids for each in found] == [ids for ids, _, _ in wanted]
        figures = [(each.logprob, each.penalty) for each in found]
        assert np.allclose(figures, [each[1:] for each in wanted], atol=1e-3)


@pytest.mark.parametrize(
    ("beams", "penalty", "temperature"),
    [(10, 0.5, 1.0), (9, 2.0, 0.7), (9, 100.0, 1.0), (10, 0.0, 1.0)],
)
def test_it_keeps_what_group_beam_search_keeps(engine, beams, penalty, temperature):
    """The first of three groups keeps one of ten more; nine share its program."""
    values = {"diversity_penalty": penalty, "temperature": temperature}
    found, generation = make(engine, num_beams=beams, num_groups=3, **values)
    expected = group_beam_search(engine, 8, beams, 3, penalty, never, temperature)
    assert_same(found, expected, (beams - 6, 3, 3))
    best = max((each for one in found.values() for each in one), key=lambda e: e.score)
    assert generation.token_ids == best.token_ids
    alone = group_beam_search(engine, 8, 3, 1, 0, never, temperature)
    assert penalty or [each.token_ids for each in found[1]] == [e[0] for e in alone[0]]


def test_values_groups_and_one_beam_less_need_no_other_program(engine):
    make(engine, num_beams=10, num_groups=3)
    traced = traces.total()
    make(engine, num_beams=9, num_groups=4, diversity_penalty=3, temperature=2)
    assert traces.total() == traced


def test_a_group_whose_texts_have_ended_leaves_the_others_to_go_on(sentences):
    length = 10

    def is_end(ids):
        decoder, (*before, last) = sentences.info.text.decoder("", IDS), ids
        for each in before:
            decoder.push(each)
        return 2 * len(ids) >= length and decoder.ends_sentence(last)

    expected = group_beam_search(sentences, length, 4, 2, 1.0, is_end)
    values = {"num_beams": 4, "num_groups": 2, "diversity_penalty": 1.0}
    found, generation = make(sentences, "diverse_beam", length, "sentence", **values)
    lengths = [{len(ids) for ids, _, _ in group} for group in expected]
    assert max(lengths[0]) < max(lengths[1])
    assert_same(found, expected, (2, 2))
    assert generation.stop_reason == "stop"


def test_the_tree_has_a_branch_for_each_group_and_tells_what_was_taken_off(engine):
    request = replace(ask(length=3, num_beams=9, num_groups=3), with_details=True)
    tree = BeamTree(request, engine)
    for event in engine.generate(request):
        tree.follow(event)
    expected = group_beam_search(engine, 3, 9, 3, 0.5, never)
    for number, group in enumerate(expected):
        step = [one for one in tree.steps[-1] if one.group == number]
        kept = {one.token_ids for one in step if one.margin is None}
        assert kept == {ids for ids, _, _ in group}
        worst = min(logprob - taken for _, logprob, taken in group)
        dropped = [one for one in step if one.margin is not None]
        assert len(dropped) == 2
        for one in dropped:
            assert one.margin == pytest.approx(worst - one.total, abs=1e-3)
            assert one.margin >= 0
    assert any(one.penalty for one in tree.steps[-1])


USED, LENGTH = len(IDS) + 1, 4


def continued(causal_lm, sampler):
    """New tokens and scores of two texts by a sampler as KerasHub has it."""
    prompts = np.zeros((2, USED + LENGTH), "int32")
    prompts[:, :USED] = [2, *IDS], [2, 30, 31, 32]
    mask = np.zeros(prompts.shape, bool)
    mask[:, :USED] = True
    texts, scores = sampler(
        next=Oracle.make_next(causal_lm),
        prompt=tf.constant(prompts),
        index=USED,
        mask=tf.constant(mask),
    )
    assert (texts.numpy()[:, :, :USED] == prompts[:, None, :USED]).all()
    return texts.numpy()[:, :, USED:].tolist(), scores.numpy()


@pytest.mark.parametrize(("beams", "groups"), [(5, 2), (2, 3)])
def test_outside_of_the_engine_it_continues_a_batch(
    tiny_causal_lm, engine, beams, groups
):
    sampler = DiverseBeamSearch(beams, groups, return_all_beams=True)
    texts, scores = continued(tiny_causal_lm, sampler)
    found = group_beam_search(engine, LENGTH, beams, groups, 0.5, never)
    ranked = sorted((taken - one, [*ids]) for each in found for ids, one, taken in each)
    ranked = ranked[:beams]  # without the start of a group that is empty
    assert texts[0] == [ids for _, ids in ranked]
    assert -scores[0] == pytest.approx([total for total, _ in ranked], abs=1e-3)
    assert scores[1] != pytest.approx(scores[0], abs=1e-3)


def test_with_one_group_it_is_beam_search(tiny_causal_lm):
    sampler = DiverseBeamSearch(5, 1, 9.0, return_all_beams=True)
    texts, scores = continued(tiny_causal_lm, sampler)
    beam = BeamSearch(num_beams=5, return_all_beams=True)
    expected, expected_scores = continued(tiny_causal_lm, beam)
    assert texts == expected
    assert scores == pytest.approx(expected_scores, abs=1e-3)


def test_all_groups_go_on_from_a_first_token_that_can_only_be_a_few(
    engine, monkeypatch
):
    # The last group was lost for good where fewer tokens may be the first than beams.
    codec = type(engine.info.text)
    monkeypatch.setattr(codec, "healing", lambda self, prompt: ("", frozenset({9})))
    request = replace(ask(num_beams=6, num_groups=3), prompt="the", prompt_ids=None)
    *events, _ = engine.generate(request)
    changed = [event for event in events if isinstance(event, HypothesesChanged)]
    assert {each.token_ids[0] for each in changed[-1].survivors} == {9}
    assert [each.group for each in changed[-1].survivors].count(2) == 2


@pytest.mark.parametrize("sampler_class", [BeamSearch, DiverseBeamSearch])
def test_its_config_makes_it_again(sampler_class):
    config = sampler_class(num_beams=4, length_penalty=2.0).get_config()
    assert sampler_class.from_config(config).length_penalty == 2.0
    assert sampler_class.from_config(config).get_config() == config
