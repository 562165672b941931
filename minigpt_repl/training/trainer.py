"""The training itself: steps, evaluations, saved states; to its end or to a stop.

Keras' `fit` makes the steps, paced by a callback that must come first. Whatever wants
to watch is a Keras callback after that, and finds its figures in `logs`.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.lm import MiniGPTCausalLM
from minigpt_repl.training.dataset import (
    Batches,
    TrainingData,
    for_fit,
    recipe_batches,
    steps_per_epoch,
)
from minigpt_repl.training.devices import own_rows
from minigpt_repl.training.losses import Evaluation, Evaluator
from minigpt_repl.training.recipes import Length, Recipe, learning_rate
from minigpt_repl.training.resume import State, check_same, load_state, save_state
from minigpt_repl.training.trainable import trainable

NO_END = 1_000_000
"""Rounds of a run that a clock ends."""

EVALUATIONS = 20
"""About the most in a run: a small text is through many times in a minute."""

SAVE_EVERY = 50.0
"""Seconds; a step and an evaluation longer still leave it under a minute."""

SAVE_FIRST = 5.0
"""Seconds until the first time."""

SPEED_OVER = 100
"""Steps that the speed is measured over."""


class DivergedError(MiniGPTError):
    """The loss is NaN or infinite."""


@dataclass(frozen=True)
class Plan:
    """How a run goes, apart from recipe and data."""

    length: Length
    seed: int = 1  # of the batches' order
    state_folder: Path | None = None  # no state is saved without
    evaluate_every: int | None = None  # steps; `None` for the recipe's own
    patience: int | None = None  # evaluations without a new best before it stops early
    halfway: bool = False  # the weights end midway between the first and the best
    # Asked after every step; `True` ends the run, state saved.
    should_stop: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    is_chief: bool = True  # whether this process saves the state; all of them read it
    # How the run was asked for, kept in the state.
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """A training as it stands."""

    step: int = 0  # steps taken
    elapsed: float = 0.0  # seconds trained, across resumes
    evaluations: list[Evaluation] = field(default_factory=list)
    # Steps, and the mean training loss of the round that ends there.
    losses: list[tuple[int, float]] = field(default_factory=list)
    best: Evaluation | None = None
    # The best weights on as much of the training text, at the end.
    on_seen: Evaluation | None = None
    was_stopped: bool = False  # before its end


class Trainer:
    """Trains one causal LM by one recipe, in place.

    Beside the text it learns the probabilities of its teachers. The callbacks' `logs`
    hold `step`, `epochs` (how often the text was seen), `loss`, `learning_rate`,
    `progress`, `tokens_per_second` and `seconds_left` after each step. After each
    evaluation, at the end of what Keras calls an epoch, also `val_loss`,
    `val_perplexity`, `val_bits_per_byte` and `best_step`.
    """

    def __init__(
        self,
        causal_lm: MiniGPTCausalLM,
        recipe: Recipe,
        data: TrainingData,
        plan: Plan,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        teachers: Sequence[MiniGPTCausalLM] = (),
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.plan = plan
        self.run = Run()
        self.model = trainable(causal_lm, recipe, teachers)
        self.evaluator = Evaluator(self.model, data.tokens_per_byte)
        self.best_weights: list[Any] = []
        self._first_weights = self.model.get_weights() if plan.halfway else []
        self._callbacks = list(callbacks)
        epoch = steps_per_epoch(recipe.feeding, len(data.train), recipe.batch_size)
        usual = epoch if recipe.feeding == "cut" else min(epoch, 250)
        least = math.ceil((plan.length.steps or 0) / EVALUATIONS)
        self.evaluate_every = plan.evaluate_every or max(usual, least)

    def train(self) -> Run:
        """Make all the steps that are left; the best weights are the model's then.

        With `plan.halfway` it is the mean of the first and the best.

        Raises:
            DivergedError: if the loss is NaN or infinite.
            MiniGPTError: if the state can't be saved.
        """
        pacer = _Pacer(self)
        late = self.run.step % self.evaluate_every
        if late:
            # The rest of a round that was broken off, so that evaluations fall on
            # the same steps as without the break.
            self._fit(pacer, self.evaluate_every - late, rounds=1)
        else:
            self._catch_up()
        self._fit(pacer, self.evaluate_every, rounds=NO_END)
        if self.run.was_stopped:
            return self.run
        self._catch_up()
        self.model.set_weights(self.best_weights)
        if self.plan.halfway:
            self._go_halfway()
        seen = self.data.train.spread(len(self.data.validation))
        self.run.on_seen = self.evaluator.measure(seen, self.run.step, self.run.elapsed)
        return self.run

    def _go_halfway(self) -> None:
        ends = zip(self._first_weights, self.best_weights, strict=True)
        self.model.set_weights([(first + best) / 2 for first, best in ends])
        # In place of the end's, so that the last one tells of the weights there are.
        self.run.best = None
        self.run.evaluations.pop()
        self.evaluate()

    def _catch_up(self) -> None:
        """Evaluate, if the run was killed between a step and its evaluation."""
        measured = {each.step for each in self.run.evaluations}
        if self.run.step and self.run.step not in measured:
            self.evaluate()

    def evaluate(self) -> Evaluation:
        """Measure the model as it is; the best weights so far are kept."""
        run = self.run
        evaluation = self.evaluator.measure(self.data.validation, run.step, run.elapsed)
        run.evaluations.append(evaluation)
        if run.best is None or evaluation.loss < run.best.loss:
            run.best = evaluation
            self.best_weights = self.model.get_weights()
        return evaluation

    @property
    def progress(self) -> float:
        """The share of the run that is over, from 0 to 1."""
        return self.plan.length.progress(self.run.step, self.run.elapsed)

    def is_over(self) -> bool:
        """Whether the run has its whole length, or no more patience."""
        run, patience = self.run, self.plan.patience
        if patience is not None and run.best is not None:
            since = sum(each.step > run.best.step for each in run.evaluations)
            if since >= patience:
                return True
        return self.progress >= 1

    def _fit(self, pacer: "_Pacer", steps: int, rounds: int) -> None:
        if self.run.was_stopped or self.is_over():
            return
        done = self.run.step // self.evaluate_every
        self.model.fit(
            for_fit(self._batches, self.recipe.context_length),
            steps_per_epoch=steps,
            initial_epoch=done,
            epochs=done + rounds,
            callbacks=[pacer, *self._callbacks],
            verbose=0,
        )

    def _batches(self) -> Batches:
        feed = recipe_batches(
            self.data.train,
            self.recipe,
            self.plan.seed,
            self.run.step,
            lambda step: self.plan.length.progress(step, self.run.elapsed),
        )
        for inputs, labels in feed:
            yield own_rows(inputs), own_rows(labels)

    def save(self) -> None:
        """Save the state, if the plan names a place for it."""
        if self.plan.state_folder is None or not self.plan.is_chief:
            return
        header = {
            "options": dict(self.plan.options),
            "recipe": asdict(self.recipe),
            "seed": self.plan.seed,
            "data": self.data.fingerprint,
            "step": self.run.step,
            "progress": self.progress,
            "elapsed": self.run.elapsed,
            "evaluations": [asdict(each) for each in self.run.evaluations],
            "losses": self.run.losses,
        }
        groups = {
            "model": [np.asarray(each) for each in self.model.variables],
            "optimizer": [np.asarray(each) for each in self.model.optimizer.variables],
            "best": self.best_weights,
        }
        save_state(self.plan.state_folder, State(header, groups))

    def resume(self) -> bool:
        """Take up the saved state; `False` if there is none.

        Raises:
            CheckpointError: if the state can't be read.
            UsageError: if it belongs to another recipe, seed or text.
        """
        folder = self.plan.state_folder
        state = load_state(folder) if folder is not None else None
        if state is None:
            return False
        check_same(state, asdict(self.recipe), self.plan.seed, self.data.fingerprint)
        variables = {
            "model": self.model.variables,
            "optimizer": self.model.optimizer.variables,
        }
        for group, members in variables.items():
            shapes = [tuple(each.shape) for each in members]
            if shapes != [each.shape for each in state.groups[group]]:
                raise UsageError(
                    "the unfinished training is of another version of minigpt-repl, "
                    "whose model is built otherwise: start anew with --overwrite"
                )
            for variable, value in zip(members, state.groups[group], strict=True):
                variable.assign(value)
        self.best_weights = list(state.groups["best"])
        evaluations = [Evaluation(**each) for each in state.header["evaluations"]]
        self.run = Run(
            step=state.header["step"],
            elapsed=state.header["elapsed"],
            evaluations=evaluations,
            losses=[(step, loss) for step, loss in state.header["losses"]],
            best=min(evaluations, key=lambda each: each.loss, default=None),
        )
        return True


class _Pacer(keras.callbacks.Callback):
    """Sets the rate before each step; counts, evaluates, saves and stops after it."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self._trainer = trainer
        self._clock = trainer.plan.clock
        self._began = self._clock() - trainer.run.elapsed
        self._saved = self._clock() - SAVE_EVERY + SAVE_FIRST
        # When the last steps ended. The first of all is traced, and in none of them.
        self._ends: deque[tuple[int, float]] = deque(maxlen=SPEED_OVER)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """The step's learning rate."""
        trainer = self._trainer
        self._rate = learning_rate(trainer.recipe, trainer.run.step, trainer.progress)
        # `self.model`, not the trainer's: on JAX a step's variables are attached to
        # the model only when a callback asks for it.
        self.model.optimizer.learning_rate.assign(self._rate)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count, tell, save once a minute, and stop when it is time.

        Raises:
            DivergedError: if the loss is NaN or infinite.
        """
        trainer, run = self._trainer, self._trainer.run
        run.step += 1
        run.elapsed = self._clock() - self._began
        if not np.isfinite(logs["loss"]):
            raise DivergedError(
                f"the loss is {logs['loss']} at step {run.step}: go on from the last "
                "saved state with --resume, or start anew with a lower --learning-rate"
            )
        self._ends.append((run.step, self._clock()))
        logs.update(self._figures())
        # A stop asked for at the last step is no stop.
        run.was_stopped = trainer.plan.should_stop() and not trainer.is_over()
        if run.was_stopped or trainer.is_over():
            self.model.stop_training = True
        if run.was_stopped or self._clock() - self._saved > SAVE_EVERY:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Evaluate, unless the round was broken off."""
        trainer, run = self._trainer, self._trainer.run
        # Resumed, the round goes on to its end and is evaluated then.
        is_broken_off = run.was_stopped and run.step % trainer.evaluate_every
        if is_broken_off or not self._is_due():
            return
        run.losses.append((run.step, float(logs["loss"])))
        before = self._clock()
        evaluation = trainer.evaluate()
        now = self._clock()
        run.elapsed = now - self._began
        # As if it had taken no time.
        moved = [(step, end + now - before) for step, end in self._ends]
        self._ends = deque(moved, SPEED_OVER)
        logs.update(
            self._figures(),
            val_loss=evaluation.loss,
            val_perplexity=evaluation.perplexity,
            val_bits_per_byte=evaluation.bits_per_byte,
            best_step=run.best.step if run.best else run.step,
        )
        if trainer.is_over():
            self.model.stop_training = True
        self._save()

    def _is_due(self) -> bool:
        """Whether a round's end is evaluated: of a run by the clock, not each."""
        run, plan = self._trainer.run, self._trainer.plan
        if plan.evaluate_every or plan.length.seconds is None or not run.evaluations:
            return True
        last = run.evaluations[-1]
        before = plan.length.progress(last.step, last.elapsed)
        since = self._trainer.progress - before
        return self._trainer.is_over() or since > 0.999 / EVALUATIONS

    def _save(self) -> None:
        # This gets the step's variables attached on JAX, as in `on_train_batch_begin`.
        assert self.model is self._trainer.model
        self._trainer.save()
        self._saved = self._clock()

    def _figures(self) -> dict[str, float]:
        run, recipe = self._trainer.run, self._trainer.recipe
        progress = self._trainer.progress
        left = run.elapsed * (1 - progress) / progress if progress else float("inf")
        windows = len(self._trainer.data.train)
        epoch = steps_per_epoch(recipe.feeding, windows, recipe.batch_size)
        (first, began), (last, now) = self._ends[0], self._ends[-1]
        tokens = (last - first) * recipe.batch_size * recipe.context_length
        return {
            "step": run.step,
            "learning_rate": self._rate,
            "progress": progress,
            "tokens_per_second": tokens / (now - began) if now > began else 0.0,
            "seconds_left": left,
            "epochs": run.step / epoch,
        }
