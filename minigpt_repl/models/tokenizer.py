"""WordPiece with the reference example's three reserved tokens."""

from typing import Any

import keras
from keras_hub.tokenizers import WordPieceTokenizer

from minigpt_repl.models.backbone import MiniGPTBackbone


@keras.saving.register_keras_serializable(package="minigpt_repl")
class MiniGPTTokenizer(WordPieceTokenizer):
    """WordPiece tokenizer with `[PAD]` 0, `[UNK]` 1 and `[BOS]` 2.

    There is no end token in the training text, so `end_token` is `[BOS]` too:
    KerasHub's `generate()` needs one, and a text that starts anew has ended.

    Args:
        vocabulary: list of words, or path of a file with a word a line.
        lowercase: bool. Whether text is case-folded first.
        **kwargs: as for `keras_hub.tokenizers.WordPieceTokenizer`.
    """

    backbone_cls = MiniGPTBackbone

    def __init__(
        self,
        vocabulary: list[str] | str | None = None,
        lowercase: bool = True,
        **kwargs: Any,
    ) -> None:
        self._add_special_token("[PAD]", "pad_token")
        self._add_special_token("[UNK]", "unk_token")
        self._add_special_token("[BOS]", "start_token")
        self._add_special_token("[BOS]", "end_token")
        super().__init__(vocabulary=vocabulary, lowercase=lowercase, **kwargs)
