"""MiniGPT as a `LanguageModel`: its tokenizer, its spelling, its start token."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigpt_repl.models.language_model import KerasLanguageModel
from minigpt_repl.models.text.bytelevel import ByteLevelText
from minigpt_repl.models.text.codec import TextCodec
from minigpt_repl.models.text.normalize import as_typed, normalize_text
from minigpt_repl.models.text.wordpiece import WordPieceText
from minigpt_repl.models.tokenizer import MiniGPTBytePairTokenizer


def language_model(causal_lm: Any, on_trace: Callable[[], None]) -> KerasLanguageModel:
    """The language model of a `MiniGPTCausalLM` with its preprocessor."""
    tokenizer = causal_lm.preprocessor.tokenizer
    spelled: Callable[[str], str]
    if isinstance(tokenizer, MiniGPTBytePairTokenizer):
        text, spelled = text_of(tokenizer), as_typed
    else:
        text, spelled = text_of(tokenizer), _one_spelling

    def encode(prompt: str) -> Sequence[int]:
        prompt = spelled(prompt)
        if not prompt:
            return ()
        ids: Sequence[int] = np.asarray(tokenizer(prompt)).tolist()
        return ids

    return KerasLanguageModel(causal_lm, text, encode, on_trace)


def text_of(tokenizer: Any) -> TextCodec:
    """What a tokenizer's ids stand for."""
    words = tokenizer.get_vocabulary()
    if isinstance(tokenizer, MiniGPTBytePairTokenizer):
        return ByteLevelText(words, tokenizer.document)
    return WordPieceText(words, tokenizer.lowercase)


def _one_spelling(prompt: str) -> str:
    prompt = normalize_text(prompt)
    return prompt if prompt.strip() else ""
