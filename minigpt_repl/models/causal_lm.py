"""MiniGPT: its tokenizers, preprocessor and causal LM, and how the engine sees it.

The tokenizer is WordPiece, or byte-pair encoding of bytes.
"""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tokenizers
from keras import ops
from keras_hub.models import CausalLM, CausalLMPreprocessor, GPT2CausalLM
from keras_hub.tokenizers import BytePairTokenizer, WordPieceTokenizer
from tokenizers import models, pre_tokenizers, trainers

from minigpt_repl.models.backbone import MiniGPTBackbone
from minigpt_repl.models.language_model import KerasLanguageModel
from minigpt_repl.models.text.bytelevel import BYTES, SPLIT_PATTERN, ByteLevelText
from minigpt_repl.models.text.codec import RESERVED, TextCodec
from minigpt_repl.models.text.wordpiece import WordPieceText

BYTE_PIECES = (*RESERVED, *BYTES)
"""The vocabulary that nothing was learned for: the reserved ones and 256 bytes."""


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
    document = None

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


@keras.saving.register_keras_serializable(package="minigpt_repl")
class MiniGPTBytePairTokenizer(BytePairTokenizer):
    """Byte-level BPE with `[PAD]` 0, `[UNK]` 1 and `[BOS]` 2, which no text becomes.

    KerasHub 0.32 gives its split to `tokenizers` as a plain string, which is then
    matched letter by letter, and splits otherwise inside `tf.data`. Here it is a real
    regular expression, the same one when the pairs are learned, the corpus is encoded
    and a prompt is read.

    Args:
        vocabulary: dictionary of pieces and ids, or path of a file of it.
        merges: list of pairs in order of their rank, or path of a file of them.
        split_pattern: string. Regular expression of the parts of a text that are
            encoded each by itself. Saved with the tokenizer.
        document: string or `None`. What has an end that was learned: `"file"`,
            `"paragraph"` or `"line"`. The end is `[BOS]`: what comes after it begins
            anew.
        **kwargs: as for `keras_hub.tokenizers.BytePairTokenizer`.
    """

    backbone_cls = MiniGPTBackbone
    lowercase = False

    def __init__(
        self,
        vocabulary: dict[str, int] | str | None = None,
        merges: Sequence[str] | str | None = None,
        split_pattern: str = SPLIT_PATTERN,
        document: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.split_pattern, self.document = split_pattern, document
        self._add_special_token("[PAD]", "pad_token")
        self._add_special_token("[BOS]", "start_token")
        self._add_special_token("[BOS]", "end_token")
        # A text that holds "[BOS]" holds five characters, not the token.
        kwargs["unsplittable_tokens"] = []
        super().__init__(vocabulary=vocabulary, merges=merges, **kwargs)

    def get_vocabulary(self) -> list[str]:
        """The pieces in order of their ids."""
        self._check_vocabulary()
        return sorted(self.vocabulary, key=self.vocabulary.__getitem__)

    def get_config(self) -> dict[str, Any]:
        """The arguments, the pattern with them."""
        config: dict[str, Any] = super().get_config()
        del config["unsplittable_tokens"]
        return config | {
            "split_pattern": self.split_pattern,
            "document": self.document,
        }

    def _set_vocabulary_and_merges_tf(self, vocabulary: Any, merges: Any) -> None:
        self.vocabulary, self.merges = dict(vocabulary), list(merges)

    def _set_vocabulary_and_merges_tokenizers(
        self, vocabulary: Any, merges: Any
    ) -> None:
        super()._set_vocabulary_and_merges_tokenizers(vocabulary, merges)
        self._tokenizer.pre_tokenizer = _pre_tokenizer(self.split_pattern)

    def _use_tf_workflow(self) -> bool:
        # Another split, so other ids: text is encoded before it goes into tf.data.
        return False


def learn_byte_pairs(
    texts: Iterable[str], vocabulary_size: int
) -> tuple[list[str], list[str]]:
    """Pieces in order of their ids, and the pairs that make them, in order of rank.

    Args:
        texts: what is learned from.
        vocabulary_size: most pieces, the reserved ones and 256 bytes included.
    """
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = _pre_tokenizer(SPLIT_PATTERN)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(RESERVED),
        initial_alphabet=list(BYTES),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    ids: dict[str, int] = learner.get_vocab()
    model = json.loads(learner.to_str())["model"]
    merges = [" ".join(pair) for pair in model["merges"]]
    return sorted(ids, key=ids.__getitem__), merges


def _pre_tokenizer(split_pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(split_pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


@keras.saving.register_keras_serializable(package="minigpt_repl")
class MiniGPTCausalLMPreprocessor(CausalLMPreprocessor):
    """Tokenizes, puts `[BOS]` in front and pads with `[PAD]`.

    Arguments are those of `keras_hub.models.CausalLMPreprocessor`; the reference trains
    without an end token.
    """

    backbone_cls = MiniGPTBackbone
    tokenizer_cls = MiniGPTTokenizer

    def __init__(
        self,
        tokenizer: MiniGPTTokenizer | MiniGPTBytePairTokenizer,
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
    embedding's transpose when the backbone was made with `tie_weights`. Without a
    preprocessor it works on token ids.
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

    def tokenize(text: str) -> list[int]:
        ids: list[int] = np.asarray(tokenizer(text)).tolist()
        return ids

    text = text_of(tokenizer)
    encode = partial(text.encode, tokenize=tokenize)
    context_length = causal_lm.backbone.max_sequence_length
    return KerasLanguageModel(causal_lm, text, encode, context_length)


def text_of(tokenizer: Any) -> TextCodec:
    """What a tokenizer's ids stand for."""
    words = tokenizer.get_vocabulary()
    if isinstance(tokenizer, MiniGPTBytePairTokenizer):
        return ByteLevelText(words, tokenizer.document)
    return WordPieceText(words, tokenizer.lowercase)
