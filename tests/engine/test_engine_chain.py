"""Chains in the engine: the slow loop's tokens, live values, what each stage left."""

import numpy as np
import pytest
from closeness import assert_drawn_as
from oracle import Oracle

from minigpt_repl.compare.pieces import notices_after
from minigpt_repl.engine import inspection
from minigpt_repl.engine.request import Request
from minigpt_repl.engine.wording import Wording
from minigpt_repl.errors import UsageError
from minigpt_repl.models.language_model import traces
from minigpt_repl.sampling.registry import find_sampler, read_sampler

pytestmark = pytest.mark.slow

PROMPT = tuple(range(10, 22))
LONG = "repetition_penalty=1.3 + top_k=50 + typical_p=0.95 + min_p=0.05 + temperature=2"
NO_REPEATS = "no_repeat_ngram=1 + greedy"


def parsed(text):
    spec, typed = read_sampler(text)
    values = {name: spec.parameter(name).parse(each) for name, each in typed.items()}
    return spec, spec.check(values)


def generate(engine, text, seed=7, length=8, prompt=PROMPT, **more):
    spec, values = parsed(text)
    request = Request("", spec.name, values, length, seed, prompt_ids=prompt, **more)
    return list(engine.generate(request))[-1].generation


@pytest.mark.parametrize("text", [LONG, NO_REPEATS])
def test_tokens_are_the_oracles(engine, tiny_causal_lm, text):
    spec, values = parsed(text)
    oracle = Oracle(tiny_causal_lm, spec, values, seed=7)
    made = generate(engine, text, length=5)
    assert made.token_ids == oracle.continue_ids(PROMPT, 5)


def test_a_new_value_traces_nothing_and_holds(engine):
    generate(engine, LONG)
    traced = traces.total()
    for text in (
        LONG.replace("top_k=50", "top_k=1"),
        LONG.replace("temperature=2", "temperature=0"),
        LONG.replace("penalty=1.3", "penalty:penalty=1.3,window=2"),
    ):
        spec, values = parsed(text)
        made = generate(engine, text, length=20)
        rows = inspection.token_logits(engine, made)
        where = inspection.generation_places(made, engine)
        kept = inspection.kept_mask(spec, values, rows, where)
        assert kept[range(20), made.token_ids].all()
        if "window" not in text:
            assert (kept.sum(axis=-1) == 1).all()
    assert traces.total() == traced


@pytest.mark.parametrize("cutoff", [0.3, 1.0, 0.0])
def test_a_text_tells_which_rule_would_have_left_nothing_and_how_often(engine, cutoff):
    text = f"epsilon_cutoff={cutoff} + no_repeat_ngram=1 + temperature"
    spec, values = parsed(text)
    made = generate(engine, text, length=20)
    rows = inspection.token_logits(engine, made)
    where = inspection.generation_places(made, engine)
    first, second, _ = inspection.chain_left(spec, values, rows, where)
    counts = {
        "epsilon_cutoff": int(first.is_rescued.sum()),
        "no_repeat_ngram": int((second.is_rescued & ~first.is_rescued).sum()),
    }
    assert dict(made.rescued) == {name: n for name, n in counts.items() if n}
    assert (sum(counts.values()) > 0) == (cutoff > 0)
    told = [line for line in notices_after(made) if "would have left nothing" in line]
    assert bool(told) == (cutoff > 0)
    assert cutoff < 1 or told == [
        "epsilon_cutoff would have left nothing at 20 of 20 tokens: the most probable "
        "was kept"
    ]


def test_what_is_warmed_with_its_noise_traces_nothing_more(engine):
    spec, values = parsed("top_k=3 + temperature")
    engine.warm(Request("", spec.name, values, noise="shared"))
    traced = traces.total()
    made = generate(engine, "top_k=3 + temperature", noise="shared")
    assert made.request.noise == "shared" and traces.total() == traced


def test_no_sequence_comes_twice_across_a_context_begun_anew(engine):
    made = generate(engine, NO_REPEATS, length=25, prompt=())
    assert not made.reprimed and len({*made.token_ids}) == 25
    made = generate(engine, NO_REPEATS, length=45, prompt=())
    assert made.reprimed == (31,)
    # What the model no longer sees may come again.
    assert len({*made.token_ids[15:]}) == 30


