"""A training that is broken off goes on as if it had not been."""

import dataclasses
import io

import numpy as np
import pytest

from minigpt_repl.errors import CheckpointError, UsageError
from minigpt_repl.training.dataset import cut_windows, packed_windows
from minigpt_repl.training.recipes import DEFAULT, TUTORIAL, Length

pytestmark = pytest.mark.slow

WORDS = ["[PAD]", "[UNK]", "[BOS]", *(f"w{number}" for number in range(40))]
CONTEXT = 16
STEPS = 13
EVERY = 5

SMALL = {
    "num_layers": 1,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 16,
    "context_length": CONTEXT,
    "vocabulary_size": 50,
    "batch_size": 8,
}


def small(recipe):
    return recipe.changed(**SMALL, warmup_steps=min(recipe.warmup_steps, 3))


def make_data(recipe, fingerprint="text"):
    """A made-up language: each word is one to three after the one before."""
    from minigpt_repl.training.dataset import TrainingData

    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 40, 200)
    ids = np.cumsum(rng.integers(1, 4, lengths.sum())) % 40 + 3
    windows = cut_windows if recipe.feeding == "cut" else packed_windows
    train = windows(ids, lengths, CONTEXT)
    valid = cut_windows(ids[: lengths[:10].sum()], lengths[:10], CONTEXT)
    return TrainingData(train, valid, 0.25, fingerprint)


def make_trainer(recipe, folder=None, stop_at=None, callbacks=(), make=None, **plan):
    from minigpt_repl.models.causal_lm import MiniGPTTokenizer
    from minigpt_repl.training.trainable import build_model, trainable
    from minigpt_repl.training.trainer import Plan, Trainer

    arguments = {
        "length": Length(steps=STEPS),
        "evaluate_every": EVERY,
        "should_stop": lambda: trainer.run.step == stop_at,
    } | plan
    causal_lm = build_model(recipe, MiniGPTTokenizer(list(WORDS)), seed=1)
    trainer = Trainer(
        (make or trainable)(causal_lm, recipe),
        recipe,
        make_data(recipe),
        Plan(state_folder=folder, **arguments),
        callbacks,
    )
    return trainer


@pytest.fixture(scope="module", params=[DEFAULT, TUTORIAL], ids=lambda each: each.name)
def unbroken(request):
    trainer = make_trainer(small(request.param))
    trainer.train()
    return trainer


def test_it_learns_and_evaluates_at_every_fifth_step_and_the_last(unbroken):
    evaluations = unbroken.run.evaluations
    assert [each.step for each in evaluations] == [5, 10, 13]
    assert evaluations[-1].loss < evaluations[0].loss < np.log(43) + 0.5
    assert evaluations[-1].perplexity == pytest.approx(np.exp(evaluations[-1].loss))
    assert [step for step, _ in unbroken.run.losses] == [5, 10, 13]


def test_stopped_and_resumed_again_and_again_it_ends_alike(unbroken, tmp_path):
    first = make_trainer(unbroken.recipe, tmp_path, stop_at=3)
    assert not first.resume()
    assert first.train().was_stopped
    # In mid-round, at a round's end, one step before the end, at the end.
    stops = [5, 6, 12, STEPS]
    trainer = make_trainer(unbroken.recipe, tmp_path, should_stop=lambda: False)
    for stop_at in stops:
        for variable in [*trainer.model.variables, *trainer.model.optimizer.variables]:
            variable.assign(variable * 0)  # nothing but the state is gone on with
        stops_here = lambda stop_at=stop_at: trainer.run.step == stop_at  # noqa: E731
        trainer.plan = dataclasses.replace(trainer.plan, should_stop=stops_here)
        assert trainer.resume()
        run = trainer.train()
        assert run.step == stop_at
        assert run.was_stopped == (stop_at < STEPS)
    for mine, other in zip(
        trainer.model.get_weights(), unbroken.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, other, atol=1e-5)
    for mine, other in zip(run.evaluations, unbroken.run.evaluations, strict=True):
        assert mine.step == other.step
        assert mine.loss == pytest.approx(other.loss, abs=1e-4)


def test_an_evaluation_missed_by_a_kill_is_made_up_for(tmp_path):
    trainer = make_trainer(small(DEFAULT), tmp_path, stop_at=EVERY)
    trainer.train()
    # As if killed after the step's save and before the evaluation.
    trainer.run.evaluations.clear()
    trainer.save()
    again = make_trainer(small(DEFAULT), tmp_path)
    again.resume()
    assert [each.step for each in again.train().evaluations] == [5, 10, 13]


