"""MiniGPT as a `LanguageModel`: its tokenizer, its spelling, its start token."""

import itertools
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
    text = text_of(tokenizer)

    def ids_of(prompt: str) -> list[int]:
        ids: list[int] = np.asarray(tokenizer(prompt)).tolist() if prompt else []
        return ids

    def encode(prompt: str) -> Sequence[int]:
        if not isinstance(text, ByteLevelText):
            return ids_of(_one_spelling(prompt))
        *ended, last = map(ids_of, text.documents(as_typed(prompt)))
        ends = [] if text.end_id is None else [text.end_id]
        return [*itertools.chain.from_iterable([*ids, *ends] for ids in ended), *last]

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
