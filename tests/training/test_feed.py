"""What Keras is fed: every batch as it was made, and nothing that it waits for."""

from types import GeneratorType

import numpy as np
import pytest

from minigpt_repl.training import feed
from minigpt_repl.training.feed import for_fit, for_predict


def made():
    for size in (3, 3, 2):
        rows = np.arange(size * 4, dtype=np.int32).reshape(size, 4)
        yield rows, rows + 1


def test_a_fit_gets_the_batches_and_begins_anew():
    dataset = for_fit(made, context_length=4)
    for _ in range(2):
        pairs = list(dataset.as_numpy_iterator())
        for (inputs, labels), (given, wanted) in zip(pairs, made(), strict=True):
            np.testing.assert_array_equal(inputs, given)
            np.testing.assert_array_equal(labels, wanted)


def test_a_prediction_gets_all_rows_in_order():
    first, second = np.arange(10).reshape(5, 2), np.arange(5)
    made = for_predict([first, second], batch_size=2)["x"]
    cut = [inputs for (inputs,) in made.as_numpy_iterator()]
    assert [len(each) for each, _ in cut] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([each for each, _ in cut]), first)
    np.testing.assert_array_equal(np.concatenate([each for _, each in cut]), second)


def test_each_of_two_devices_gets_as_many_rows(monkeypatch):
    monkeypatch.setattr(feed, "device_count", lambda: 2)
    for inputs, labels in for_fit(made, context_length=4).as_numpy_iterator():
        assert len(inputs) == len(labels) and len(inputs) % 2 == 0
        assert not inputs[3:].any() and not labels[3:].any()


def test_another_backend_gets_generators_and_arrays(monkeypatch):
    monkeypatch.setattr(feed.keras.backend, "backend", lambda: "jax")
    assert isinstance(for_fit(made, context_length=4), GeneratorType)
    rows = [np.zeros((5, 2))]
    assert for_predict(rows, batch_size=2) == {"x": rows, "batch_size": 2}


@pytest.mark.parametrize(
    "make",
    [lambda: for_fit(made, 4), lambda: for_predict([np.zeros((5, 2))], 2)["x"]],
    ids=["fit", "predict"],
)
def test_no_thread_tunes_it(make):
    # Keras may wait for that thread at the end, for as long as the work took.
    assert make().options().autotune.enabled is False
