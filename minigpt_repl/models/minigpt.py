"""MiniGPT as a `LanguageModel`: its WordPiece, its spelling, its start token."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigpt_repl.models.language_model import KerasLanguageModel
from minigpt_repl.models.text.normalize import normalize_text
from minigpt_repl.models.text.wordpiece import WordPieceText


def language_model(causal_lm: Any, on_trace: Callable[[], None]) -> KerasLanguageModel:
    """The language model of a `MiniGPTCausalLM` with its preprocessor."""
    tokenizer = causal_lm.preprocessor.tokenizer
    text = WordPieceText(tokenizer.get_vocabulary(), tokenizer.lowercase)

    def encode(prompt: str) -> Sequence[int]:
        prompt = normalize_text(prompt)
        if not prompt.strip():
            return ()
        ids: Sequence[int] = np.asarray(tokenizer(prompt)).tolist()
        return ids

    return KerasLanguageModel(causal_lm, text, encode, on_trace)
