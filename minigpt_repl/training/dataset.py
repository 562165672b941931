"""Token ids of lines -> training windows -> the batches that Keras is fed.

A window is `context_length` input ids and as many labels, each the token after its
input.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt_repl.errors import CorpusError
from minigpt_repl.models.text.codec import BOS_ID
from minigpt_repl.training.prepared_text import Text
from minigpt_repl.training.recipes import Feeding, Recipe
from minigpt_repl.training.resume import fingerprint

Ids = NDArray[Any]
Indices = NDArray[np.int64]

Batches = Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]

REFERENCE_SHUFFLE = 256
"""Batches that the reference's shuffle buffer holds."""


@dataclass(frozen=True)
class Windows:
    """Inputs and labels of a split, both of shape `(windows, context_length)`."""

    inputs: Ids
    labels: Ids

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, which: Any) -> "Windows":
        """Some of them, chosen as numpy chooses rows."""
        return Windows(self.inputs[which], self.labels[which])

    def batch(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Inputs and labels as Keras takes them."""
        return self.inputs.astype(np.int32), self.labels.astype(np.int32)

    @property
    def beginnings(self) -> "Windows":
        """Those that begin behind `[BOS]`."""
        return self[self.inputs[:, 0] == BOS_ID]

    def spread(self, count: int) -> "Windows":
        """About so many of them, from all places alike."""
        return self[:: math.ceil(len(self) / count)]


def cut_windows(ids: Ids, lengths: Indices, context_length: int) -> Windows:
    """The first window of each line, padded; the rest of the line is dropped.

    The reference's way, and that of every validation: inputs are `[BOS]` and the
    line's first tokens, labels are the line's tokens, `[PAD]` after its end.

    Args:
        ids: the tokens of all lines one after another, of shape `(tokens,)`.
        lengths: how many tokens each line has, of shape `(lines,)`.
    """
    starts = np.cumsum(lengths) - lengths
    columns = np.arange(context_length)
    is_token = columns < lengths[:, None]  # (lines, context_length)
    labels = np.zeros(is_token.shape, ids.dtype)
    labels[is_token] = ids[(starts[:, None] + columns)[is_token]]
    inputs = np.pad(labels[:, :-1], ((0, 0), (1, 0)), constant_values=BOS_ID)
    return Windows(inputs, labels)


def packed_windows(
    ids: Ids, lengths: Indices, context_length: int, is_padded: bool = False
) -> Windows:
    """Windows in which every token but those in a last gap is a label once.

    A line's first `context_length` tokens follow `[BOS]`, as a prompt does. What
    is left of the lines is joined and cut into windows; the input before the first
    label of a rest is the token that really stands before it. Lines too short to
    fill a window are packed too, several to a window, each after its own `[BOS]`.

    The last tokens are left out, or, `is_padded`, a window of their own.

    Args:
        ids: the tokens of all lines one after another, of shape `(tokens,)`.
        lengths: how many tokens each line has, of shape `(lines,)`.

    Raises:
        CorpusError: if there are not enough tokens for a single window.
    """
    starts = np.cumsum(lengths) - lengths
    before = np.empty_like(ids)  # (tokens,): what stands before each token
    before[1:] = ids[:-1]
    before[starts[lengths > 0]] = BOS_ID
    long_starts = starts[lengths >= context_length]
    heads = long_starts[:, None] + np.arange(context_length)
    is_rest = np.ones(len(ids), bool)
    is_rest[heads] = False
    rest = np.flatnonzero(is_rest)
    rest, left = np.split(rest, [len(rest) - len(rest) % context_length])
    positions = np.concatenate([heads, rest.reshape(-1, context_length)])
    inputs, labels = before[positions], ids[positions]
    if is_padded and len(left):
        gap = (0, context_length - len(left))
        inputs = np.vstack([inputs, np.pad(before[left], gap)])
        labels = np.vstack([labels, np.pad(ids[left], gap)])
    if not len(labels):
        raise CorpusError(
            f"the text has {len(ids)} tokens, too few for one window of "
            f"{context_length}: give more text or a smaller --context"
        )
    return Windows(inputs, labels)


def batch_order(
    feeding: Feeding, count: int, batch_size: int, seed: int, epoch: int
) -> list[Indices]:
    """Which windows are in which batch of an epoch.

    It depends on its arguments alone, so that a resumed run goes on with the very
    batch that a run without a break would have had.

    `cut` keeps windows in file order inside a batch, shuffles the batches through a
    buffer of 256 and keeps a last, smaller one, as the reference does. `packed`
    shuffles the windows themselves and drops what does not fill a batch, unless there
    is nothing else.
    """
    rng = np.random.default_rng([seed, epoch])
    places = list(range(steps_per_epoch(feeding, count, batch_size)))
    if feeding == "cut":
        windows = np.arange(count)
        places = _buffered_shuffle(places, rng)
    else:
        windows = rng.permutation(count)
    return [windows[place * batch_size :][:batch_size] for place in places]


def batches(
    windows: Windows, feeding: Feeding, batch_size: int, seed: int, first_step: int = 0
) -> Batches:
    """Batches without end, epoch after epoch, from the one of `first_step`.

    Yields:
        Inputs and labels, int32, of shape `(batch, context_length)`.
    """
    epoch, index = 0, first_step
    while True:
        order = batch_order(feeding, len(windows), batch_size, seed, epoch)
        for rows in order[index:]:
            yield windows[rows].batch()
        index = max(index - len(order), 0)
        epoch += 1


def recipe_batches(
    windows: Windows,
    recipe: Recipe,
    seed: int,
    first_step: int,
    progress: Callable[[int], float],
) -> Batches:
    """Batches as a recipe feeds them, from the one of `first_step`.

    Towards the end, where `progress` tells from a step how much of the run is over,
    they are of beginnings only.
    """

    def feed(windows: Windows, step: int) -> Batches:
        return batches(windows, recipe.feeding, recipe.batch_size, seed, step)

    step, early = first_step, feed(windows, first_step)
    while progress(step) <= 1 - recipe.beginnings:
        yield next(early)
        step += 1
    # A text whose lines are all shorter than a window has none.
    yield from feed(windows.beginnings or windows, step)


def steps_per_epoch(feeding: Feeding, count: int, batch_size: int) -> int:
    """How many batches an epoch of `count` windows has."""
    if feeding == "cut":
        return math.ceil(count / batch_size)
    return max(count // batch_size, 1)


def _buffered_shuffle(items: list[int], rng: np.random.Generator) -> list[int]:
    """In an order that `tf.data.Dataset.shuffle(REFERENCE_SHUFFLE)` might give."""
    left, order = list(items), []
    while left:
        order.append(left.pop(rng.integers(min(len(left), REFERENCE_SHUFFLE))))
    return order


@dataclass(frozen=True)
class TrainingData:
    """What is trained on and measured with."""

    train: Windows  # as the recipe's feeding makes them
    # As the reference cuts them; of a text that is kept as it was written, and may be
    # one long line, all of it.
    validation: Windows
    tokens_per_byte: float  # of the validation text
    fingerprint: str  # tells this text and vocabulary from all others


def training_data(recipe: Recipe, text: Text) -> TrainingData:
    """The windows that a recipe trains on and is measured with."""
    train, valid = (
        (part.ids, np.diff(part.offsets), recipe.context_length)
        for part in (text.train, text.valid)
    )
    is_whole, is_cut = text.vocabulary.is_lossless, recipe.feeding == "cut"
    return TrainingData(
        cut_windows(*train) if is_cut else packed_windows(*train, is_whole),
        packed_windows(*valid, is_whole) if is_whole else cut_windows(*valid),
        len(text.valid.ids) / int(text.valid.line_bytes.sum()),
        fingerprint(
            train=text.corpus.train.sha256,
            valid=text.corpus.valid.sha256,
            **text.vocabulary.made_from,
        ),
    )
