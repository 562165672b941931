"""A model's weights as inputs of compiled steps.

As constants of a step they are fast, but XLA and TensorFlow keep more than ten copies
of a constant for each step that is compiled: 170 MB for three million weights. Inputs
are kept once, and lie as they are given. So each is given as the matrix that products
read from left to right, and turned into what the layer knows inside the step, where
XLA sees that nothing is to be done.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Weight(NamedTuple):
    """A variable's value.

    Attributes:
        variable: the Keras variable.
        given: its value as it is kept.
        turn: from that to the shape of the variable.
    """

    variable: Any
    given: tf.Tensor
    turn: Callable[[tf.Tensor], tf.Tensor]


def fixed_weights(variables: Iterable[Any]) -> list[Weight]:
    """The present values of Keras variables, each laid out for a product."""
    return [_weight(variable) for variable in variables]


def _weight(variable: Any) -> Weight:
    value = np.asarray(variable)
    if variable.name == "embeddings" and value.ndim == 2:
        # A head that shares it multiplies by its transpose. A look-up reads one
        # row, which may as well be a column.
        return Weight(variable, tf.constant(value.T.copy()), tf.transpose)
    if value.ndim > 2:
        # A projection to heads or from heads: heads and their width are one axis.
        flat = tf.constant(value.reshape(_matrix_shape(value.shape)))
        return Weight(variable, flat, lambda given: tf.reshape(given, value.shape))
    return Weight(variable, tf.constant(value), tf.identity)


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    if shape[0] >= shape[-1]:
        return shape[0], int(np.prod(shape[1:]))
    return int(np.prod(shape[:-1])), shape[-1]
