"""MiniGPT as KerasHub generates with it, and as the engine does."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras_hub.models import CausalLM, CausalLMPreprocessor, GPT2CausalLM

from minigpt_repl.models.backbone import MiniGPTBackbone
from minigpt_repl.models.language_model import KerasLanguageModel
from minigpt_repl.models.text.bytelevel import ByteLevelText
from minigpt_repl.models.text.codec import TextCodec
from minigpt_repl.models.text.normalize import as_typed, normalize_text
from minigpt_repl.models.text.wordpiece import WordPieceText
from minigpt_repl.models.tokenizer import MiniGPTBytePairTokenizer, MiniGPTTokenizer


@keras.saving.register_keras_serializable(package="minigpt_repl")
class MiniGPTCausalLMPreprocessor(CausalLMPreprocessor):
    """Tokenizes, puts `[BOS]` in front and pads with `[PAD]`.

    Args:
        tokenizer: a `MiniGPTTokenizer`.
        sequence_length: int. Length of the packed sequences.
        add_end_token: bool. Off: the reference trains without an end token.
        **kwargs: as for `keras_hub.models.CausalLMPreprocessor`.
    """

    backbone_cls = MiniGPTBackbone
    tokenizer_cls = MiniGPTTokenizer

    def __init__(
        self,
        tokenizer: MiniGPTTokenizer,
        sequence_length: int = 128,
        add_end_token: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            tokenizer, sequence_length, add_end_token=add_end_token, **kwargs
        )


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
        self.head = None
        if not backbone.tie_weights:
            self.head = keras.layers.Dense(
                backbone.vocabulary_size, dtype=backbone.dtype_policy, name="head"
            )
        inputs = backbone.input
        hidden_states = backbone(inputs)
        super().__init__(inputs=inputs, outputs=self.logits(hidden_states), **kwargs)

    def logits(self, hidden_states: Any) -> Any:
        """Scores of the next token `(..., vocabulary_size)`, of hidden states
        `(..., hidden_dim)`."""
        if self.head is None:
            return self.backbone.token_embedding(hidden_states, reverse=True)
        return self.head(hidden_states)

    def call_with_cache(
        self, token_ids: Any, cache: Any, cache_update_index: Any
    ) -> tuple[Any, Any, Any]:
        """As the backbone's, with logits `(batch, new_length, vocabulary_size)` before
        the hidden states and the cache."""
        hidden_states, cache = self.backbone.call_with_cache(
            token_ids, cache, cache_update_index
        )
        return self.logits(hidden_states), hidden_states, cache

    def _build_cache(self, token_ids: Any) -> tuple[Any, Any]:
        """One pass over prompts, int `(batch, length)`: their hidden states `(batch,
        length, hidden_dim)` and the filled cache."""
        batch_size, length = ops.shape(token_ids)
        cache = self.backbone.empty_cache(batch_size, length)
        _, hidden_states, cache = self.call_with_cache(token_ids, cache, 0)
        return hidden_states, cache

    # As every causal LM of KerasHub has it, word for word.
    generate_step = GPT2CausalLM.generate_step


def language_model(causal_lm: Any) -> KerasLanguageModel:
    """The language model of a `MiniGPTCausalLM` with its preprocessor."""
    tokenizer = causal_lm.preprocessor.tokenizer
    text = text_of(tokenizer)

    def ids_of(prompt: str) -> list[int]:
        ids: list[int] = np.asarray(tokenizer(prompt)).tolist() if prompt else []
        return ids

    def encode(prompt: str) -> Sequence[int]:
        if not isinstance(text, ByteLevelText):
            prompt = normalize_text(prompt)
            return ids_of(prompt if prompt.strip() else "")
        *ended, last = map(ids_of, text.documents(as_typed(prompt)))
        ends = [] if text.end_id is None else [text.end_id]
        return [*itertools.chain.from_iterable([*ids, *ends] for ids in ended), *last]

    context_length = causal_lm.backbone.max_sequence_length
    return KerasLanguageModel(causal_lm, text, encode, context_length)


def text_of(tokenizer: Any) -> TextCodec:
    """What a tokenizer's ids stand for."""
    words = tokenizer.get_vocabulary()
    if isinstance(tokenizer, MiniGPTBytePairTokenizer):
        return ByteLevelText(words, tokenizer.document)
    return WordPieceText(words, tokenizer.lowercase)