def test_rows_have_their_own_values_history_and_chance(engine):
    chain = "repetition_penalty=1.3 + temperature=1.5 + xtc:threshold=0.05 + top_k=9"
    spec, values = parsed(chain)
    changes = [{"top_k": 1}, {"xtc": 1.0}, {"repetition_penalty": 8.0}, {}, {}]
    requests = [
        Request(
            "",
            spec.name,
            {**values, **change},
            length=19,
            seed=seed,
            prompt_ids=PROMPT,
            with_scores=True,
        )
        for seed, change in enumerate(changes)
    ]
    texts = dict(engine.generate_rows(requests))  # the last event of each row
    has_acted = []
    for row, request in enumerate(requests):
        made = texts[row].generation
        rows = inspection.token_logits(engine, made)
        where = inspection.generation_places(made, engine)
        left = inspection.chain_left(spec, request.parameters, rows, where)
        kept = inspection.probabilities(left[-1].logits) > 0
        assert kept[range(19), made.token_ids].all()
        mass = [token.score.kept_mass for token in made.tokens]
        model = inspection.probabilities(rows)
        assert mass == pytest.approx([*(model * kept).sum(axis=-1)])
        best = rows.argmax(axis=-1)
        third = inspection.probabilities(left[2].logits)
        has_acted.append((third[range(19), best] == 0).sum())
    # With probability 1, 0.5 and 0.5; where two are likely.
    assert has_acted[1] > has_acted[3] > 0 and has_acted[4] > 0


def test_frequencies_are_those_of_the_distribution(engine):
    from keras import ops

    from minigpt_repl.sampling import Chain

    text = "temperature=1.5 + min_p=0.1 + top_p=0.8"
    spec, values = parsed(text)
    logits = np.random.default_rng(4).normal(0, 2, 40).astype("float32")
    where = inspection.next_place((), engine)
    expected = inspection.kept_distribution(spec, values, logits, where)
    sampler = Chain(text, seed=5)
    rows = ops.tile(ops.array(logits)[None], (2000, 1))
    drawn = sampler.get_next_token(sampler.compute_probabilities(rows))
    assert expected[expected > 0].min() > 5 / 2000
    assert_drawn_as(np.array(drawn), expected, cells=3)


def test_it_can_be_used_in_kerashub(tiny_causal_lm):
    from minigpt_repl.sampling import Chain

    sampler = Chain("no_repeat_ngram=1 + top_k=5 + temperature=0.8", seed=3)
    again = Chain.from_config(sampler.get_config())
    assert again.get_config() == sampler.get_config()
    for each in (sampler, again):
        prompt = np.array([[2, 10, 11, 0, 0, 0, 0, 0]] * 2, "int32")
        text = each(Oracle.make_next(tiny_causal_lm), prompt, index=3, mask=prompt > 0)
        for row in np.array(text):
            assert len(set(row.tolist())) == 8


def test_a_chain_is_found_by_its_name():
    spec = find_sampler("Min-P + temperature")
    assert spec.name == "min_p + temperature" and spec.takes_rows
    assert find_sampler(spec.name) is spec


@pytest.mark.parametrize(
    "text", ["mirostat", "min_length", "ban=king", "logit_bias=a:1"]
)
def test_what_needs_this_program_is_refused_elsewhere(text):
    from minigpt_repl.sampling import Chain

    with pytest.raises(UsageError, match="works in the REPL and its commands only"):
        Chain(text)


def test_rules_with_words_do_without_them_where_nobody_gives_any():
    from keras import ops

    spec, values = parsed("dry=0.5 + ban + top_k=3")
    sampler = spec.make(values, seed=1)
    sampler.seen = ops.array([[-1, 4, 5, 4]], "int32")
    shares = sampler.compute_probabilities(ops.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]))
    assert (np.array(shares) > 0).sum() == 3


def test_breakers_of_several_tokens_are_the_tokens_that_they_are_written_with(engine):
    words, size = engine.info.text.pieces, 80
    wording = Wording(engine.info.text, engine.encode)
    spec, _ = parsed("dry")
    breakers = spec.parameter("dry.breakers")
    array = wording.array(breakers, r"cated , 漢 \n", size)
    marked = {words[token_id] for token_id in np.flatnonzero(array[:size])}
    assert marked == {","}
    sequences = array[size:].reshape(-1, 8)
    (written,) = sequences[sequences[:, -1] >= 0]
    assert [words[int(n)] for n in written if n >= 0] == ["cat", "##ed"]
    with pytest.raises(UsageError, match="breakers: at most 16 ways"):
        wording.array(
            breakers, " ".join(f"{a}{b}" for a in "abcde" for b in "xyzvw"), size
        )
    with pytest.raises(UsageError, match="of 8 tokens each"):
        wording.array(breakers, "abcdefghij", size)
    made = generate(
        engine, "dry:multiplier=9,breakers='cated' + temperature=0", length=9
    )
    assert len(made.token_ids) == 9