def test_the_best_weights_are_kept_and_patience_ends_the_run():
    import keras

    class Spoil(keras.callbacks.Callback):
        """After the second round, weights that predict nothing."""

        def on_epoch_end(self, epoch, logs=None):
            if epoch >= 1:
                for variable in trainer.model.trainable_variables:
                    variable.assign(variable * 30.0)

    trainer = make_trainer(
        small(DEFAULT), length=Length(steps=100), patience=2, callbacks=[Spoil()]
    )
    run = trainer.train()
    assert run.step == 20
    assert run.best is not None
    assert run.best.step == 10
    again = trainer.evaluator.measure(trainer.data.validation)
    assert again.loss == pytest.approx(run.best.loss, abs=1e-4)
    # The same weights on the text that was trained on, no more of it than of the other.
    seen = trainer.data.train.spread(len(trainer.data.validation))
    assert len(seen) <= len(trainer.data.validation)
    assert run.on_seen.loss == trainer.evaluator.measure(seen).loss


def test_a_loss_that_is_no_number_ends_it_in_one_line():
    from minigpt_repl.training.trainer import DivergedError

    trainer = make_trainer(small(DEFAULT))
    weight = trainer.model.trainable_variables[0]
    weight.assign(weight * np.nan)
    with pytest.raises(DivergedError, match=r"step 1:.*--learning-rate"):
        trainer.train()


def test_minutes_end_it_with_the_rate_at_its_end():
    seconds = iter(range(10_000))
    rates = []
    import keras

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(logs["learning_rate"])

    trainer = make_trainer(
        small(DEFAULT),
        length=Length(seconds=60.0),
        clock=lambda: float(next(seconds)),
        callbacks=[Watch()],
    )
    run = trainer.train()
    assert run.elapsed >= 60
    assert not run.was_stopped
    assert rates[-1] < 0.2 * max(rates)


def test_a_small_text_is_evaluated_about_twenty_times():
    recipe = small(DEFAULT)
    trainer = make_trainer(recipe, length=Length(steps=10_000), evaluate_every=None)
    assert trainer.evaluate_every == 500
    now = [0.0]
    by_clock = make_trainer(
        recipe, length=Length(seconds=1000.0), evaluate_every=None, clock=lambda: now[0]
    )
    by_clock.evaluate_every = 1

    def soon():
        now[0] += 10.0
        return False

    by_clock.plan = dataclasses.replace(by_clock.plan, should_stop=soon)
    run = by_clock.train()
    assert run.step in (100, 101)
    assert 19 <= len(run.evaluations) <= 22


def test_watchers_find_their_figures_in_logs():
    import keras

    steps, rounds = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(dict(logs))

        def on_epoch_end(self, epoch, logs=None):
            rounds.append(dict(logs))

    make_trainer(small(DEFAULT), callbacks=[Watch()]).train()
    assert [each["step"] for each in steps] == list(range(1, STEPS + 1))
    for name in ("loss", "learning_rate", "progress", "tokens_per_second"):
        assert all(each[name] >= 0 for each in steps)
    assert {"val_loss", "val_perplexity", "val_bits_per_byte"} <= set(rounds[0])


def test_its_progress_is_shown_like_that_of_other_stages():
    from rich.console import Console

    from minigpt_repl.training.progress import Display

    console = Console(file=io.StringIO(), width=200)
    make_trainer(small(DEFAULT), progress=Display(console)).train()
    told = console.file.getvalue()
    assert told.startswith("train: started\nstep 5: loss ")
    assert f"train: {STEPS}/{STEPS} steps, done in" in told
    assert told.count("validation perplexity") == 3


def test_learning_by_heart_is_said_once():
    from minigpt_repl.training.trainable import Evaluation
    from minigpt_repl.training.trainer import Run, evaluated

    run, lines = Run(), []
    for number in range(1, 7):
        step = 10 * number
        validation = abs(number - 2) + 1.0
        run.evaluations.append(Evaluation(step, 1.0, validation, 9.0, 1.0))
        run.losses.append((step, 5.0 - number))
        run.best = min(run.evaluations, key=lambda each: each.loss)
        lines.append(evaluated(run))
    figures = "validation perplexity 9.0, 1.000 bits a byte"
    assert lines[0] == f"step 10: loss 4.000, {figures}"
    told = [line for line in lines if "by heart" in line]
    assert told == [lines[3]]
    assert "best after step 20" in told[0]


