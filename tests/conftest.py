"""Fixtures that every test may use: a tiny model, made here, never downloaded."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tiny programs, each run a few times: compiling them well takes longer than running
# them as they are. A quarter of the tests' time, measured.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)

import signal

import hypothesis
import pytest

# A shell that runs the tests in the background has them ignore ^C, and every
# program that they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no reason to fail.
hypothesis.settings.register_profile("any machine", deadline=None, max_examples=60)
hypothesis.settings.load_profile("any machine")

TINY_WORDS = (
    "[PAD]",
    "[UNK]",
    "[BOS]",
    *"abcdefghijklmnopqrstuvwxyz",
    *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    *".,!?'\"-",
    "the",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "mat",
    "##ing",
    "##ed",
)


@pytest.fixture(scope="session")
def tiny_words() -> tuple[str, ...]:
    """A vocabulary of 71 words: reserved, letters, pieces and a few words."""
    return TINY_WORDS


@pytest.fixture(scope="session")
def tiny_causal_lm():
    """A causal LM with random weights, 32 positions and 80 rows for 71 words."""
    return make_tiny_causal_lm(seed=1)


@pytest.fixture(scope="session")
def make_causal_lm():
    """The function that makes tiny causal LMs."""
    return make_tiny_causal_lm


def make_tiny_causal_lm(seed: int = 1, **config):
    """A tiny causal LM; `config` overrides the backbone's arguments."""
    import keras

    from minigpt_repl import lm

    keras.utils.set_random_seed(seed)
    arguments = {
        "vocabulary_size": 80,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 16,
        "intermediate_dim": 24,
        "max_sequence_length": 32,
    }
    backbone = lm.MiniGPTBackbone(**(arguments | config))
    tokenizer = lm.MiniGPTTokenizer(list(TINY_WORDS))
    preprocessor = lm.MiniGPTCausalLMPreprocessor(
        tokenizer, sequence_length=backbone.max_sequence_length
    )
    causal_lm = lm.MiniGPTCausalLM(backbone, preprocessor)
    # Spread the logits, so that the distribution is not flat and ties are rare.
    for weight in causal_lm.weights:
        weight.assign(weight * 3.0)
    return causal_lm
