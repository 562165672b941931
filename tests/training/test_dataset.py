"""Which tokens are fed, behind what, and in which order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt_repl.errors import CorpusError
from minigpt_repl.training.dataset import (
    Windows,
    batch_order,
    batches,
    cut_windows,
    packed_windows,
    recipe_batches,
    steps_per_epoch,
)
from minigpt_repl.training.recipes import DEFAULT

CONTEXT = 8


def lines_of(lengths):
    """Ids 3, 4, 5, ... over all lines, so that each token is told from the others."""
    lengths = np.array(lengths, np.int64)
    return np.arange(3, 3 + lengths.sum()).astype(np.uint16), lengths


def test_cut_windows_are_the_references():
    from keras_hub.layers import StartEndPacker

    ids, lengths = lines_of([3, 8, 12])
    windows = cut_windows(ids, lengths, CONTEXT)
    packer = StartEndPacker(sequence_length=CONTEXT, start_value=2)
    for row, line in enumerate(np.split(ids.astype(int), np.cumsum(lengths)[:-1])):
        labels = np.pad(line[:CONTEXT], (0, max(CONTEXT - len(line), 0)))
        assert windows.labels[row].tolist() == labels.tolist()
        assert windows.inputs[row].tolist() == np.array(packer(labels)).tolist()


def test_cut_windows_of_an_empty_line_are_padding():
    windows = cut_windows(*lines_of([0, 2]), CONTEXT)
    assert windows.labels[0].tolist() == [0] * CONTEXT
    assert np.count_nonzero(windows.labels) == 2


line_lengths = st.lists(st.integers(0, 30), min_size=1, max_size=20)


@given(line_lengths.filter(lambda lengths: sum(lengths) >= CONTEXT))
@settings(max_examples=60, deadline=None)
def test_packed_windows_throw_no_token_away(lengths):
    ids, lengths = lines_of(lengths)
    try:
        windows = packed_windows(ids, lengths, CONTEXT)
    except CorpusError:
        pytest.fail("there were enough tokens for a window")
    labels = windows.labels.ravel().tolist()
    assert len(set(labels)) == len(labels)
    # Only what does not fill a last window is missing.
    assert len(ids) - len(labels) < CONTEXT
    starts = set(ids[(np.cumsum(lengths) - lengths)[lengths > 0]].tolist())
    for before, label in zip(
        windows.inputs.ravel(), windows.labels.ravel(), strict=True
    ):
        assert before == (2 if label in starts else label - 1)


def test_a_line_long_enough_starts_a_window_behind_bos():
    ids, lengths = lines_of([20, 3, 9])
    windows = packed_windows(ids, lengths, CONTEXT)
    starts = windows.inputs[windows.inputs[:, 0] == 2]
    assert {tuple(row) for row in starts.tolist()} >= {
        (2, *range(3, 10)),
        (2, *range(26, 33)),
    }


def test_too_little_text_for_a_window_is_refused_in_one_line():
    with pytest.raises(CorpusError, match=r"7 tokens.*window of 8.*--context") as error:
        packed_windows(*lines_of([4, 3]), CONTEXT)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("feeding", ["cut", "packed"])
def test_an_epoch_feeds_windows_once_and_the_next_in_another_order(feeding):
    orders = [
        np.concatenate(batch_order(feeding, 1000, 8, seed=1, epoch=epoch))
        for epoch in (0, 1)
    ]
    for order in orders:
        assert sorted(order.tolist()) == list(range(1000))
    assert orders[0].tolist() != orders[1].tolist()
    again = np.concatenate(batch_order(feeding, 1000, 8, seed=1, epoch=0))
    assert again.tolist() == orders[0].tolist()


def test_packed_order_mixes_the_whole_text_and_cut_order_only_batches():
    packed = batch_order("packed", 10_000, 10, seed=1, epoch=0)
    assert np.ptp(packed[0]) > 1000
    cut = batch_order("cut", 10_000, 10, seed=1, epoch=0)
    assert all(np.ptp(batch) == 9 for batch in cut)
    # A buffer of 256 batches: the first one out is among the first 256 in.
    assert cut[0][0] < 2560


def test_cut_keeps_a_last_smaller_batch_and_packed_drops_it():
    cut = batch_order("cut", 21, 8, seed=1, epoch=0)
    packed = batch_order("packed", 21, 8, seed=1, epoch=0)
    assert sorted(map(len, cut)) == [5, 8, 8]
    assert sorted(map(len, packed)) == [8, 8]
    assert steps_per_epoch("cut", 21, 8) == len(cut)
    assert steps_per_epoch("packed", 21, 8) == len(packed)
    # Less than a batch is all there is: it is fed.
    assert list(map(len, batch_order("packed", 5, 8, seed=1, epoch=0))) == [5]


@pytest.mark.parametrize("feeding", ["cut", "packed"])
@pytest.mark.parametrize("first", [0, 1, 5, 6, 13])
def test_batches_from_a_later_step_are_those_of_an_unbroken_run(feeding, first):
    windows = cut_windows(*lines_of([9] * 43), CONTEXT)

    def take(first_step, count):
        feed = batches(windows, feeding, 8, 1, first_step)
        return [next(feed)[1].tolist() for _ in range(count)]

    assert take(first, 4) == take(0, first + 4)[first:]


@pytest.mark.parametrize("first", [0, 3, 6, 9])
def test_the_end_of_a_run_feeds_beginnings_only(first):
    recipe = DEFAULT.changed(beginnings=0.5, batch_size=2)
    windows = packed_windows(*lines_of([12, 20, 9, 30]), CONTEXT)
    starts = windows.labels[:, 0][windows.inputs[:, 0] == 2]

    def take(first_step, count):
        feed = recipe_batches(windows, recipe, 1, first_step, lambda step: step / 10)
        return [next(feed)[1][:, 0].tolist() for _ in range(count)]

    fed = take(0, 12)
    assert not set(np.ravel(fed[:6])) <= set(starts)
    assert set(np.ravel(fed[6:])) <= set(starts)
    assert take(first, 3) == fed[first : first + 3]


def test_a_text_without_a_whole_window_behind_bos_feeds_all_to_the_end():
    recipe = DEFAULT.changed(beginnings=0.5, batch_size=2)
    windows = packed_windows(*lines_of([5, 3, 4, 7, 6, 5, 6]), CONTEXT)
    is_inside = windows.inputs[:, 0] != 2
    windows = Windows(windows.inputs[is_inside], windows.labels[is_inside])
    feed = recipe_batches(windows, recipe, 1, 9, lambda step: step / 10)
    assert next(feed)[1].shape == (2, CONTEXT)