def test_the_speed_is_that_of_the_steps():
    """Without the first step, which is traced, and without the evaluations."""
    import keras

    now, speeds = [0.0], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            speeds.append(logs["tokens_per_second"])

    recipe = small(DEFAULT)
    trainer = make_trainer(recipe, callbacks=[Watch()], clock=lambda: now[0])
    evaluate, step = trainer.evaluate, trainer.model.train_on_batch

    def slow_evaluate():
        now[0] += 100.0
        return evaluate()

    def slow_step(*batch, **options):
        now[0] += 1.0 if trainer.run.step else 50.0
        return step(*batch, **options)

    trainer.evaluate, trainer.model.train_on_batch = slow_evaluate, slow_step
    trainer.train()
    assert len(trainer.run.evaluations) >= 2
    tokens = recipe.batch_size * recipe.context_length
    assert speeds[1:] == pytest.approx([tokens] * (STEPS - 1))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"learning_rate": 0.5}, "learning_rate 0.008, not 0.5"),
        ({"num_layers": 2}, "num_layers 1, not 2"),
    ],
)
def test_another_recipe_does_not_resume(change, told, tmp_path):
    make_trainer(small(DEFAULT), tmp_path).save()
    other = make_trainer(small(DEFAULT).changed(**change), tmp_path)
    with pytest.raises(UsageError, match=told):
        other.resume()


def test_another_text_or_seed_does_not_resume(tmp_path):
    make_trainer(small(DEFAULT), tmp_path).save()
    with pytest.raises(UsageError, match="seed 1, not 2"):
        make_trainer(small(DEFAULT), tmp_path, seed=2).resume()
    other = make_trainer(small(DEFAULT), tmp_path)
    other.data = make_data(small(DEFAULT), fingerprint="another text")
    with pytest.raises(UsageError, match="another text"):
        other.resume()


def test_a_damaged_state_is_named_in_one_line(tmp_path):
    make_trainer(small(DEFAULT), tmp_path).save()
    path = tmp_path / "state.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"state\.npz.*--overwrite") as error:
        make_trainer(small(DEFAULT), tmp_path).resume()
    assert "\n" not in str(error.value)


def test_muon_takes_the_matrices_and_adam_the_rest():
    trainer = make_trainer(small(DEFAULT))
    optimizer = trainer.model.optimizer
    for variable in trainer.model.trainable_variables:
        by_adam = optimizer._should_use_adamw(variable)
        is_matrix = "transformer" in variable.path and "kernel" in variable.path
        assert by_adam != is_matrix, variable.path


def test_muon_steps_are_orthogonal_also_for_attention_kernels():
    trainer = make_trainer(
        small(DEFAULT).changed(zero_outputs=False), length=Length(steps=1)
    )
    before = {each.path: np.array(each) for each in trainer.model.trainable_variables}
    # Large enough to tell the step from the weight, and no decay in between.
    trainer.model.optimizer.weight_decay = 0.0
    trainer.train()
    checked = 0
    for variable in trainer.model.trainable_variables:
        if "kernel" not in variable.path:
            continue
        step = np.array(variable) - before[variable.path]
        if step.ndim == 3:
            is_output = "attention_output" in variable.path
            rows = -1 if is_output else step.shape[0]
            step = step.reshape(rows, step.shape[-1] if is_output else -1)
        values = np.linalg.svd(step, compute_uv=False)
        # Newton-Schulz brings singular values near one, not all to it.
        assert values.max() < 2 * np.median(values)
        checked += 1
    assert checked == 6


def test_muon_steps_many_matrices_at_once_as_one_by_one(monkeypatch):
    """The batched step's oracle is Keras' own step of each variable by itself."""
    import keras

    from minigpt_repl.training.trainable import BatchedMuon

    def update_one(self, gradient, variable, lr, m):
        # What Keras gives is TensorFlow's variable, which has no path.
        variable = self._trainable_variables[self._get_variable_index(variable)]
        self._step_together([(gradient, variable)], lr)

    together = make_trainer(small(DEFAULT), length=Length(steps=3))
    together.train()
    by_keras = keras.optimizers.Muon._backend_update_step
    monkeypatch.setattr(BatchedMuon, "_backend_update_step", by_keras)
    monkeypatch.setattr(BatchedMuon, "_muon_update_step", update_one)
    one_by_one = make_trainer(small(DEFAULT), length=Length(steps=3))
    one_by_one.train()
    # Five iterations in bfloat16, whose eps is 0.008, may make ten of it.
    for mine, other, start in zip(
        together.model.get_weights(),
        one_by_one.model.get_weights(),
        make_trainer(small(DEFAULT)).model.get_weights(),
        strict=True,
    ):
        moved = np.abs(other - start).max()
        assert moved > 1e-3
        np.testing.assert_allclose(mine, other, atol=0.08 * moved)
