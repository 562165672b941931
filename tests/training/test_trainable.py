"""The fused cross-entropy equals the plain formula, in value and in gradient."""

import numpy as np
import pytest

POSITIONS, ROWS = 48, 37


@pytest.fixture
def case():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 4, (POSITIONS, ROWS)).astype("float32")
    labels = rng.integers(0, ROWS, POSITIONS).astype("int32")
    weights = rng.random(POSITIONS).astype("float32")
    return logits, labels, weights


def plain(logits, labels, weights):
    """Value and gradient in float64, by the textbook."""
    wide = logits.astype("float64")
    log_partition = np.log(np.exp(wide).sum(-1))
    loss = (weights * (log_partition - wide[np.arange(len(labels)), labels])).sum()
    softmax = np.exp(wide - log_partition[:, None])
    one_hot = np.eye(wide.shape[1])[labels]
    return loss, (softmax - one_hot) * weights[:, None]


def fused(logits, labels, weights, upstream=1.0):
    import tensorflow as tf

    from minigpt_repl.training.trainable import surprisal

    logits = tf.convert_to_tensor(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        # One text of a batch, as it is traced in a training.
        losses = surprisal()(logits[None], tf.convert_to_tensor(labels[None]))
        loss = upstream * tf.reduce_sum(weights * losses[0])
    gradient = tape.gradient(loss, logits)
    return float(loss), gradient


def test_value_and_gradient_are_the_plain_ones(case):
    loss, gradient = fused(*case)
    expected_loss, expected_gradient = plain(*case)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    np.testing.assert_allclose(gradient.numpy(), expected_gradient, atol=1e-5)


def test_gradient_carries_what_comes_from_above(case):
    _, once = fused(*case)
    _, thrice = fused(*case, upstream=3.0)
    np.testing.assert_allclose(thrice.numpy(), 3 * once.numpy(), rtol=1e-5, atol=1e-7)


def test_bfloat16_logits_give_a_float32_loss_and_a_bfloat16_gradient(case):
    import tensorflow as tf

    logits, labels, weights = case
    rounded = tf.cast(logits, "bfloat16")
    loss, gradient = fused(rounded, labels, weights)
    expected_loss, expected_gradient = plain(
        tf.cast(rounded, "float32").numpy(), labels, weights
    )
    # Summed in float32: bfloat16 would be off by a percent.
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert gradient.dtype == tf.bfloat16
    np.testing.assert_allclose(
        tf.cast(gradient, "float32").numpy(), expected_gradient, atol=8e-3
    )


def test_huge_logits_do_not_overflow(case):
    logits, labels, weights = case
    loss, gradient = fused(logits * 1000, labels, weights)
    assert np.isfinite(loss)
    assert np.isfinite(gradient.numpy()).all()


def test_padding_counts_for_nothing():
    from minigpt_repl.training.trainable import mean_cross_entropy

    rng = np.random.default_rng(5)
    logits = rng.normal(size=(2, 6, ROWS)).astype("float32")
    labels = rng.integers(1, ROWS, (2, 6)).astype("int32")
    labels[1, 3:] = 0
    kept = labels > 0
    expected, _ = plain(logits[kept], labels[kept], np.full(9, 1 / 9))
    assert float(mean_cross_entropy(logits, labels)) == pytest.approx(
        expected, rel=1e-5
    )
    logits[1, 4] += 10 * rng.normal(size=ROWS)
    assert float(mean_cross_entropy(logits, labels)) == pytest.approx(
        expected, rel=1e-5
    )


def test_a_batch_of_padding_only_is_no_division_by_zero():
    from minigpt_repl.training.trainable import mean_cross_entropy

    logits = np.ones((1, 4, ROWS), "float32")
    assert float(mean_cross_entropy(logits, np.zeros((1, 4), "int32"))) == 0.0
