"""The decoder-only transformer of the KerasHub example "GPT from scratch"."""

from typing import Any

import keras
from keras import ops
from keras_hub.layers import (
    CachedMultiHeadAttention,
    ReversibleEmbedding,
    RotaryEmbedding,
    TokenAndPositionEmbedding,
    TransformerDecoder,
)
from keras_hub.models import Backbone

from minigpt_repl.formats import BackboneConfig

Cache = list[tuple[Any, Any]]
"""Of each layer the keys and the values."""

MASKED = -1e9
"""Score of a position that is not to be seen; `exp()` of it is 0."""

SHARPNESS = 1.5
"""Factor of the scores of normalized queries and keys. Without it they are at most
`sqrt(head_dim)`, and even the best match could not have all of the attention."""


def squared_relu(x: Any) -> Any:
    """`max(x, 0)` squared (D. So et al. (2021), "Primer", arXiv 2109.08668)."""
    x = ops.relu(x)
    return x * x


ACTIVATIONS = {"squared_relu": squared_relu}
"""Those that Keras does not know by name."""


class RotaryAttention(CachedMultiHeadAttention):
    """Attention that knows positions by turning queries and keys.

    They are normalized first: A. Henry et al. (2020), "Query-Key Normalization", arXiv
    2010.04245. Then each pair of dimensions is turned by an angle that grows with the
    position, so that a score depends on how far apart two tokens are: J. Su et al.
    (2021), "RoFormer", arXiv 2104.09864.
    """

    def turned(self, query: Any, key: Any, positions: Any) -> tuple[Any, Any]:
        """Queries and keys `(batch, length, heads, head_dim)`, normalized and turned.

        `positions` is int `(length,)`.
        """
        # One after the other they would be twice as many small operations.
        both = ops.concatenate([query, key], axis=2)
        both = ops.rms_normalization(both, epsilon=1e-6)
        both = RotaryEmbedding(dtype=self.dtype_policy)(both, positions=positions)
        query, key = ops.split(both, 2, axis=2)
        return query * SHARPNESS, key

    def _compute_attention(
        self, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any
    ) -> Any:
        positions = ops.arange(ops.shape(query)[1], dtype="int32")
        query, key = self.turned(query, key, positions)
        return super()._compute_attention(query, key, value, *args, **kwargs)


class RotaryDecoder(TransformerDecoder):
    """A `keras_hub.layers.TransformerDecoder` with `RotaryAttention`."""

    def build(
        self, decoder_sequence_shape: Any, encoder_sequence_shape: Any = None
    ) -> None:
        """Make the sublayers."""
        super().build(decoder_sequence_shape, encoder_sequence_shape)
        # The block makes its attention itself, and names no way to have another. The
        # weights of both are the same.
        self._self_attention_layer.__class__ = RotaryAttention


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
        activation: string. Activation of the feedforward layers; one of Keras, or
            `"squared_relu"`.
        normalize_first: bool. `True` for pre-norm blocks with a final layer
            normalization; `False`, the reference, for post-norm.
        rotary: bool. `True` for positions as `RotaryAttention` has them; `False`, the
            reference, for learned ones that are added to the embeddings.
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
        rotary: bool = False,
        tie_weights: bool = False,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        # It masks `[PAD]`, id 0, and that mask reaches the layers and the loss.
        given = {"mask_zero": True, "dtype": dtype, "name": "embedding"}
        if rotary:
            self.embedding = ReversibleEmbedding(vocabulary_size, hidden_dim, **given)
            self.token_embedding = self.embedding
        else:
            self.embedding = TokenAndPositionEmbedding(
                vocabulary_size, max_sequence_length, hidden_dim, **given
            )
            self.token_embedding = self.embedding.token_embedding
        # Embeddings are kept in float32, and their product with bfloat16 states
        # would be float32 too: on a CPU with AMX five times slower.
        self.token_embedding.reverse_dtype = self.embedding.compute_dtype
        block = RotaryDecoder if rotary else TransformerDecoder
        self.transformer_layers = [
            block(
                intermediate_dim=intermediate_dim,
                num_heads=num_heads,
                dropout=dropout,
                activation=ACTIVATIONS.get(activation, activation),
                normalize_first=normalize_first,
                dtype=dtype,
                name=f"transformer_layer_{i}",
            )
            for i in range(num_layers)
        ]
        self.final_norm = None
        if normalize_first:
            self.final_norm = keras.layers.LayerNormalization(
                dtype=dtype, name="final_norm"
            )

        token_ids = keras.Input((None,), dtype="int32", name="token_ids")
        # Part of KerasHub's interface only.
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
        self.rotary = rotary
        self.tie_weights = tie_weights

    def empty_cache(self, batch_size: Any, length: int) -> Cache:
        """Zeros for the keys and the values of each layer, `(batch, heads, length,
        head_dim)`."""
        head_dim = self.hidden_dim // self.num_heads
        shape = (batch_size, self.num_heads, length, head_dim)
        zeros = ops.zeros(shape, self.compute_dtype)
        return [(zeros, zeros)] * self.num_layers

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
        x = self.token_embedding(token_ids)  # (batch, new_length, hidden_dim)
        if not self.rotary:
            # Gathered, not sliced: a slice whose start is a tensor makes XLA compile
            # again for every index. Added here, not by the layer, because the layer's
            # sum carries a mask of `new_length` that does not fit the cache's length.
            positions = ops.arange(ops.shape(x)[1], dtype="int32") + cache_update_index
            x = x + self.embedding.position_embedding(x, positions=positions)
        updated: Cache = []
        for layer, (keys, values) in zip(self.transformer_layers, cache, strict=True):
            x, layer_cache = _cached_block(layer, x, keys, values, cache_update_index)
            updated.append(layer_cache)
        if self.final_norm is not None:
            x = self.final_norm(x)
        return x, updated

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        names = BackboneConfig.__struct_fields__
        return config | {name: getattr(self, name) for name in names}


def _cached_block(
    layer: Any, x: Any, keys: Any, values: Any, index: Any
) -> tuple[Any, tuple[Any, Any]]:
    """What a `keras_hub.layers.TransformerDecoder` without cross-attention makes of new
    tokens, and the keys and values with theirs, `(batch, heads, length, head_dim)`."""
    # The block itself can be called with a cache, but then slices it, copies it, turns
    # it round for the product and puts it together again: half of the time of a token.
    # Here keys and values lie as the products need them, and XLA can update them in
    # place. The sublayers' names are KerasHub's own; tests/models hold the result
    # against the layer's own call.
    residual = x  # (batch, new, hidden)
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

    positions = index + ops.arange(new, dtype="int32")
    query, key = attention._query_dense(x), attention._key_dense(x)
    if isinstance(attention, RotaryAttention):
        query, key = attention.turned(query, key, positions)
    keys = update(keys, key)
    values = update(values, attention._value_dense(x))
    query = by_head(query * head_dim**-0.5)
    # Keys first: of one query only the small product has to be turned round.
    scores = ops.matmul(keys, ops.transpose(query, (0, 2, 1)))
    scores = ops.transpose(scores, (0, 2, 1))  # (batch * heads, new, length)
    is_seen = ops.arange(length, dtype="int32")[None] <= positions[:, None]
    weights = ops.softmax(ops.where(is_seen, scores, MASKED))
    attended = ops.reshape(ops.matmul(weights, values), (batch, heads, new, head_dim))
    output = attention._output_dense(ops.transpose(attended, (0, 2, 1, 3)))
    shape = (batch, heads, length, head_dim)
    return output, (ops.reshape(keys, shape), ops.reshape(values, shape))
