"""A KerasHub model of another kind, a small random GPT-2, in the engine's loops."""

from types import SimpleNamespace

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from closeness import assert_equal_but_rounding

from minigpt_repl.engine.decode import DecodeLoop
from minigpt_repl.engine.engine import LocalEngine
from minigpt_repl.engine.request import Finished, Request
from minigpt_repl.engine.search import SearchLoop
from minigpt_repl.models.language_model import KerasLanguageModel
from minigpt_repl.models.text.codec import RESERVED
from minigpt_repl.models.text.wordpiece import WordPieceText
from minigpt_repl.sampling.registry import find_sampler

CONTEXT, WORDS, ROWS = 24, 40, 46  # six rows of the table have no word
PROMPTS = np.array([[7, 30, 2, 11, 5], [1, 1, 39, 20, 8]], np.int32)


@pytest.fixture(scope="module")
def gpt2():
    keras.utils.set_random_seed(3)
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=ROWS,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=CONTEXT,
    )
    causal_lm = keras_hub.models.GPT2CausalLM(backbone)
    for weight in causal_lm.weights:
        weight.assign(weight * 12.0)  # the logits of random weights are all but equal
    return causal_lm


@pytest.fixture(scope="module")
def model(gpt2):
    text = SimpleNamespace(
        pieces=tuple(f"w{n}" for n in range(WORDS)),
        special_ids=frozenset({0}),
        start_id=0,
        pad_id=0,
    )
    return KerasLanguageModel(gpt2, text, lambda text: map(int, text.split()), CONTEXT)


def padded(prompts):
    return np.pad(prompts, ((0, 0), (0, CONTEXT - prompts.shape[1])))


def plain_logits(gpt2, token_ids):
    """The model's own logits, without those of what is never chosen."""
    inputs = {"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)}
    logits = np.array(gpt2(inputs))
    logits[..., 0] = logits[..., WORDS:] = -np.inf
    return logits


def test_what_the_rest_knows_of_it(model):
    assert (model.context_length, model.vocabulary_size) == (CONTEXT, WORDS)
    assert (model.logits_size, model.allowed_count) == (ROWS, WORDS - 1)
    assert model.hidden_dim == 16
    assert model.encode("3 14 15") == (3, 14, 15)


def test_a_pass_over_the_prompt_gives_the_models_logits(gpt2, model):
    logits, hidden_states, _ = model.prefill(tf.constant(padded(PROMPTS)))
    assert hidden_states.shape == (2, CONTEXT, 16)
    expected = plain_logits(gpt2, PROMPTS)
    allowed = slice(1, WORDS)
    assert_equal_but_rounding(logits[:, :5, allowed], expected[..., allowed])
    assert np.isneginf(logits[..., 0]).all() and np.isneginf(logits[..., WORDS:]).all()


@pytest.mark.slow
def test_the_engine_makes_texts_with_it(gpt2):
    text = WordPieceText([*RESERVED, *(f"w{n}" for n in range(3, WORDS))])

    def encode(prompt):
        return map(text.pieces.index, prompt.split())

    model = KerasLanguageModel(gpt2, text, encode, CONTEXT)
    record = SimpleNamespace(sha256="", parameter_count=1, lowercase=True, training={})
    engine = LocalEngine(
        SimpleNamespace(
            directory="gpt2", record=record, language_models=lambda: (model, None)
        )
    )
    *_, last = engine.generate(Request("w7 w30", "greedy", {}, length=8))
    ids = [text.start_id, 7, 30]
    for _ in range(8):
        logits = plain_logits(gpt2, np.array([ids], np.int32))[0, -1]
        logits[[*text.special_ids]] = -np.inf
        ids.append(int(logits.argmax()))
    assert last.generation.token_ids == tuple(ids[3:])
    assert last.generation.text.split() == [f"w{each}" for each in ids[3:]]
    # Past a full context, and two at once by a chain that sees the text so far.
    spec = find_sampler("repetition_penalty + min_p")
    asked = [
        Request("w7 w30", spec.name, spec.defaults(), length=40, seed=seed)
        for seed in (1, 2)
    ]
    made = [
        event.generation
        for _, event in engine.generate_rows(asked)
        if isinstance(event, Finished)
    ]
    assert [len(each.tokens) for each in made] == [40, 40]
    assert all(each.reprimed for each in made)
    assert made[0].token_ids != made[1].token_ids


@pytest.mark.slow
def test_a_loop_of_rows_makes_the_tokens_of_the_plain_model(gpt2, model):
    greedy, top_k = find_sampler("greedy"), find_sampler("top_k")
    best = {"k": 1, "temperature": 0.7}
    samplers = [(greedy, {}), (top_k, best)]
    loop = DecodeLoop(model, samplers, rows=2)
    expected = PROMPTS
    for _ in range(19):
        following = plain_logits(gpt2, expected)[:, -1].argmax(-1)
        expected = np.column_stack([expected, following.astype(np.int32)])
    for spec, values in samplers:
        loop.begin(spec.name, [values, values], [4, 9], padded(PROMPTS), 5)
        found = np.concatenate([loop.decode(n, 0)[0] for n in (1, 8, 10)])
        np.testing.assert_array_equal(found.T, expected[:, 5:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "class_name", "values"),
    [
        ("beam", "BeamSampler", {"num_beams": 3, "temperature": 1.0}),
        ("contrastive", "ContrastiveSampler", {"k": 3, "alpha": 0.4}),
    ],
)
def test_searches_are_those_of_keras_hubs_generate(
    gpt2, model, name, class_name, values
):
    sampler = getattr(keras_hub.samplers, class_name)(**values)
    gpt2.compile(sampler=sampler, jit_compile=False)
    prompt = padded(PROMPTS[:1])
    mask = np.arange(CONTEXT)[None] < 5
    bias = np.zeros(ROWS, np.float32)
    bias[0] = bias[WORDS:] = -np.inf
    call_with_cache = type(gpt2).call_with_cache

    def masked(self, *arguments):
        logits, hidden_states, cache = call_with_cache(self, *arguments)
        return logits + bias, hidden_states, cache

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(gpt2), "call_with_cache", masked)
        inputs = {"token_ids": prompt, "padding_mask": mask}
        expected = np.asarray(gpt2.generate_step(inputs)["token_ids"])[0]
    spec = find_sampler(name)
    values = spec.check(values)
    rows = spec.search.size(values, model.allowed_count)
    loop = SearchLoop(spec, values, rows, model, None)
    state, _ = loop.advance(CONTEXT, loop.begin(values, prompt, 5))
    assert int(state["index"]) == CONTEXT
    texts = np.asarray(state["prompt"])
    best = int(np.argmax(state["log_probs"])) if name == "beam" else 0
    np.testing.assert_array_equal(texts[best], expected)
