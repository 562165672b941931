"""Recipes are data; the tutorial's is the reference and the default is no bigger."""

import dataclasses
import math

import numpy as np
import pytest

from minigpt_repl.errors import UsageError
from minigpt_repl.training.recipes import (
    DEFAULT,
    DRAFT,
    RECIPES,
    TUTORIAL,
    Length,
    get_recipe,
    learning_rate,
)

REFERENCE_PARAMETERS = 3_255_938


def build(recipe, words=("a",)):
    from minigpt_repl.models.causal_lm import MiniGPTTokenizer
    from minigpt_repl.training.trainable import build_model

    return build_model(
        recipe, MiniGPTTokenizer(["[PAD]", "[UNK]", "[BOS]", *words]), seed=1
    )


def test_tutorial_model_is_the_references():
    assert build(TUTORIAL).count_params() == REFERENCE_PARAMETERS


def test_only_the_tutorials_model_has_more_rows_than_words():
    rows = [
        build(recipe.changed(vocabulary_size=50)).backbone.vocabulary_size
        for recipe in (TUTORIAL, DEFAULT, DRAFT)
    ]
    assert rows == [50, 4, 4]


def test_default_model_is_no_bigger_and_the_draft_a_tenth():
    words = [f"w{number}" for number in range(4997)]
    assert build(DEFAULT, words).count_params() <= REFERENCE_PARAMETERS
    assert build(DRAFT, words).count_params() <= REFERENCE_PARAMETERS / 8


def test_tutorial_compiles_what_the_reference_compiles():
    import keras

    from minigpt_repl.training.trainable import trainable

    model = trainable(build(TUTORIAL.changed(vocabulary_size=50)), TUTORIAL)
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    default = keras.optimizers.Adam(name=model.optimizer.name).get_config()
    assert model.optimizer.get_config() == default
    loss = model.loss
    assert type(loss) is keras.losses.SparseCategoricalCrossentropy
    assert loss.get_config()["from_logits"]


@pytest.mark.slow
def test_tutorial_masks_the_loss_where_the_input_is_padding():
    import keras

    from minigpt_repl.training.trainable import trainable

    causal_lm = build(TUTORIAL.changed(vocabulary_size=50))
    model = trainable(causal_lm, TUTORIAL)
    inputs = np.array([[2, 5, 6, 0, 0, 0]])
    labels = np.array([[5, 6, 0, 0, 0, 0]])
    loss = model.test_on_batch(inputs, labels, return_dict=True)["loss"]
    logits = np.array(model(inputs))
    each = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)(
        labels, logits
    )
    # The label after the line's end is [PAD] but its input is a word: it counts.
    assert loss == pytest.approx(float(np.mean(np.array(each)[0, :3])), rel=1e-4)


def test_every_recipe_is_found_by_its_name():
    for name, recipe in RECIPES.items():
        assert get_recipe(name) is recipe
        assert recipe.name == name


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(UsageError, match=r"'tutoral'.*default, .*mean tutorial\?"):
        get_recipe("tutoral")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"hidden_dim": 2, "num_heads": 4}, "a width of 2 gives 4 heads 0 each"),
        ({"num_heads": 5}, "an even number.*256 gives 5 heads 51 each"),
    ],
)
def test_heads_that_do_not_fit_the_width_are_refused(fields, told):
    with pytest.raises(UsageError, match=told):
        DEFAULT.changed(**fields)


def test_changed_keeps_what_is_not_given():
    assert DEFAULT.changed(num_layers=None) == DEFAULT
    assert DEFAULT.changed(num_layers=7) == dataclasses.replace(DEFAULT, num_layers=7)


def test_trapezoid_rises_holds_and_ends_at_zero():
    recipe = DEFAULT.changed(warmup_steps=10, decay_fraction=0.25, learning_rate=1.0)
    rates = [learning_rate(recipe, step, step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:75] == [1.0] * 65
    assert rates[75:] == sorted(rates[75:], reverse=True)
    assert rates[100] == 0


def test_a_constant_rate_does_not_end_at_zero():
    assert learning_rate(TUTORIAL, 100, 1.0) == TUTORIAL.learning_rate


def test_length_in_steps_or_in_seconds():
    assert Length(steps=10).progress(5, math.inf) == 0.5
    assert Length(seconds=10).progress(10**9, 2.5) == 0.25
    assert Length(seconds=10).progress(1, 11) == 1
    both = Length(steps=10, seconds=10)
    assert (both.progress(5, 2.0), both.progress(1, 9.0)) == (0.5, 0.9)
    counted = [each.counted for each in (Length(steps=60), Length(seconds=9.5), both)]
    assert counted == [("steps", 60), ("seconds", 9.5), ("%", 100)]
    for wrong in ({}, {"steps": 1, "seconds": 0.0}, {"steps": 0}, {"seconds": -1.0}):
        with pytest.raises(UsageError):
            Length(**wrong)
