"""What the engine promises: events, prompts, seeds, stopping, switching."""

from dataclasses import replace

import numpy as np
import pytest
from processes import python

from minigpt_repl.engine.decode import DecodeLoop
from minigpt_repl.engine.engine import LocalEngine
from minigpt_repl.engine.inspection import probabilities, with_scores
from minigpt_repl.engine.request import (
    CandidatesWeighed,
    DraftVerified,
    Finished,
    HypothesesChanged,
    Request,
    Started,
    TokenChosen,
)
from minigpt_repl.engine.search import SearchLoop
from minigpt_repl.errors import EngineError, UsageError
from minigpt_repl.models.language_model import traces
from minigpt_repl.sampling.registry import find_sampler

BY_TOKEN = ("greedy", "random", "top_k", "top_p")
WHOLE = ("beam", "contrastive", "speculative")
RANDOM = ("random", "top_k", "top_p")


def ask(name, prompt="the cat", **fields):
    changes = fields.pop("parameters", {})
    fields = {"length": 8, "seed": 7} | fields
    return Request(prompt, name, find_sampler(name).check(changes), **fields)


def make(engine, *args, **fields):
    last = list(engine.generate(ask(*args, **fields)))[-1]
    assert isinstance(last, Finished)
    return last.generation


@pytest.fixture
def calls(monkeypatch):
    """How many tokens or steps each call of a compiled loop was asked for."""
    counts = []

    def count(loop_class, name):
        call = getattr(loop_class, name)

        def counted(self, count, *arguments):
            counts.append(count)
            return call(self, count, *arguments)

        monkeypatch.setattr(loop_class, name, counted)

    count(DecodeLoop, "decode")
    count(SearchLoop, "advance")
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_TOKEN + WHOLE)
def test_events_tell_the_text(engine, name):
    first, *events, last = engine.generate(ask(name))
    assert isinstance(first, Started)
    generation = last.generation
    chosen = [event for event in events if isinstance(event, TokenChosen)]
    assert [event.index for event in chosen] == list(range(8))
    assert tuple(event.token for event in chosen) == generation.tokens
    assert "".join(event.delta for event in chosen) == generation.text
    assert generation.stop_reason == "length"
    assert generation.started == first
    assert generation.timings.decode_s >= generation.timings.first_token_s > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_TOKEN + WHOLE)
def test_the_first_call_makes_one_token_and_no_call_more_than_fit(engine, calls, name):
    make(engine, name, prompt="the cat", length=1)
    calls.clear()  # of a program that was made first, the trial too
    make(engine, name, prompt="the cat", length=25)
    assert calls[0] == 1
    if name in BY_TOKEN:
        assert sum(calls) == 25


@pytest.mark.slow
def test_a_beam_is_seen_while_it_runs(engine, calls):
    request = ask("beam", parameters={"num_beams": 3}, with_details=True)
    events = engine.generate(request)
    next(events)
    seen = [next(events) for _ in range(8)]
    assert all(isinstance(event, HypothesesChanged) for event in seen)
    assert len(calls) == 8
    best = seen[-1].survivors[0]
    rest = list(events)
    assert rest[-1].generation.token_ids == best.token_ids
    assert rest[-1].generation.text == seen[-1].text
    for event in seen:
        assert len(event.survivors) == 3
        scores = [hypothesis.logprob for hypothesis in event.survivors]
        assert scores == sorted(scores, reverse=True)
    parents = {h.token_ids for h in seen[3].survivors}
    assert {h.token_ids[:-1] for h in seen[4].survivors} <= parents


def test_a_hypothesis_carries_its_own_probability(engine):
    made = list(engine.generate(ask("beam", parameters={"num_beams": 3})))
    hypotheses = [e for e in made if isinstance(e, HypothesesChanged)][-1].survivors
    prompt = made[0].prompt_ids
    for hypothesis in hypotheses:
        rows = engine.logits((*prompt, *hypothesis.token_ids))[len(prompt) : -1]
        shares = probabilities(rows)[range(8), list(hypothesis.token_ids)]
        assert hypothesis.logprob == pytest.approx(np.log(shares).sum(), abs=1e-3)


@pytest.mark.parametrize("name", BY_TOKEN + WHOLE)
def test_closing_stops_within_a_step_and_leaves_the_engine_ready(engine, calls, name):
    expected = make(engine, name).token_ids
    calls.clear()
    events = engine.generate(ask(name, length=25))
    next(events)
    next(events)
    events.close()
    assert len(calls) <= 2
    assert make(engine, name).token_ids == expected


