"""The language model: backbone, head, and KerasHub's generation interface."""

from typing import Any

import keras
from keras import ops
from keras_hub.models import CausalLM

from minigpt_repl.models.backbone import MiniGPTBackbone
from minigpt_repl.models.preprocessor import MiniGPTCausalLMPreprocessor


@keras.saving.register_keras_serializable(package="minigpt_repl")
class MiniGPTCausalLM(CausalLM):
    """A `MiniGPTBackbone` with a head that predicts the next token.

    The head is a `Dense` layer with a bias, as in the reference, or the
    embedding's transpose when the backbone was made with `tie_weights`.

    Args:
        backbone: a `MiniGPTBackbone`.
        preprocessor: a `MiniGPTCausalLMPreprocessor`, or `None` to work on
            token ids.
        **kwargs: as for `keras_hub.models.CausalLM`.
    """

    backbone_cls = MiniGPTBackbone
    preprocessor_cls = MiniGPTCausalLMPreprocessor

    def __init__(
        self,
        backbone: MiniGPTBackbone,
        preprocessor: MiniGPTCausalLMPreprocessor | None = None,
        **kwargs: Any,
    ) -> None:
        self.backbone = backbone
        self.preprocessor: Any = preprocessor
        self.head = (
            None
            if backbone.tie_weights
            else keras.layers.Dense(
                backbone.vocabulary_size, dtype=backbone.dtype_policy, name="head"
            )
        )
        inputs = backbone.input
        hidden_states = backbone(inputs)
        super().__init__(inputs=inputs, outputs=self.logits(hidden_states), **kwargs)

    def logits(self, hidden_states: Any) -> Any:
        """Scores of the next token.

        Args:
            hidden_states: float tensor of shape `(..., hidden_dim)`.

        Returns:
            Float tensor of shape `(..., vocabulary_size)`.
        """
        if self.head is None:
            return self.backbone.token_embedding(hidden_states, reverse=True)
        return self.head(hidden_states)

    def call_with_cache(
        self, token_ids: Any, cache: Any, cache_update_index: Any
    ) -> tuple[Any, Any, Any]:
        """Logits of new tokens, given the keys and values of earlier ones.

        Args:
            token_ids: int tensor of shape `(batch, new_length)`.
            cache: keys and values, as `backbone.empty_cache()` gives them.
            cache_update_index: int or int tensor; position of the first of the
                new tokens.

        Returns:
            `(logits, hidden_states, cache)`, of shapes
            `(batch, new_length, vocabulary_size)`,
            `(batch, new_length, hidden_dim)` and the cache's own.
        """
        hidden_states, cache = self.backbone.call_with_cache(
            token_ids, cache, cache_update_index
        )
        return self.logits(hidden_states), hidden_states, cache

    def _build_cache(self, token_ids: Any) -> tuple[Any, Any]:
        """One pass over a whole prompt, to have its keys and values.

        Args:
            token_ids: int tensor of shape `(batch, length)`.

        Returns:
            The prompt's hidden states, of shape `(batch, length, hidden_dim)`,
            and the filled cache.
        """
        batch_size, length = ops.shape(token_ids)
        cache = self.backbone.empty_cache(batch_size, length)
        _, hidden_states, cache = self.call_with_cache(token_ids, cache, 0)
        return hidden_states, cache

    def generate_step(
        self, inputs: dict[str, Any], stop_token_ids: list[int] | None = None
    ) -> dict[str, Any]:
        """Continue one batch of packed prompts; `CausalLM.generate()` compiles it.

        Args:
            inputs: dictionary of `token_ids` and `padding_mask`, int tensors of
                shape `(batch, length)`.
            stop_token_ids: ids that end a sequence.

        Returns:
            A dictionary of the same structure, with the new tokens in place.
        """
        token_ids, padding_mask = inputs["token_ids"], inputs["padding_mask"]
        hidden_states, cache = self._build_cache(token_ids)
        # The first position that some prompt leaves free.
        index = ops.min(ops.sum(ops.cast(padding_mask, "int32"), axis=-1))

        def next(prompt: Any, cache: Any, index: Any) -> tuple[Any, Any, Any]:
            last_token = ops.take(prompt, [index - 1], axis=1)  # (batch, 1)
            logits, hidden_states, cache = self.call_with_cache(
                last_token, cache, index - 1
            )
            return (
                ops.squeeze(logits, axis=1),  # (batch, vocabulary_size)
                ops.squeeze(hidden_states, axis=1),  # (batch, hidden_dim)
                cache,
            )

        token_ids = self.sampler(
            next=next,
            prompt=token_ids,
            cache=cache,
            index=index,
            mask=padding_mask,
            stop_token_ids=stop_token_ids,
            hidden_states=hidden_states,
            model=self,
        )
        return {
            "token_ids": token_ids,
            "padding_mask": _until_stop(token_ids, padding_mask, stop_token_ids),
        }


def _until_stop(
    token_ids: Any, prompt_mask: Any, stop_token_ids: list[int] | None
) -> Any:
    """Mask of the positions up to and with the first new stop token."""
    if stop_token_ids is None:
        return ops.ones_like(token_ids, dtype="bool")
    stops = ops.zeros_like(token_ids, dtype="bool")
    for stop_token_id in stop_token_ids:
        stops = ops.logical_or(stops, ops.equal(token_ids, stop_token_id))
    is_new = ops.logical_not(ops.cast(prompt_mask, "bool"))
    stops = ops.cast(ops.logical_and(stops, is_new), "int32")
    stops_before = ops.cumsum(stops, axis=-1) - stops
    return ops.equal(stops_before, 0)
