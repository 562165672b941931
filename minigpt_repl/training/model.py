"""Recipe and vocabulary -> a new model, and the Keras model that `fit` trains.

Knows KerasHub and the recipe's model and optimizer fields; no data.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from minigpt_repl.lm import (
    MiniGPTBackbone,
    MiniGPTCausalLM,
    MiniGPTCausalLMPreprocessor,
    MiniGPTTokenizer,
)
from minigpt_repl.training.loss import FusedCrossEntropy
from minigpt_repl.training.mirrored import ClipsSum, on_all_devices
from minigpt_repl.training.muon import BatchedMuon
from minigpt_repl.training.recipes import Recipe


def build_model(
    recipe: Recipe, vocabulary: Sequence[str], lowercase: bool, seed: int
) -> MiniGPTCausalLM:
    """A model with random weights, in the recipe's shape and precision.

    Args:
        recipe: names shape, precision and initial values.
        vocabulary: words, in order of their ids.
        lowercase: whether the tokenizer folds case.
        seed: of the initial values; the same seed gives the same model.
    """
    keras.utils.set_random_seed(seed)
    # More words than rows can't be: a learner that returns fewer is usual.
    rows = max(recipe.vocabulary_size, len(vocabulary))
    with on_all_devices():
        causal_lm = _assemble(
            MiniGPTBackbone(
                vocabulary_size=rows,
                num_layers=recipe.num_layers,
                num_heads=recipe.num_heads,
                hidden_dim=recipe.hidden_dim,
                intermediate_dim=recipe.intermediate_dim,
                max_sequence_length=recipe.context_length,
                dropout=recipe.dropout,
                activation=recipe.activation,
                normalize_first=recipe.normalize_first,
                tie_weights=recipe.tie_weights,
                dtype="mixed_bfloat16" if recipe.mixed_precision else "float32",
            ),
            vocabulary,
            lowercase,
        )
    if recipe.embedding_stddev is not None:
        rng = np.random.default_rng(seed)
        for variable in causal_lm.trainable_variables:
            if "embeddings" in variable.path:
                values = rng.normal(0, recipe.embedding_stddev, variable.shape)
                variable.assign(values.astype(np.float32))
    return causal_lm


def in_float32(causal_lm: MiniGPTCausalLM) -> MiniGPTCausalLM:
    """The same weights in a model that computes in float32, to be saved and used."""
    config = {**causal_lm.backbone.get_config(), "dtype": "float32", "name": None}
    tokenizer = causal_lm.preprocessor.tokenizer
    copy = _assemble(
        MiniGPTBackbone(**config), tokenizer.get_vocabulary(), tokenizer.lowercase
    )
    copy.set_weights(causal_lm.get_weights())
    return copy


def _assemble(
    backbone: MiniGPTBackbone, vocabulary: Sequence[str], lowercase: bool
) -> MiniGPTCausalLM:
    preprocessor = MiniGPTCausalLMPreprocessor(
        MiniGPTTokenizer(list(vocabulary), lowercase=lowercase),
        sequence_length=backbone.max_sequence_length,
    )
    return MiniGPTCausalLM(backbone, preprocessor)


def trainable(causal_lm: MiniGPTCausalLM, recipe: Recipe) -> keras.Model:
    """A compiled model from ids to logits that shares the causal LM's weights.

    A `CausalLM` with a preprocessor would take `fit`'s ids for text.
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    logits = causal_lm({"token_ids": ids, "padding_mask": ids})
    with on_all_devices():
        return _compiled(keras.Model(ids, logits, name=recipe.name), recipe)


def _compiled(model: keras.Model, recipe: Recipe) -> keras.Model:
    if recipe.fused_loss:
        # Not compiled as a whole: XLA on a CPU has no bfloat16 products of its own.
        model.compile(make_optimizer(recipe), FusedCrossEntropy(), jit_compile=_jit())
    else:
        model.compile(
            make_optimizer(recipe),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[_reference_perplexity()],
        )
    model.optimizer.build(model.trainable_variables)
    return model


def make_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """The recipe's optimizer; its rate is set at every step by the trainer."""
    if recipe.optimizer == "adam":
        return Adam(
            recipe.learning_rate,
            beta_2=recipe.beta_2,
            global_clipnorm=recipe.clip_norm,
        )
    if recipe.optimizer == "adamw":
        adamw = AdamW(
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            beta_2=recipe.beta_2,
            global_clipnorm=recipe.clip_norm,
        )
        adamw.exclude_from_weight_decay(
            var_names=["bias", "gamma", "beta", "embeddings"]
        )
        return adamw
    return BatchedMuon(
        recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        adam_weight_decay=0.0,
        adam_beta_2=recipe.beta_2,
        global_clipnorm=recipe.clip_norm,
    )


class Adam(ClipsSum, keras.optimizers.Adam):
    """Adam for one device or several."""


class AdamW(ClipsSum, keras.optimizers.AdamW):
    """AdamW for one device or several."""


def _jit() -> Any:
    return "auto" if keras.backend.backend() != "tensorflow" else False


def _reference_perplexity() -> Any:
    from keras_hub.metrics import Perplexity

    return Perplexity(from_logits=True, mask_token_id=0)
