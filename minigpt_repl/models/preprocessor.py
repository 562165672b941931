"""Packs text after `[BOS]`, as the model was trained."""

from typing import Any

import keras
from keras_hub.models import CausalLMPreprocessor

from minigpt_repl.models.backbone import MiniGPTBackbone
from minigpt_repl.models.tokenizer import MiniGPTTokenizer


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
            tokenizer,
            sequence_length=sequence_length,
            add_end_token=add_end_token,
            **kwargs,
        )
