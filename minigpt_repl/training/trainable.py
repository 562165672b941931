"""Recipe and vocabulary -> a new model, and the Keras model that is trained: its loss,
its optimizer and its evaluation.

The loss is the cross-entropy. Keras' own takes most of a training step at this shape on
a CPU: it casts the bfloat16 logits to float32 and goes through them several times. Here
a small function that XLA compiles reads them as they come. Perplexity is the
exponential of this loss, so no metric needs a second softmax.

The optimizer is Keras' Muon, with two differences. Keras gives Muon's step to
two-dimensional variables only, but the query, key, value and output kernels of a
`TransformerDecoder` have a heads axis of their own, so most of the weights would fall
to Adam: here each is seen as the matrix that it is. And matrices of one shape are
orthogonalized together, in bfloat16: a few large products, not hundreds of small ones.

Muon: K. Jordan et al. (2024), https://kellerjordan.github.io/posts/muon/; the
step's scale `0.2 sqrt(max(rows, columns))`: Liu et al. (2025), arXiv 2502.16982.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops
from keras_hub.metrics import Perplexity

from minigpt_repl.lm import (
    MiniGPTBackbone,
    MiniGPTCausalLM,
    MiniGPTCausalLMPreprocessor,
    MiniGPTTokenizer,
)
from minigpt_repl.models.text.codec import PAD_ID
from minigpt_repl.training.dataset import Windows
from minigpt_repl.training.devices import device_count, jit_compile, own_rows
from minigpt_repl.training.recipes import Recipe

OUTPUT_KERNELS = ("attention_output/kernel", "feedforward_output_dense/kernel")
"""The last kernel of each of a decoder block's two branches."""

EVALUATED_AT_ONCE = 64
"""Windows at once on a device; changes the speed only."""


def build_model(recipe: Recipe, tokenizer: Any, seed: int) -> MiniGPTCausalLM:
    """A model with random weights, in the recipe's shape and precision.

    The tokenizer is KerasHub's, with the reserved tokens of ours. The same seed gives
    the same model.
    """
    keras.utils.set_random_seed(seed)
    rows = tokenizer.vocabulary_size()
    if recipe.all_rows and isinstance(tokenizer, MiniGPTTokenizer):
        rows = max(recipe.vocabulary_size, rows)
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
            rotary=recipe.rotary,
            tie_weights=recipe.tie_weights,
            dtype="mixed_bfloat16" if recipe.mixed_precision else "float32",
        ),
        tokenizer,
    )
    rng = np.random.default_rng(seed)
    for variable in causal_lm.trainable_variables:
        if recipe.embedding_stddev is not None and "embeddings" in variable.path:
            values = rng.normal(0, recipe.embedding_stddev, variable.shape)
            variable.assign(values.astype(np.float32))
        if recipe.zero_outputs and variable.path.endswith(OUTPUT_KERNELS):
            variable.assign(np.zeros(variable.shape, np.float32))
    return causal_lm


def in_float32(causal_lm: MiniGPTCausalLM) -> MiniGPTCausalLM:
    """The same weights in a model that computes in float32, to be saved and used."""
    config = {**causal_lm.backbone.get_config(), "dtype": "float32", "name": None}
    copy = _assemble(MiniGPTBackbone(**config), causal_lm.preprocessor.tokenizer)
    copy.set_weights(causal_lm.get_weights())
    return copy


def _assemble(backbone: MiniGPTBackbone, tokenizer: Any) -> MiniGPTCausalLM:
    preprocessor = MiniGPTCausalLMPreprocessor(
        tokenizer, sequence_length=backbone.max_sequence_length
    )
    return MiniGPTCausalLM(backbone, preprocessor)


