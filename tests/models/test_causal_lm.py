"""The model is the reference example's, and it is a KerasHub task."""

import keras_hub
import numpy as np
import pytest
from closeness import assert_equal_but_rounding

from minigpt_repl import lm
from minigpt_repl.models.backbone import squared_relu


@pytest.fixture(scope="session")
def make_exact(make_causal_lm):
    """The function that makes tiny causal LMs that compute in float64.

    With heads of 4 dimensions: Keras scales the query by a float32 of
    `head_dim**-0.5`, which is exact for a power of 4 only.
    """

    def make(**config):
        causal_lm = make_causal_lm(num_heads=4, dtype="float64", **config)
        assert causal_lm.backbone.hidden_dim == 16
        return causal_lm

    return make


@pytest.fixture(scope="session")
def exact(make_exact):
    return make_exact()


def logits_without_cache(causal_lm, token_ids):
    inputs = {"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)}
    logits = np.asarray(causal_lm(inputs))
    assert logits.dtype == causal_lm.backbone.compute_dtype
    return logits


def test_reference_configuration_has_the_examples_parameter_count():
    causal_lm = lm.MiniGPTCausalLM(lm.MiniGPTBackbone(vocabulary_size=5000))
    assert causal_lm.count_params() == 3_255_938


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"normalize_first": True, "activation": "gelu"},
        {"tie_weights": True},
        {"normalize_first": True, "activation": "squared_relu", "rotary": True},
    ],
    ids=["reference", "pre-norm", "tied", "rotary"],
)
def test_logits_with_cache_equal_logits_without_at_every_position(make_exact, config):
    causal_lm = make_exact(**config)
    token_ids = np.random.default_rng(0).integers(3, 71, (2, 32)).astype("int32")
    expected = logits_without_cache(causal_lm, token_ids)

    cache = causal_lm.backbone.empty_cache(2, 32)
    found = []
    for index in range(32):
        logits, _, cache = causal_lm.call_with_cache(
            token_ids[:, index : index + 1], cache, index
        )
        found.append(np.asarray(logits)[:, 0])
    # KerasHub's rotary angles are float32 whatever the rest is.
    angles = {"dtype": "float32", "growth": 64} if config.get("rotary") else {}
    assert_equal_but_rounding(np.stack(found, axis=1), expected, **angles)


def test_a_rotary_score_depends_on_how_far_apart_two_tokens_are(make_exact):
    first_block = make_exact(rotary=True).backbone.transformer_layers[0]
    attention = first_block._self_attention_layer
    query, key = 9 * np.random.default_rng(4).normal(size=(2, 1, 1, 4, 4))

    def turned(position):
        return map(np.asarray, attention.turned(query, key, np.array([position])))

    def scores(of_query, of_key):
        (turned_query, _), (_, turned_key) = turned(of_query), turned(of_key)
        return np.sum(turned_query * turned_key, axis=-1)

    assert np.allclose(scores(5, 2), scores(9, 6), rtol=1e-5)
    assert not np.allclose(scores(5, 2), scores(5, 3), rtol=1e-2)
    # Normalized: a key's length is the square root of its dimensions.
    _, turned_key = turned(3)
    assert np.allclose(np.sum(turned_key**2, axis=-1), 4)


def test_squared_relu():
    found = squared_relu(np.array([-2.0, 0.0, 3.0], "float32"))
    assert np.array_equal(found, [0, 0, 9])


def test_several_tokens_at_once_with_cache_equal_one_pass(exact):
    token_ids = np.random.default_rng(1).integers(3, 71, (1, 20)).astype("int32")
    expected = logits_without_cache(exact, token_ids)

    cache = exact.backbone.empty_cache(1, 32)
    first, _, cache = exact.call_with_cache(token_ids[:, :13], cache, 0)
    second, _, cache = exact.call_with_cache(token_ids[:, 13:], cache, 13)
    found = np.concatenate([first, second], axis=1)
    assert_equal_but_rounding(found, expected)


def test_building_a_cache_gives_the_hidden_states_behind_the_logits(exact):
    token_ids = np.random.default_rng(2).integers(3, 71, (1, 16)).astype("int32")
    hidden_states, cache = exact._build_cache(token_ids)
    for keys, values in cache:
        assert keys.shape == values.shape == (1, 4, 16, 4)
    assert_equal_but_rounding(
        exact.logits(hidden_states), logits_without_cache(exact, token_ids)
    )


