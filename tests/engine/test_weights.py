"""Weights are laid out for products and turned back unchanged."""

import numpy as np

from minigpt_repl.models.weights import fixed_weights


def test_every_weight_is_turned_back_to_its_value(tiny_causal_lm):
    variables = tiny_causal_lm.variables
    weights = fixed_weights(variables)
    assert [weight.variable for weight in weights] == list(variables)
    for weight in weights:
        turned = np.asarray(weight.turn(weight.given))
        np.testing.assert_array_equal(turned, np.asarray(weight.variable))


def test_weights_are_given_as_matrices_of_their_products(make_causal_lm):
    causal_lm = make_causal_lm(tie_weights=True, hidden_dim=16, num_heads=4)
    given = {
        weight.variable.path.rpartition("self_attention/")[2]: weight.given.shape
        for weight in fixed_weights(causal_lm.variables)
    }
    assert given["query/kernel"] == (16, 16)
    assert given["attention_output/kernel"] == (16, 16)
    assert max(len(shape) for shape in given.values()) == 2
    # The head's matrix: rows of the hidden size, a column for each id.
    assert (16, 80) in given.values()