@pytest.mark.parametrize("name", BY_TOKEN + WHOLE)
def test_a_step_that_nobody_waits_for_leaves_the_engine_ready(engine, name):
    expected = {each: make(engine, each).token_ids for each in (name, "random")}
    for other in expected:
        events = engine.generate(ask(name, prompt="a dog sat", length=25))
        for _ in range(4):
            next(events)
        events.close()
        assert make(engine, other).token_ids == expected[other]


@pytest.mark.parametrize("name", BY_TOKEN + WHOLE)
def test_a_stop_ends_the_text_within_a_step(engine, calls, name):
    events = engine.generate(ask(name, length=25))
    next(events)
    next(events)
    engine.stop()
    last = list(events)[-1].generation
    assert last.stop_reason == "interrupted"
    assert len(calls) <= 2
    assert len(last.tokens) >= 1
    assert make(engine, name).stop_reason == "length"


@pytest.mark.slow
def test_a_text_stopped_while_its_program_is_compiled_is_an_empty_text(engine):
    # A chain has a program of its own, for its noise: no other could begin.
    request = replace(ask("greedy"), sampler="min_p + temperature", noise="shared")
    events = engine.generate(request)
    started = next(events)
    engine.stop()
    (last,) = events
    made = last.generation
    assert (made.tokens, made.text, made.stop_reason) == ((), "", "interrupted")
    assert made.started == started and made.seed == started.seed == 7
    assert made.checkpoint_sha256 == engine.info.checkpoint_sha256
    *_, last = engine.generate(request)
    assert len(last.generation.tokens) == 8


@pytest.mark.parametrize("name", RANDOM)
def test_live_changes_trace_nothing(engine, name):
    make(engine, name)
    spec = find_sampler(name)
    traced = traces.total()
    changes = {"k": 3, "p": 0.4, "temperature": 0.3}
    for key in spec.parameter_names:
        make(engine, name, parameters={key: changes[key]})
    make(engine, name, length=40, seed=9)
    make(engine, name, prompt="a dog sat on the mat", length=3)
    assert traces.total() == traced


def test_live_changes_trace_nothing_for_whole_sequences(engine):
    make(engine, "beam"), make(engine, "contrastive"), make(engine, "speculative")
    traced = traces.total()
    make(engine, "beam", parameters={"temperature": 0.5}, length=20)
    make(engine, "contrastive", parameters={"alpha": 0.1, "temperature": 2.0})
    make(engine, "speculative", prompt="", length=20)
    assert traces.total() == traced


def test_samplers_that_go_token_by_token_share_a_program(engine):
    make(engine, "greedy")
    traced = traces.total()
    for name in RANDOM:
        make(engine, name)
    assert traces.total() == traced


def test_a_warm_sampler_traces_nothing_when_it_is_used(engine):
    engine.warm(Request("", "top_k", {"k": 5}))
    traced = traces.total()
    make(engine, "top_k", parameters={"k": 9})
    assert traces.total() == traced


def test_k_changes_what_is_chosen(engine):
    def ids(k):
        return make(engine, "top_k", parameters={"k": k, "temperature": 9}).token_ids

    greedy = make(engine, "greedy").token_ids
    assert ids(1) == greedy
    assert ids(71) != greedy
    assert ids(1) == greedy


@pytest.mark.parametrize("name", (*RANDOM, "beam", "contrastive"))
def test_temperature_0_is_greedy(engine, name):
    greedy = make(engine, "greedy").token_ids
    assert make(engine, name, parameters={"temperature": 0}).token_ids == greedy


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_repeats_a_text_after_anything_else(engine, name):
    first = make(engine, name, length=20).token_ids
    make(engine, name, length=3, seed=99)
    make(engine, "random", seed=5)
    events = engine.generate(ask(name, length=30, seed=1))
    next(events), next(events)
    events.close()
    assert make(engine, name, length=20).token_ids == first
    assert make(engine, name, length=20, seed=8).token_ids != first


def test_a_fresh_seed_is_drawn_and_repeats_the_text(engine):
    drawn = [make(engine, "random", seed=None) for _ in range(3)]
    assert len({generation.seed for generation in drawn}) == 3
    for generation in drawn:
        assert 0 <= generation.seed < 2**31
        assert generation.request.seed == generation.seed
        again = make(engine, "random", seed=generation.seed)
        assert again.token_ids == generation.token_ids


