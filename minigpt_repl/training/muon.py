"""Keras' Muon, also for attention's three-dimensional kernels, and batched.

Keras gives Muon's step to two-dimensional variables only. In a `TransformerDecoder`
the query, key, value and output kernels have a heads axis of their own, so most of
the weights would fall to Adam. Here each is seen as the matrix that it is. Matrices
of one shape are orthogonalized together, in bfloat16: a few large products instead
of hundreds of small ones.

Muon: K. Jordan et al. (2024), https://kellerjordan.github.io/posts/muon/; the
step's scale `0.2 sqrt(max(rows, columns))`: Liu et al. (2025), arXiv 2502.16982.
"""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="minigpt_repl")
class BatchedMuon(keras.optimizers.Muon):
    """Muon for the matrices of the decoder blocks, Adam for everything else.

    Args:
        learning_rate: as for `keras.optimizers.Muon`; both steps use it.
        **kwargs: as for `keras.optimizers.Muon`.
    """

    def __init__(self, learning_rate: float = 5e-3, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)

    def _should_use_adamw(self, variable: Any) -> bool:
        in_block = "transformer_layer" in variable.path
        return not in_block or len(variable.shape) < 2 or "bias" in variable.path

    def _backend_update_step(
        self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        matrices: dict[tuple[int, int], list[tuple[Any, Any, bool]]] = {}
        others: list[tuple[Any, Any]] = []
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            if self._should_use_adamw(variable):
                others.append((gradient, variable))
                continue
            update = _as_matrix(self._nesterov_update(gradient, variable), variable)
            is_tall = update.shape[0] > update.shape[1]
            if is_tall:
                update = ops.transpose(update)
            matrices.setdefault(tuple(update.shape), []).append(
                (variable, update, is_tall)
            )
        if others:
            super()._backend_update_step(
                [gradient for gradient, _ in others],
                [variable for _, variable in others],
                learning_rate,
            )
        for shape, items in matrices.items():
            self._update_matrices(shape, items, learning_rate)

    def _nesterov_update(self, gradient: Any, variable: Any) -> Any:
        momentum = self.momentums[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, momentum.dtype)
        self.assign(momentum, momentum * self.momentum + gradient)
        return gradient + self.momentum * momentum

    def _update_matrices(
        self,
        shape: tuple[int, int],
        items: list[tuple[Any, Any, bool]],
        learning_rate: Any,
    ) -> None:
        stacked = ops.stack([update for _, update, _ in items])  # (n, rows, columns)
        orthogonal = self.zeropower_via_newtonschulz5(
            ops.cast(stacked, "bfloat16"), self.ns_steps
        )
        scale = self.rms_rate * max(shape) ** 0.5
        steps = ops.cast(orthogonal, "float32") * (learning_rate * scale)
        for index, (variable, _, is_tall) in enumerate(items):
            step = ops.transpose(steps[index]) if is_tall else steps[index]
            self.assign_sub(variable, ops.reshape(step, variable.shape))


def _as_matrix(update: Any, variable: Any) -> Any:
    """Inputs by outputs; attention's heads axis joins the side that it divides."""
    shape = variable.shape
    if len(shape) == 2:
        return update
    if "attention_output" in variable.path:  # (heads, head_dim, hidden_dim)
        return ops.reshape(update, (shape[0] * shape[1], shape[2]))
    return ops.reshape(update, (shape[0], shape[1] * shape[2]))