def test_padding_does_not_change_what_stands_before_it(exact):
    token_ids = np.random.default_rng(3).integers(3, 71, (1, 20)).astype("int32")
    padded = token_ids.copy()
    padded[:, 12:] = 0
    full = logits_without_cache(exact, token_ids)
    cut = logits_without_cache(exact, padded)
    assert_equal_but_rounding(cut[:, :12], full[:, :12])


@pytest.mark.slow
def test_generate_of_keras_hub_continues_a_prompt(tiny_causal_lm):
    tiny_causal_lm.compile(sampler="greedy")
    text = tiny_causal_lm.generate("the cat sat", max_length=16)
    assert text.startswith("the cat sat")
    assert len(text) > len("the cat sat")


def test_generate_gives_the_argmax_of_the_full_forward_pass(exact):
    exact.compile(sampler="greedy")
    prompt = np.zeros((1, 12), "int32")
    prompt[0, :4] = [2, 62, 63, 65]
    inputs = {"token_ids": prompt, "padding_mask": (prompt > 0).astype("int32")}
    found = exact.generate_step(inputs)["token_ids"]

    expected = prompt.copy()
    for index in range(4, 12):
        logits = logits_without_cache(exact, expected[:, :index])
        expected[0, index] = logits[0, -1].argmax()
    np.testing.assert_array_equal(np.asarray(found), expected)


def test_generate_stops_at_a_stop_token(tiny_causal_lm):
    tiny_causal_lm.compile(sampler="greedy")
    prompt = np.zeros((1, 12), "int32")
    prompt[0, :4] = [2, 62, 63, 65]
    inputs = {"token_ids": prompt, "padding_mask": (prompt > 0).astype("int32")}
    free = np.asarray(tiny_causal_lm.generate_step(inputs)["token_ids"])
    stop = int(free[0, 6])
    first = int(np.argmax(free[0, 4:] == stop)) + 4
    mask = np.asarray(tiny_causal_lm.generate_step(inputs, [stop])["padding_mask"])
    assert mask[0, : first + 1].all()
    assert not mask[0, first + 1 :].any()


def test_tokenizer_reserves_the_first_three_ids(tiny_words):
    tokenizer = lm.MiniGPTTokenizer(list(tiny_words))
    ids = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.start_token_id)
    assert ids == (0, 1, 2)
    assert tokenizer.end_token_id == tokenizer.start_token_id


def test_tokenizer_folds_case_unless_told_not_to(tiny_words):
    folding = lm.MiniGPTTokenizer(list(tiny_words))
    keeping = lm.MiniGPTTokenizer([*tiny_words, "The"], lowercase=False)
    assert list(folding("The")) == list(folding("the"))
    assert list(keeping("The")) != list(keeping("the"))


def test_preprocessor_packs_after_bos_and_adds_no_end(tiny_words):
    tokenizer = lm.MiniGPTTokenizer(list(tiny_words))
    preprocessor = lm.MiniGPTCausalLMPreprocessor(tokenizer, sequence_length=6)
    packed = preprocessor.generate_preprocess("the cat")
    the, cat = tokenizer("the cat")
    assert list(np.asarray(packed["token_ids"])) == [2, the, cat, 0, 0, 0]
    x, y, weights = preprocessor(["the cat"])
    assert list(np.asarray(x["token_ids"])[0]) == [2, the, cat, 0, 0, 0]
    assert list(np.asarray(y)[0]) == [the, cat, 0, 0, 0, 0]
    assert list(np.asarray(weights)[0]) == [1, 1, 0, 0, 0, 0]


def test_preset_loads_as_a_plain_keras_hub_model(tiny_causal_lm, tmp_path):
    tiny_causal_lm.save_to_preset(str(tmp_path / "preset"))
    loaded = keras_hub.models.CausalLM.from_preset(str(tmp_path / "preset"))
    assert isinstance(loaded, lm.MiniGPTCausalLM)
    token_ids = np.array([[2, 62, 63, 65]], "int32")
    np.testing.assert_array_equal(
        logits_without_cache(loaded, token_ids),
        logits_without_cache(tiny_causal_lm, token_ids),
    )