def test_the_largest_seed_is_allowed(engine):
    assert make(engine, "random", seed=2**31 - 1).seed == 2**31 - 1


def test_an_empty_prompt_starts_from_bos(engine):
    started, *_, last = engine.generate(ask("greedy", prompt="  "))
    assert started.prompt_ids == ()
    assert last.generation.tokens[0].id == engine.logits(()).argmax()


def test_a_long_prompt_loses_its_left_and_says_how_much(engine):
    prompt = " ".join("abcdefghij" * 4)
    ids = engine.encode(prompt)
    started = next(engine.generate(ask("greedy", prompt=prompt)))
    assert started.prompt_ids == ids[-30:]  # [BOS] and room for a token: 32
    assert started.cropped == 10
    started = next(engine.generate(ask("beam", prompt=prompt, length=8)))
    assert started.prompt_ids == ids[-23:]
    # A quarter of the context is left to it: the text goes on from something.
    started, *_, last = engine.generate(ask("beam", prompt=prompt, length=500))
    assert started.prompt_ids == ids[-7:]
    assert started.cropped == 33
    assert len(last.generation.tokens) == 24
    assert last.generation.stop_reason == "context"


def test_unknown_words_are_named(engine):
    started = next(
        engine.generate(ask("greedy", prompt="the \u96ea cat, \u96ea \u732b"))
    )
    assert started.unknown_words == ("\u96ea", "\u732b")
    assert next(engine.generate(ask("greedy"))).unknown_words == ()


def test_exact_tokens_are_continued(engine):
    ids = engine.encode("the cat")
    by_ids = make(engine, "greedy", prompt="", prompt_ids=ids)
    assert by_ids.token_ids == make(engine, "greedy").token_ids


@pytest.mark.parametrize("name", ["random", "top_k", "top_p"])
def test_reserved_ids_and_ids_without_a_word_are_never_chosen(engine, name):
    # At this temperature every id would be as probable as every other.
    parameters = {"temperature": 100}
    if name == "top_k":
        parameters["k"] = 71
    ids = make(engine, name, parameters=parameters, length=400).token_ids
    assert min(ids) >= 3
    assert max(ids) < 71
    assert len(set(ids)) > 50


def test_logits_of_reserved_ids_are_minus_infinity(engine):
    scores = engine.logits((5, 6))
    assert np.isneginf(scores[:, :3]).all()
    assert np.isfinite(scores[:, 3:]).all()


@pytest.mark.parametrize("name", BY_TOKEN + WHOLE)
def test_scores_are_those_of_the_logits(engine, name):
    made = make(engine, name, with_scores=True)
    expected = with_scores(made, engine)
    for token, wanted in zip(made.tokens, expected.tokens, strict=True):
        assert token.score.rank == wanted.score.rank
        assert token.score.logprob == pytest.approx(wanted.score.logprob, abs=1e-3)
        assert token.score.entropy == pytest.approx(wanted.score.entropy, abs=1e-3)
        assert token.score.kept_mass == pytest.approx(wanted.score.kept_mass, abs=1e-3)
    assert make(engine, name).tokens[0].score is None


@pytest.mark.slow
def test_contrastive_over_the_whole_vocabulary_chooses_no_masked_id(engine):
    size = engine.info.vocabulary_size
    parameters = {"k": size, "alpha": 1.0}
    made = make(engine, "contrastive", parameters=parameters, length=20)
    assert min(made.token_ids) >= 3 and max(made.token_ids) < size


def test_contrastive_tells_what_it_weighed(engine):
    events = list(engine.generate(ask("contrastive", with_details=True)))
    weighed = [e for e in events if isinstance(e, CandidatesWeighed)]
    assert [e.index for e in weighed] == list(range(8))
    made = events[-1].generation
    rows = engine.logits((*made.started.prompt_ids, *made.token_ids))
    for event, id_, row in zip(weighed, made.token_ids, rows[-9:-1], strict=True):
        assert event.rows[0][0] == id_  # the best score is the one chosen
        best = (-row).argsort()[:5]
        assert {candidate for candidate, *_ in event.rows} == set(best.tolist())
        shares = probabilities(row)
        for candidate, share, similarity, score in event.rows:
            assert share == pytest.approx(shares[candidate], abs=1e-3)
            assert -1.001 <= similarity <= 1.001
            assert score == pytest.approx(0.4 * share - 0.6 * similarity, abs=1e-5)