def trainable(causal_lm: MiniGPTCausalLM, recipe: Recipe) -> keras.Model:
    """A compiled model from ids to logits that shares the causal LM's weights.

    A `CausalLM` with a preprocessor would take ids for text.
    """
    if recipe.fused_loss:
        return learner(Learner, causal_lm, recipe)
    model = keras.Model(*ids_and_logits(causal_lm), name=recipe.name)
    model.compile(
        _optimizer(recipe),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[Perplexity(from_logits=True, mask_token_id=PAD_ID)],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def learner(kind: type["Learner"], causal_lm: MiniGPTCausalLM, recipe: Recipe) -> Any:
    """As `trainable`, with the loss of a kind of `Learner`."""
    model = kind(*ids_and_logits(causal_lm), name=recipe.name)
    model.compile(_optimizer(recipe), jit_compile=jit_compile())
    model.optimizer.build(model.trainable_variables)
    return model


def ids_and_logits(causal_lm: MiniGPTCausalLM) -> tuple[Any, Any]:
    """Ids `(batch, length)`, and the logits `(batch, length, rows)` made of them."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    return ids, causal_lm({"token_ids": ids, "padding_mask": ids})


class Learner(keras.Model):
    """A model from ids to logits whose loss is `mean_cross_entropy`."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """As Keras asks for it, but the logits are not cast to float32 first."""
        return mean_cross_entropy(y_pred, y)


def mean_cross_entropy(logits: Any, labels: Any) -> Any:
    """Mean of `-log softmax(logits)[label]` over the positions with a label.

    Args:
        logits: tensor of shape `(batch, length, rows)`, in any float type.
        labels: int tensor of shape `(batch, length)`; where it is `[PAD]`, nothing
            counts.

    Returns:
        A float32 scalar; all arithmetic between is float32, too.
    """
    labels = ops.cast(labels, "int32")
    return mean_over_tokens(surprisal()(logits, labels), labels)


def mean_over_tokens(losses: Any, labels: Any) -> Any:
    """Mean of the positions' losses `(batch, length)` where the label is no `[PAD]`."""
    is_token = ops.cast(ops.not_equal(labels, PAD_ID), "float32")
    return ops.sum(losses * is_token) / ops.maximum(ops.sum(is_token), 1.0)


@cache
def surprisal() -> Any:
    """From logits and int32 labels to `-log softmax(logits)[label]` by position.

    Shapes as for `mean_cross_entropy`; the result is `(batch, length)`, float32.
    """

    def of_labels(logits: Any, labels: Any) -> Any:
        logits = ops.cast(logits, "float32")
        at_label = ops.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
        return ops.logsumexp(logits, axis=-1) - at_label

    return compiled(of_labels)


def compiled(function: Any) -> Any:
    """One that XLA compiles, on a backend whose steps are not compiled whole."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True, reduce_retracing=True)


@dataclass(frozen=True)
class Evaluation:
    """What a model achieves on windows; for validation these are the reference's."""

    step: int  # steps taken before
    elapsed: float  # seconds trained before
    loss: float  # mean negative log-likelihood of a token, in nats
    perplexity: float  # its exponential; depends on the vocabulary
    bits_per_byte: float  # comparable between vocabularies


class Evaluator:
    """Measures a model again and again; traced once.

    It is from ids `(batch, length)` to logits `(batch, length, rows)`.
    """

    def __init__(self, model: keras.Model, tokens_per_byte: float) -> None:
        # Of its own: the model may be trained with another loss.
        self._model = Learner(model.inputs, model.outputs[0])
        self._model.compile(optimizer=None, jit_compile=jit_compile())
        self._tokens_per_byte = tokens_per_byte

    def measure(
        self, windows: Windows, step: int = 0, elapsed: float = 0.0
    ) -> Evaluation:
        """The model as it is now, on all windows."""
        total, tokens = 0.0, 0
        size = EVALUATED_AT_ONCE * device_count()
        for start in range(0, len(windows), size):
            batch = windows[start : start + size].batch()
            count = int(np.count_nonzero(batch[1] != PAD_ID))
            total += count * float(self._model.test_on_batch(*map(own_rows, batch)))
            tokens += count
        loss = total / tokens
        bits_per_byte = loss / math.log(2) * self._tokens_per_byte
        # A diverged model's perplexity does not fit a float.
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return Evaluation(step, elapsed, loss, perplexity, bits_per_byte)


def _optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """The recipe's optimizer; its rate is set at every step by the trainer."""
    shared = {
        "learning_rate": recipe.learning_rate,
        "global_clipnorm": recipe.clip_norm,
    }
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(beta_2=recipe.beta_2, **shared)
    return BatchedMuon(
        weight_decay=recipe.weight_decay,
        adam_weight_decay=0.0,
        adam_beta_2=recipe.beta_2,
        **shared,
    )


@keras.saving.register_keras_serializable(package="minigpt_repl")
class BatchedMuon(keras.optimizers.Muon):
    """Muon for the matrices of the decoder blocks, Adam for everything else.

    Takes the arguments of `keras.optimizers.Muon`; both steps use its learning rate.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        in_block = "transformer_layer" in variable.path
        return not in_block or len(variable.shape) < 2 or "bias" in variable.path

    def _backend_update_step(
        self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        of_shape: dict[tuple[int, int], list[tuple[Any, Any]]] = {}
        others: list[tuple[Any, Any]] = []
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            if self._should_use_adamw(variable):
                others.append((gradient, variable))
            else:
                pairs = of_shape.setdefault(_matrix_shape(variable), [])
                pairs.append((gradient, variable))
        if others:
            gradients, variables = map(list, zip(*others, strict=True))
            super()._backend_update_step(gradients, variables, learning_rate)
        for pairs in of_shape.values():
            self._step_together(pairs, learning_rate)

    def _step_together(self, pairs: list[tuple[Any, Any]], learning_rate: Any) -> None:
        """Muon's step of variables that are matrices of one shape."""
        shape = _matrix_shape(pairs[0][1])
        directions = ops.stack(
            [ops.reshape(self._direction(*pair), shape) for pair in pairs]
        )
        orthogonal = self.zeropower_via_newtonschulz5(
            ops.cast(directions, "bfloat16"), self.ns_steps
        )
        scale = self.rms_rate * max(shape) ** 0.5
        steps = ops.cast(orthogonal, "float32") * (learning_rate * scale)
        for place, (_, variable) in enumerate(pairs):
            self.assign_sub(variable, ops.reshape(steps[place], variable.shape))

    def _direction(self, gradient: Any, variable: Any) -> Any:
        """Nesterov's direction; the momentum is moved on."""
        momentum = self.momentums[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, momentum.dtype)
        self.assign(momentum, momentum * self.momentum + gradient)
        return gradient + self.momentum * momentum


def _matrix_shape(variable: Any) -> tuple[int, int]:
    """Inputs by outputs; attention's heads axis joins the side that it divides."""
    shape = variable.shape
    if "attention_output" in variable.path:  # (heads, head_dim, hidden_dim)
        return (math.prod(shape[:-1]), shape[-1])
    return (shape[0], math.prod(shape[1:]))
