"""The decoder-only transformer of the KerasHub example "GPT from scratch"."""

from typing import Any

import keras
from keras import ops
from keras_hub.layers import TokenAndPositionEmbedding, TransformerDecoder
from keras_hub.models import Backbone

Cache = list[tuple[Any, Any]]
"""Of each layer the keys and the values."""

MASKED = -1e9
"""Score of a position that is not to be seen; `exp()` of it is 0."""


@keras.saving.register_keras_serializable(package="minigpt_repl")
class MiniGPTBackbone(Backbone):
    """Token and position embedding followed by `num_layers` transformer decoders.

    The defaults are the reference example's. With 5,000 rows and the causal
    LM's `Dense` head they make exactly 3,255,938 parameters.

    Inputs are a dictionary of two int tensors of shape `(batch, length)`,
    `token_ids` and `padding_mask`; the output is the hidden states, of shape
    `(batch, length, hidden_dim)`.

    Args:
        vocabulary_size: int. Rows of the embedding. May exceed the number of
            words in the tokenizer.
        num_layers: int. Transformer decoder blocks.
        num_heads: int. Attention heads; each has `hidden_dim // num_heads`
            dimensions.
        hidden_dim: int. Width of the hidden states.
        intermediate_dim: int. Width of the feedforward layers.
        max_sequence_length: int. Positions that have an embedding.
        dropout: float. Dropout rate of the decoder blocks.
        activation: string. Activation of the feedforward layers.
        normalize_first: bool. `True` for pre-norm blocks with a final layer
            normalization; `False`, the reference, for post-norm.
        tie_weights: bool. Whether `token_embedding(x, reverse=True)` shares the
            embedding's weights. Used by a causal LM with a tied head.
        dtype: the dtype policy of all layers.
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int = 2,
        num_heads: int = 3,
        hidden_dim: int = 256,
        intermediate_dim: int = 128,
        max_sequence_length: int = 128,
        dropout: float = 0.0,
        activation: str = "relu",
        normalize_first: bool = False,
        tie_weights: bool = False,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        self.embedding = TokenAndPositionEmbedding(
            vocabulary_size=vocabulary_size,
            sequence_length=max_sequence_length,
            embedding_dim=hidden_dim,
            mask_zero=True,
            dtype=dtype,
            name="embedding",
        )
        self.token_embedding = self.embedding.token_embedding
        # Embeddings are kept in float32, and their product with bfloat16 states
        # would be float32 too: on a CPU with AMX five times slower.
        self.token_embedding.reverse_dtype = self.embedding.compute_dtype
        self.transformer_layers = [
            TransformerDecoder(
                intermediate_dim=intermediate_dim,
                num_heads=num_heads,
                dropout=dropout,
                activation=activation,
                normalize_first=normalize_first,
                dtype=dtype,
                name=f"transformer_layer_{i}",
            )
            for i in range(num_layers)
        ]
        self.final_norm = (
            keras.layers.LayerNormalization(dtype=dtype, name="final_norm")
            if normalize_first
            else None
        )

        token_ids = keras.Input((None,), dtype="int32", name="token_ids")
        # Part of KerasHub's interface only: the embedding masks `[PAD]`, id 0,
        # by itself, and that mask reaches the layers and the loss.
        padding_mask = keras.Input((None,), dtype="int32", name="padding_mask")
        x = self.embedding(token_ids)
        for layer in self.transformer_layers:
            x = layer(x)
        if self.final_norm is not None:
            x = self.final_norm(x)
        super().__init__(
            inputs={"token_ids": token_ids, "padding_mask": padding_mask},
            outputs=x,
            dtype=dtype,
            **kwargs,
        )

        self.vocabulary_size = vocabulary_size
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.max_sequence_length = max_sequence_length
        self.dropout = dropout
        self.activation = activation
        self.normalize_first = normalize_first
        self.tie_weights = tie_weights

    def empty_cache(self, batch_size: Any, length: int) -> Cache:
        """Room for the keys and values of `length` positions.

        Returns:
            For each layer a pair of float tensors of shape
            `(batch, heads, length, head_dim)`, filled with zeros.
        """
        head_dim = self.hidden_dim // self.num_heads
        shape = (batch_size, self.num_heads, length, head_dim)
        return [
            (ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype))
            for _ in range(self.num_layers)
        ]

    def call_with_cache(
        self, token_ids: Any, cache: Cache, cache_update_index: Any
    ) -> tuple[Any, Cache]:
        """Hidden states of new tokens, given the keys and values of earlier ones.

        Args:
            token_ids: int tensor of shape `(batch, new_length)`.
            cache: as `empty_cache()` gives it.
            cache_update_index: int or int tensor; position of the first of the
                new tokens.

        Returns:
            The hidden states, of shape `(batch, new_length, hidden_dim)`, and
            the cache with the new tokens' keys and values in it.
        """
        new_length = ops.shape(token_ids)[1]
        # Positions are gathered, not sliced: a slice whose start is a tensor
        # makes XLA compile again for every index.
        positions = ops.arange(new_length, dtype="int32") + cache_update_index
        # Added here, not by the layer, because the layer's sum carries a mask of
        # `new_length` that does not fit the cache's length.
        embedded_tokens = self.embedding.token_embedding(token_ids)
        x = embedded_tokens + self.embedding.position_embedding(
            embedded_tokens, positions=positions
        )  # (batch, new_length, hidden_dim)
        updated: Cache = []
        for layer, (keys, values) in zip(self.transformer_layers, cache, strict=True):
            x, layer_cache = cached_block(layer, x, keys, values, cache_update_index)
            updated.append(layer_cache)
        if self.final_norm is not None:
            x = self.final_norm(x)
        return x, updated

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        config.update(
            vocabulary_size=self.vocabulary_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            intermediate_dim=self.intermediate_dim,
            max_sequence_length=self.max_sequence_length,
            dropout=self.dropout,
            activation=self.activation,
            normalize_first=self.normalize_first,
            tie_weights=self.tie_weights,
        )
        return config


def cached_block(
    layer: Any, x: Any, keys: Any, values: Any, index: Any
) -> tuple[Any, tuple[Any, Any]]:
    """What a `keras_hub.layers.TransformerDecoder` makes of new tokens.

    Args:
        layer: the block, without cross-attention.
        x: float tensor of shape `(batch, new, hidden)`.
        keys: those of earlier tokens, `(batch, heads, length, head_dim)`.
        values: of the same shape.
        index: int or int tensor; position of the first of the new tokens.

    Returns:
        A tensor of the shape of `x`, and the updated keys and values.
    """
    # The block itself can be called with a cache, but then slices it, copies it, turns
    # it round for the product and puts it together again: half of the time of a token.
    # Here keys and values lie as the products need them, and XLA can update them in
    # place. The sublayers' names are KerasHub's own; tests/models hold the result
    # against the layer's own call.
    residual = x
    if layer.normalize_first:
        x = layer._self_attention_layer_norm(x)
    x, cache = _attend(layer._self_attention_layer, x, keys, values, index)
    x = x + residual
    if not layer.normalize_first:
        x = layer._self_attention_layer_norm(x)
    residual = x
    if layer.normalize_first:
        x = layer._feedforward_layer_norm(x)
    x = layer._feedforward_intermediate_dense(x)
    x = layer._feedforward_output_dense(x)
    x = x + residual
    if not layer.normalize_first:
        x = layer._feedforward_layer_norm(x)
    return x, cache


def _attend(
    attention: Any, x: Any, keys: Any, values: Any, index: Any
) -> tuple[Any, tuple[Any, Any]]:
    batch, heads, length, head_dim = ops.shape(keys)
    new = ops.shape(x)[1]

    def by_head(projected: Any) -> Any:
        # (batch, new, heads, head_dim) -> (batch * heads, new, head_dim). One axis
        # for all: XLA would make it one, and no longer see what is in place.
        return ops.reshape(
            ops.transpose(projected, (0, 2, 1, 3)), (batch * heads, new, head_dim)
        )

    def update(cached: Any, projected: Any) -> Any:
        flat = ops.reshape(cached, (batch * heads, length, head_dim))
        return ops.slice_update(flat, (0, index, 0), by_head(projected))

    keys = update(keys, attention._key_dense(x))
    values = update(values, attention._value_dense(x))
    query = by_head(attention._query_dense(x) * head_dim**-0.5)
    # Keys first: of one query only the small product has to be turned round.
    scores = ops.matmul(keys, ops.transpose(query, (0, 2, 1)))
    scores = ops.transpose(scores, (0, 2, 1))  # (batch * heads, new, length)
    positions = index + ops.arange(new, dtype="int32")
    is_seen = ops.arange(length, dtype="int32")[None] <= positions[:, None]
    weights = ops.softmax(ops.where(is_seen, scores, MASKED))
    attended = ops.reshape(ops.matmul(weights, values), (batch, heads, new, head_dim))
    output = attention._output_dense(ops.transpose(attended, (0, 2, 1, 3)))
    shape = (batch, heads, length, head_dim)
    return output, (ops.reshape(keys, shape), ops.reshape(values, shape))
