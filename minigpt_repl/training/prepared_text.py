"""Corpus -> vocabulary -> token ids -> windows: a text made ready to train on.

What was made in an earlier run is found again. Knows no model and no command line.
"""

from dataclasses import dataclass

import numpy as np

from minigpt_repl.errors import CorpusError
from minigpt_repl.training.corpus import Corpus, load_corpus
from minigpt_repl.training.plan import TrainingData
from minigpt_repl.training.progress import Progress
from minigpt_repl.training.recipes import Recipe
from minigpt_repl.training.stages import fingerprint
from minigpt_repl.training.tokens import TokenizedLines, prepared_tokens
from minigpt_repl.training.vocabulary import prepared_vocabulary
from minigpt_repl.training.windows import cut_windows, make_windows


@dataclass(frozen=True)
class Text:
    """A corpus made ready: vocabulary and token ids of both its parts."""

    corpus: Corpus
    vocabulary: list[str]
    train: TokenizedLines
    valid: TokenizedLines
    lowercase: bool


def prepare_text(
    source: str,
    vocabulary_size: int,
    progress: Progress,
    min_length: int | None = None,
    lowercase: bool = True,
) -> Text:
    """Corpus, vocabulary and tokens, each made now or found from an earlier run.

    Args:
        source: where the text is; see `load_corpus`.
        vocabulary_size: most words.
        progress: is told of each stage.
        min_length: bytes of the lines kept, or `None` for the corpus' own.
        lowercase: whether the tokenizer folds case.

    Raises:
        CorpusError: if the text can't be read, or leaves nothing to validate with.
    """
    corpus = load_corpus(source, min_length, progress)
    vocabulary = prepared_vocabulary(
        corpus.train, corpus.train_sha256, vocabulary_size, lowercase, progress
    )
    train, valid = (
        prepared_tokens(lines, sha256, vocabulary, lowercase, progress)
        for lines, sha256 in (
            (corpus.train, corpus.train_sha256),
            (corpus.valid, corpus.valid_sha256),
        )
    )
    if not len(valid.ids):
        raise CorpusError(f"{corpus.source} leaves no line for validation: add text")
    return Text(corpus, vocabulary, train, valid, lowercase)


def training_data(recipe: Recipe, text: Text) -> TrainingData:
    """The windows that a recipe trains on and is measured with."""
    return TrainingData(
        make_windows(
            recipe.feeding,
            text.train.ids,
            np.diff(text.train.offsets),
            recipe.context_length,
        ),
        cut_windows(text.valid.ids, np.diff(text.valid.offsets), recipe.context_length),
        len(text.valid.ids) / int(text.valid.line_bytes.sum()),
        fingerprint(
            train=text.corpus.train_sha256,
            valid=text.corpus.valid_sha256,
            vocabulary=text.vocabulary,
            lowercase=text.lowercase,
        ),
    )