@pytest.mark.slow
def test_speculative_text_is_the_greedy_text(engine):
    greedy = make(engine, "greedy", length=25).token_ids
    for count in (1, 5):
        parameters = {"num_speculative_tokens": count}
        made = make(engine, "speculative", length=25, parameters=parameters)
        assert made.token_ids == greedy


def test_speculative_tells_its_rounds(engine):
    events = list(engine.generate(ask("speculative", with_details=True, length=20)))
    rounds = [event for event in events if isinstance(event, DraftVerified)]
    ids = events[-1].generation.token_ids
    for event in rounds:
        own = ids[event.index :][: event.accepted]
        assert own == event.drafted[: len(own)]
    assert events[-1].generation.accepted == (
        sum(event.accepted for event in rounds),
        sum(len(event.drafted) for event in rounds),
    )


@pytest.mark.slow
def test_a_draft_like_the_model_is_always_accepted(make_checkpoint, tiny_causal_lm):
    """The last of a round's drafts is not seen by KerasHub's draft model when all
    were accepted: with that hole in its cache it would go astray."""

    engine = LocalEngine(make_checkpoint(tiny_causal_lm, tiny_causal_lm))
    made = make(engine, "speculative", prompt="", length=31)
    accepted, drafted = made.accepted
    assert drafted >= 25
    assert accepted == drafted


def test_speculative_without_a_draft_names_the_setup_flag(
    make_checkpoint, tiny_causal_lm
):

    engine = LocalEngine(make_checkpoint(tiny_causal_lm))
    assert not engine.info.has_draft
    with pytest.raises(EngineError, match="--draft"):
        next(engine.generate(ask("speculative")))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["greedy", "beam"])
def test_stop_at_a_sentence_end_after_half_the_length(
    make_checkpoint, make_causal_lm, tiny_words, name
):

    causal_lm = make_causal_lm(seed=1)
    dot = tiny_words.index(".")
    bias = np.zeros(80, "float32")
    bias[dot] = 50.0  # nothing but full stops
    causal_lm.head.bias.assign(bias)
    engine = LocalEngine(make_checkpoint(causal_lm))
    made = make(engine, name, prompt="the cat sat on the mat", stop="sentence")
    assert made.stop_reason == "stop"
    assert len(made.tokens) == 4
    assert make(engine, name).stop_reason == "length"


def test_wrong_values_are_refused_before_anything_runs(engine, calls):
    with pytest.raises(UsageError, match=r"k must be .*1\.\.71"):
        next(engine.generate(replace(ask("top_k"), parameters={"k": 72})))
    with pytest.raises(UsageError, match="no sampler"):
        next(engine.generate(replace(ask("greedy"), sampler="gredy")))
    assert calls == []


def test_a_closed_engine_says_so(make_checkpoint, tiny_causal_lm):

    engine = LocalEngine(make_checkpoint(tiny_causal_lm))
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        next(engine.generate(ask("greedy")))
    with pytest.raises(EngineError, match="closed"):
        engine.logits(())


@pytest.mark.slow
def test_a_new_process_makes_the_same_text(engine):
    made = make(engine, "top_p").token_ids
    script = NEW_PROCESS.format(sampler="top_p")
    done = python(script, check=True)
    assert done.stdout.strip().splitlines()[-1] == repr(made)


NEW_PROCESS = """
import importlib.util
from pathlib import Path
spec = importlib.util.spec_from_file_location("tiny", "tests/conftest.py")
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)
from minigpt_repl.engine.decode import DecodeLoop
from minigpt_repl.engine.engine import LocalEngine
from minigpt_repl.sampling.registry import find_sampler
from minigpt_repl.engine.request import Request
from minigpt_repl.models.checkpoint import Checkpoint
from minigpt_repl.formats import Record
record = Record(71, 80, 32, 1, True, False, {{}}, {{}})
model = tiny.make_tiny_causal_lm(seed=1)
engine = LocalEngine(Checkpoint(Path("tiny"), model, record, None))
values = find_sampler("{sampler}").defaults()
request = Request("the cat", "{sampler}", values, length=8, seed=7)
print(list(engine.generate(request))[-1].generation.token_ids)
"""
