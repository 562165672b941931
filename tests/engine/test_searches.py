"""Searches that KerasHub does not have, each against a slow and obvious version."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from closeness import assert_drawn_as
from keras import ops

from minigpt_repl.engine.engine import LocalEngine
from minigpt_repl.engine.inspection import probabilities
from minigpt_repl.engine.request import (
    CandidatesWeighed,
    DraftVerified,
    Finished,
    HypothesesChanged,
    Request,
)
from minigpt_repl.errors import EngineError
from minigpt_repl.sampling import noise, rules
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.sampling.samplers import RowSeeds
from minigpt_repl.sampling.search_samplers import (
    ACCEPT,
    DRAFT,
    REST,
    SpeculativeSampling,
)

pytestmark = pytest.mark.slow

DRAWS = 2000
IDS = (5, 9, 20)


def ask(name, ids=IDS, length=25, seed=1, with_details=False, **changes):
    values = find_sampler(name).check(changes)
    return Request("", name, values, length, seed, "none", ids, False, with_details)


def make(engine, *arguments, **fields):
    (*_, last) = engine.generate(ask(*arguments, **fields))
    assert isinstance(last, Finished)
    return last.generation


@pytest.fixture(scope="module")
def drafting(make_checkpoint, tiny_draft):
    """The draft model as an engine of its own."""
    return LocalEngine(make_checkpoint(tiny_draft))


@pytest.mark.parametrize("guesses", [1, 4])
def test_speculative_sampling_draws_as_the_model_does(guesses):
    """The class by itself, between two models that see the last token only."""
    size, rng = 30, np.random.default_rng(1)
    table, draft_table = rng.normal(0, 2, (2, size, size)).astype("float32")

    def scores(of, prompt, first, count):
        seen = ops.take(prompt, first - 1 + ops.arange(count), axis=1)
        return ops.take(of, seen, axis=0)  # (1, count, vocabulary)

    def draft_next(prompt, cache, index):
        return scores(draft_table, prompt, index, 1)[:, 0], None, cache

    def verify_next(prompt, cache, index, k):
        padded = ops.pad(prompt, ((0, 0), (0, k)))
        return scores(table, padded, index, k + 1), cache

    sampler = SpeculativeSampling(guesses)
    sampler.seed_generator = RowSeeds()

    def text(seed):
        sampler.seed_generator.current = ops.stack([[seed, 0]])
        prompt = ops.concatenate([ops.array([[7]]), ops.zeros((1, 3), "int32")], 1)
        row = ops.zeros((1, 1), "int32")
        nexts = {"draft_next": draft_next, "verify_next": verify_next}
        return sampler(None, prompt, row, 1, draft_cache=row, **nexts)[0]

    @tf.function(jit_compile=True)
    def texts():
        return tf.map_fn(text, tf.range(DRAWS))

    made = texts().numpy()
    first, then = probabilities(table[7]), probabilities(table)
    assert_drawn_as(made[:, 1], first, cells=10)
    assert_drawn_as(made[:, 2], first @ then, cells=10)
    assert_drawn_as(made[:, 3], first @ then @ then, cells=10)
    # What would be drawn by the draft model is told from it by this very test.
    with pytest.raises(AssertionError):
        assert_drawn_as(made[:, 1], probabilities(draft_table[7]), cells=10)


def leviathan(engine, drafting, ids, length, seed, guesses, temperature):
    """Algorithm 1, plainly, with the numbers of the seed."""

    def shares(of, ids):
        return probabilities(of.logits(ids)[-1], temperature)

    def chance(place, which):
        return noise.uniform(np, np.array([[seed]]), place, which)

    ids, end = list(ids), len(ids) + length
    while len(ids) < end:
        drafts, index = [], len(ids) + 1  # the start token is the first
        for place in range(index, index + guesses):
            q = shares(drafting, (*ids, *drafts))
            drafted = rules.draw(np, q[None], chance(place, DRAFT))
            drafts.append(int(drafted[0, 0]))
        for place, token_id in enumerate(drafts, index):
            p, q = shares(engine, ids), shares(drafting, ids)
            if chance(place, ACCEPT)[0, 0] * q[token_id] >= p[token_id]:
                rest = np.maximum(p - q, 0)
                break
            ids.append(token_id)
        else:
            rest = shares(engine, ids)
        drawn = rules.draw(np, rest[None], chance(len(ids) + 1, REST))
        ids.append(int(drawn[0, 0]))
    return tuple(ids[end - length : end])


def test_speculative_sampling_is_leviathans_algorithm(engine, drafting):
    accepted = drafted = 0
    for seed in range(6):
        fields = {"temperature": 6.0, "num_speculative_tokens": 4}
        made = make(engine, "speculative_sampling", length=12, seed=seed, **fields)
        expected = leviathan(engine, drafting, IDS, 12, seed, 4, 6.0)
        assert made.token_ids == expected
        accepted, drafted = accepted + made.accepted[0], drafted + made.accepted[1]
    assert 0.05 < accepted / drafted < 0.95  # the draft model is another one


def test_a_speculative_text_is_its_seeds_and_goes_to_the_end_of_the_context(engine):
    texts = [make(engine, "speculative_sampling", (), 60, seed=s) for s in (1, 2, 1)]
    assert texts[0].token_ids == texts[2].token_ids != texts[1].token_ids
    assert {each.stop_reason for each in texts} == {"context"}
    assert len(texts[0].tokens) == 31


@pytest.mark.parametrize(("guesses", "ngram"), [(1, 1), (4, 2), (16, 8)])
def test_prompt_lookup_is_greedy_text(engine, guesses, ngram):
    for ids in (IDS, (7,), (), (5, 6) * 8):
        greedy = make(engine, "greedy", ids, 31 - len(ids))
        fields = {"num_speculative_tokens": guesses, "ngram": ngram}
        made = make(engine, "prompt_lookup", ids, 31 - len(ids), **fields)
        assert made.token_ids == greedy.token_ids


def test_prompt_lookup_guesses_what_followed_the_last_time(engine):
    ids, guesses, ngram = (5, 6, 7, 8, 5, 6, 9, 5, 6), 4, 2
    request = ask("prompt_lookup", ids, 20, with_details=True)
    request.parameters.update(num_speculative_tokens=guesses, ngram=ngram)
    *events, last = engine.generate(request)
    text = (2, *ids, *last.generation.token_ids)
    rounds = [event for event in events if isinstance(event, DraftVerified)]
    assert rounds[0].drafted == (9, 5, 6, 9)  # round and round
    for event in rounds:
        seen = text[: len(ids) + 1 + event.index]
        ends = range(ngram, len(seen))
        found = [end for end in ends if seen[end - ngram : end] == seen[-ngram:]]
        cycle = seen[found[-1] :] if found else ()
        expected = [cycle[n % len(cycle)] for n in range(guesses)] if cycle else []
        room = 32 - len(seen)
        assert list(event.drafted) == expected[:room]


def contrasts(engine, drafting, ids, alpha, draft_temperature):
    """log p - log q of what is plausible, minus infinity elsewhere, float64."""
    p = probabilities(engine.logits(ids)[-1])
    q = probabilities(drafting.logits(ids)[-1], draft_temperature)
    scores = np.full(p.shape, -np.inf)
    plausible = (p >= alpha * p.max()) & (p > 0)
    scores[plausible] = np.log(p[plausible]) - np.log(q[plausible])
    return scores


@pytest.mark.parametrize(("alpha", "temperature"), [(0.1, 1.0), (0.001, 2.0)])
def test_contrastive_decoding_takes_the_largest_ratio(
    engine, drafting, alpha, temperature
):
    changes = {"alpha": alpha, "draft_temperature": temperature}
    ids, made = IDS, make(engine, "contrastive_decoding", **changes)
    assert len(made.tokens) == 25
    for token_id in made.token_ids:
        scores = contrasts(engine, drafting, ids, alpha, temperature)
        assert scores[token_id] >= scores.max() - 1e-3
        ids = (*ids, token_id)


def test_contrastive_decoding_of_the_best_alone_is_greedy(engine):
    made = make(engine, "contrastive_decoding", alpha=1.0)
    assert made.token_ids == make(engine, "greedy").token_ids


def test_contrastive_decoding_tells_its_candidates(engine, drafting):
    changes = {"alpha": 0.001, "draft_temperature": 1.5}
    request = ask("contrastive_decoding", length=6, with_details=True, **changes)
    *events, last = engine.generate(request)
    weighed = [event for event in events if isinstance(event, CandidatesWeighed)]
    assert [event.index for event in weighed] == list(range(6))
    ids = IDS
    for event, token_id in zip(weighed, last.generation.token_ids, strict=True):
        scores = contrasts(engine, drafting, ids, 0.001, 1.5)
        best = (-scores).argsort(kind="stable")[:10]
        assert [row[0] for row in event.rows] == [
            i for i in best if scores[i] > -np.inf
        ]
        assert event.rows[0][0] == token_id
        p, q = (
            probabilities(e.logits(ids)[-1], t)
            for e, t in ((engine, 1), (drafting, 1.5))
        )
        for row_id, *figures in event.rows:
            expected = (p[row_id], q[row_id], scores[row_id])
            assert figures == pytest.approx(expected, abs=1e-3)
        ids = (*ids, token_id)


@pytest.mark.parametrize("name", ["speculative_sampling", "contrastive_decoding"])
def test_without_a_draft_model_it_is_said(make_checkpoint, tiny_causal_lm, name):
    engine = LocalEngine(make_checkpoint(tiny_causal_lm))
    with pytest.raises(EngineError, match=f"{name} needs a draft model"):
        next(engine.generate(ask(name)))


def test_a_damaged_draft_model_spoils_no_text(
    engine, make_checkpoint, make_causal_lm, tiny_causal_lm
):
    draft = make_causal_lm(seed=5, num_layers=1)
    for weight in draft.backbone.weights:
        weight.assign(np.full(weight.shape, np.nan, np.float32))
    damaged = LocalEngine(make_checkpoint(tiny_causal_lm, draft))
    # What is guessed wrongly is not kept, so the text is the model's own.
    greedy = make(engine, "speculative")
    assert make(damaged, "speculative").token_ids == greedy.token_ids
    made = make(damaged, "contrastive_decoding")
    assert (made.stop_reason, made.tokens) == ("not_finite", ())
    made = make(damaged, "speculative_sampling")
    assert made.stop_reason == "length"
    scores = engine.logits(made.whole_ids)[len(IDS) : -1]
    assert np.isfinite(scores[np.arange(25), list(made.token_ids)]).all()


def best_beam(engine, length, beams, length_penalty):
    """Beam search, plainly: texts that end with a sentence after half the length."""

    def is_end(ids):
        decoder, (*before, last) = engine.info.text.decoder("", IDS), ids
        for each in before:
            decoder.push(each)
        return 2 * len(ids) >= length and decoder.ends_sentence(last)

    running, ended = [((), 0.0)], []
    for _ in range(length):
        found = []
        for ids, logprob in running:
            logits = engine.logits((*IDS, *ids))[-1]
            logprobs = np.log(np.maximum(probabilities(logits), 1e-300))
            found += [((*ids, n), logprob + one) for n, one in enumerate(logprobs)]
        kept = sorted(found, key=lambda each: -each[1])[:beams]
        ended += [each for each in kept if is_end(each[0])]
        running = [each for each in kept if not is_end(each[0])]
        if len(ended) >= beams:
            running = []
            break
    scored = [(lp / len(ids) ** length_penalty, ids) for ids, lp in ended + running]
    return sorted(scored, reverse=True)[:beams], bool(ended)


@pytest.mark.parametrize("length_penalty", [-2.0, 0.0, 1.0, 5.0])
def test_beams_that_end_leave_their_place_and_the_best_by_length_is_taken(
    sentences, length_penalty
):
    request = ask("beam", length=10, num_beams=4, length_penalty=length_penalty)
    events = list(sentences.generate(replace(request, stop="sentence")))
    expected, has_ended = best_beam(sentences, 10, 4, length_penalty)
    assert has_ended
    last = [event for event in events if isinstance(event, HypothesesChanged)][-1]
    best = last.survivors[:4]
    assert [each.token_ids for each in best] == [ids for _, ids in expected]
    scores = [each.score for each in best]
    assert scores == pytest.approx([score for score, _ in expected], rel=1e-3)
    made = events[-1].generation
    assert made.token_ids == expected[0][1]
    assert (made.stop_reason == "stop") == last.survivors[0].has_ended
