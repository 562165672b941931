"""A small text gets a small model; what was asked for by name stays."""

from minigpt_repl.training.recipes import DEFAULT, SIZES, fitted, is_small


def test_a_smaller_text_has_a_smaller_model():
    widths = [fitted(DEFAULT, tokens, {}).hidden_dim for tokens in SIZES]
    assert widths == sorted(widths) and widths[0] < DEFAULT.hidden_dim
    dropouts = [fitted(DEFAULT, tokens, {}).dropout for tokens in SIZES]
    assert dropouts == sorted(dropouts, reverse=True)


def test_it_is_read_more_often():
    assert fitted(DEFAULT, 57, {}).epochs > fitted(DEFAULT, 100_000, {}).epochs
    assert fitted(DEFAULT, 100_000, {}).epochs > fitted(DEFAULT, 1_999_999, {}).epochs


def test_it_is_not_over_before_the_rate_has_risen():
    for tokens in (57, 5_500, 8_400):
        recipe = fitted(DEFAULT, tokens, {})
        windows = max(tokens // recipe.context_length, 1)
        steps = recipe.epochs * max(windows // recipe.batch_size, 1)
        assert recipe.warmup_steps < steps / 2


def test_a_large_text_has_the_recipe_as_it_is():
    assert fitted(DEFAULT, 30_000_000, {}) is DEFAULT
    assert not is_small(30_000_000) and is_small(2_000_000)


def test_what_was_asked_for_stays():
    asked = DEFAULT.changed(hidden_dim=32, epochs=3)
    recipe = fitted(asked, 57, {"hidden_dim": 32, "epochs": 3, "dropout": None})
    assert (recipe.hidden_dim, recipe.epochs, recipe.dropout) == (32, 3, 0.3)
