"""What `scripts/train_longer.py` adds: teachers, half ways, models begun anew."""

from pathlib import Path

import numpy as np
import pytest
from test_trainer import WORDS, make_trainer, small

from minigpt_repl.training.dataset import Windows
from minigpt_repl.training.recipes import DEFAULT

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The scripts can be imported as one imports the other."""
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_begun_anew_it_has_the_others_embeddings_and_blocks_that_add_nothing(
    make_causal_lm,
):
    import train_longer

    old = make_causal_lm(tie_weights=True, normalize_first=True)
    shape = {"num_layers": 1, "num_heads": 2, "intermediate_dim": 8}
    size = {"hidden_dim": 16, "context_length": 32, "vocabulary_size": 80}
    recipe = DEFAULT.changed(all_rows=True, mixed_precision=False, **shape, **size)
    new = train_longer.begun_anew(old, recipe)
    assert new.backbone.rotary and not old.backbone.rotary
    ids = np.array([[2, 5, 9, 4]], "int32")
    embedded = old.backbone.token_embedding(ids)
    expected = old.backbone.final_norm(embedded)
    states = new.backbone({"token_ids": ids, "padding_mask": ids})
    np.testing.assert_allclose(states, expected, rtol=1e-5, atol=1e-6)


def test_a_draft_agrees_where_its_most_probable_token_is_the_models():
    import keras
    from distillation import agreement, same_choices

    ids = np.arange(1, 9)[None]
    of_draft, of_model = np.array(
        [[0, 1, 2, 3, 3, 1, 2, 0, 1], [0, 1, 2, 0, 3, 2, 2, 0, 3]]
    )
    draft, model = keras.layers.Embedding(9, 4), keras.layers.Embedding(9, 4)
    for layer, best in ((draft, of_draft), (model, of_model)):
        layer.build()
        # Logits that differ by less than one, of which none is 0.
        layer.set_weights([1.5 + 0.25 * np.eye(4)[best]])
    choices = same_choices(draft, model)
    assert np.array_equal(
        choices.predict(ids, verbose=0)[0], (of_draft == of_model)[1:]
    )
    windows = Windows(ids, np.array([[5, 6, 7, 8, 1, 2, 0, 0]]))
    choices.compile()
    assert agreement(choices, windows) == pytest.approx(4 / 6)


@pytest.mark.slow
def test_halfway_is_the_mean_of_the_first_and_the_best_and_measured_there():
    from train_longer import go_halfway

    trainer = make_trainer(small(DEFAULT))
    first = trainer.model.get_weights()
    run = trainer.train()
    count, seen, best = len(run.evaluations), run.on_seen, trainer.best_weights
    go_halfway(trainer, first)
    ends = zip(first, best, strict=True)
    for weights, (one, other) in zip(trainer.model.get_weights(), ends, strict=True):
        np.testing.assert_allclose(weights, (one + other) / 2, atol=1e-6)
    measured = trainer.evaluator.measure(trainer.data.validation).loss
    assert run.best.loss == run.evaluations[-1].loss == pytest.approx(measured)
    assert len(run.evaluations) == count
    assert run.on_seen != seen


@pytest.mark.slow
def test_taught_it_comes_to_be_like_its_teacher_who_stays_as_it_is():
    from distillation import pupil

    from minigpt_repl.models.causal_lm import MiniGPTTokenizer
    from minigpt_repl.training.trainable import build_model

    recipe = small(DEFAULT).changed(zero_outputs=False)
    teacher = build_model(recipe, MiniGPTTokenizer(list(WORDS)), seed=2)
    # Sure of much that the text does not bear out.
    table = teacher.backbone.token_embedding.embeddings
    table.assign(np.asarray(table) * 30)
    before = teacher.get_weights()
    trainer = make_trainer(recipe, make=lambda *given: pupil(*given, [teacher]))
    untaught = make_trainer(recipe)
    shapes = [each.shape for each in untaught.model.variables]
    assert [each.shape for each in trainer.model.variables] == shapes
    ids = trainer.data.validation.inputs
    far = apart(trainer.model, teacher, ids)
    trainer.train()
    untaught.train()
    taught, own_way = (apart(each.model, teacher, ids) for each in (trainer, untaught))
    assert taught < 0.95 * far < own_way
    for one, other in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_teachers_take_turns_by_the_batch():
    from distillation import pupil

    from minigpt_repl.models.causal_lm import MiniGPTTokenizer
    from minigpt_repl.training.trainable import build_model

    recipe = small(DEFAULT).changed(mixed_precision=False)
    learns, one, other = (
        build_model(recipe, MiniGPTTokenizer(list(WORDS)), seed=seed)
        for seed in (1, 2, 3)
    )
    teach = pupil(learns, recipe, [one, other]).teach
    for ids, teacher in (([[2, 3, 5]], one), ([[2, 4, 5]], other)):
        ids = np.array(ids, "int32")
        given = teacher({"token_ids": ids, "padding_mask": ids})
        np.testing.assert_allclose(teach(ids), given, rtol=1e-5)


def apart(model, teacher, ids):
    """Mean divergence of two models' probabilities."""
    from keras import ops

    given = teacher({"token_ids": ids, "padding_mask": ids})
    own, given = (
        np.asarray(ops.log_softmax(ops.cast(logits, "float32")))
        for logits in (model(ids), given)
    )
    return float(np.sum(np.exp(given) * (given - own), axis=-1).mean())


def test_half_of_the_target_is_the_teachers_and_half_the_text():
    import tensorflow as tf
    from distillation import taught_cross_entropy

    rng = np.random.default_rng(6)
    logits, taught = rng.normal(0, 4, (2, 2, 6, 37))
    labels = rng.integers(1, 37, (2, 6))
    labels[1, 3:] = 0
    is_token = (labels > 0)[..., None]
    softmax = lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)  # noqa: E731
    target = (softmax(taught) + np.eye(37)[labels]) / 2
    expected = -(is_token * target * np.log(softmax(logits))).sum() / 9
    ours = tf.convert_to_tensor(logits, "float32")
    with tf.GradientTape() as tape:
        tape.watch(ours)
        loss = taught_cross_entropy(ours, taught, labels)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(
        tape.gradient(loss, ours), is_token * (softmax(logits) - target) / 9, atol=1e-6
    )
