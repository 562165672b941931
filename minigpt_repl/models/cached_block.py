"""KerasHub's decoder block for tokens that come one by one.

The block itself can be called with a cache, but then slices it, copies it, turns it
round for the product and puts it together again: half of the time of a token. Here
the same parts of the same layer work on keys and values that lie as the products
need them, and that XLA can update in place.
"""

from typing import Any

from keras import ops

MASKED = -1e9
"""Score of a position that is not to be seen; `exp()` of it is 0."""


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
    # The sublayers' names are KerasHub's own; tests/lm hold the result against the
    # layer's own call.
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
