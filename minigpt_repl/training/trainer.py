"""The training itself: steps, evaluations, saved states; to its end or to a stop.

A plain loop around Keras' `train_on_batch`. It tells a `Progress` how far it is;
whatever else wants to watch is a Keras callback and finds its figures in `logs`.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.shown import as_perplexity, in_bits_a_byte
from minigpt_repl.training.dataset import (
    TrainingData,
    recipe_batches,
    steps_per_epoch,
)
from minigpt_repl.training.devices import own_rows
from minigpt_repl.training.progress import SILENT, Progress
from minigpt_repl.training.recipes import Length, Recipe, learning_rate
from minigpt_repl.training.resume import State, check_same, load_state, save_state
from minigpt_repl.training.trainable import Evaluation, Evaluator

EVALUATIONS = 20  # at most, or so: a small text is through many times in a minute
SAVE_EVERY = 50.0  # seconds; with a step and an evaluation still under a minute
SAVE_FIRST = 5.0  # seconds until the first time
SPEED_OVER = 100  # steps that the speed is measured over
FORETOLD_AT = 30  # steps, after which the speed tells when a run will end

SHOWN = ("step", "loss", "learning_rate", "tokens_per_second", "seconds_left")
"""What a step's figures hold that the progress shows."""


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
    # Asked after every step; `True` ends the run, state saved.
    should_stop: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    progress: Progress = SILENT  # told of every step and every evaluation
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
    """Trains one model by one recipe, in place.

    The callbacks' `logs` hold `step`, `epochs` (how often the text was seen), `loss`
    (the mean since the last evaluation), `learning_rate`, `progress`,
    `tokens_per_second` and `seconds_left` after each step. After each evaluation, which
    Keras calls the end of an epoch, also `val_loss`, `val_perplexity`,
    `val_bits_per_byte` and `best_step`.
    """

    def __init__(
        self,
        model: keras.Model,
        recipe: Recipe,
        data: TrainingData,
        plan: Plan,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.data = data
        self.plan = plan
        self.run = Run()
        self.evaluator = Evaluator(model, data.tokens_per_byte)
        self.best_weights: list[Any] = []
        self._callbacks = [*callbacks]
        epoch = steps_per_epoch(recipe.feeding, len(data.train), recipe.batch_size)
        usual = epoch if recipe.feeding == "cut" else min(epoch, 250)
        least = math.ceil((plan.length.steps or 0) / EVALUATIONS)
        self.evaluate_every = plan.evaluate_every or max(usual, least)
        self._steps_per_epoch = epoch
        self._rate = recipe.learning_rate
        # Sum and number of the losses since the last evaluation.
        self._loss_sum, self._losses = 0.0, 0
        # When the last steps ended, evaluations left out. The first of all is traced,
        # and in none of them.
        self._ends: deque[tuple[int, float]] = deque(maxlen=SPEED_OVER)
        self._seconds_evaluated = 0.0

    def train(self) -> Run:
        """Make all the steps that are left; the best weights are the model's then.

        Raises:
            DivergedError: if the loss is NaN or infinite.
            MiniGPTError: if the state can't be saved.
        """
        run = self.run
        self._began = self.plan.clock() - run.elapsed
        if run.step % self.evaluate_every == 0:
            self._catch_up()
        if not self.is_over():
            self._make_steps()
        if run.was_stopped:
            return run
        self._catch_up()
        self.model.set_weights(self.best_weights)
        self.measure_on_seen()
        return run

    def measure_on_seen(self) -> None:
        """Measure the model as it is on as much of the training text."""
        run, data = self.run, self.data
        seen = data.train.spread(len(data.validation))
        run.on_seen = self.evaluator.measure(seen, run.step, run.elapsed)

    def _make_steps(self) -> None:
        """Until the run is over or stopped; a stop at the last step is none."""
        run, clock = self.run, self.plan.clock
        feed = self._batches()
        unit, total = self.plan.length.counted
        self.plan.progress.start("train", round(total), unit)
        saved = clock() - SAVE_EVERY + SAVE_FIRST
        self._call("set_model", self.model)
        self._call("on_train_begin")
        while not (self.is_over() or run.was_stopped):
            figures = self._step(*next(feed))
            self._tell(figures, total)
            self._call("on_train_batch_end", run.step, figures)
            run.was_stopped = self.plan.should_stop() and not self.is_over()
            # Stopped within a round, it goes on to its end when it is resumed, so that
            # evaluations fall on the same steps as without the break.
            is_round = run.step % self.evaluate_every == 0 or self.is_over()
            is_evaluated = is_round and self._is_due()
            if is_evaluated:
                round_number = (run.step - 1) // self.evaluate_every
                figures = self._evaluate_round()
                self.plan.progress.say(evaluated(run))
                self._call("on_epoch_end", round_number, figures)
            if is_evaluated or run.was_stopped or clock() - saved > SAVE_EVERY:
                self.save()
                saved = clock()
        self._call("on_train_end")
        self.plan.progress.finish()

    def _call(self, hook: str, *arguments: Any) -> None:
        for each in self._callbacks:
            getattr(each, hook)(*arguments)

    def _batches(self) -> Iterator[tuple[Any, Any]]:
        feed = recipe_batches(
            self.data.train,
            self.recipe,
            self.plan.seed,
            self.run.step,
            lambda step: self.plan.length.progress(step, self.run.elapsed),
        )
        for inputs, labels in feed:
            yield own_rows(inputs), own_rows(labels)

    def _step(self, inputs: Any, labels: Any) -> dict[str, float]:
        """One step; returns its figures."""
        run = self.run
        self._rate = learning_rate(self.recipe, run.step, self.progress)
        self.model.optimizer.learning_rate.assign(self._rate)
        loss = self.model.train_on_batch(inputs, labels, return_dict=True)["loss"]
        run.step += 1
        run.elapsed = self.plan.clock() - self._began
        if not np.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} at step {run.step}: go on from the last saved "
                "state with --resume, or start anew with a lower --learning-rate"
            )
        self._loss_sum += float(loss)
        self._losses += 1
        self._ends.append((run.step, self.plan.clock() - self._seconds_evaluated))
        return self._figures()

    def _tell(self, figures: dict[str, float], total: float) -> None:
        """Show a step; once, when the run will end."""
        progress, run = self.plan.progress, self.run
        if len(self._ends) == FORETOLD_AT:
            end = time.localtime(time.time() + figures["seconds_left"])
            times = figures["epochs"] / figures["progress"]
            progress.say(
                f"about {times:,.1f} times through the text, until "
                f"{time.strftime('%H:%M', end)}"
            )
        shown = {name: figures[name] for name in SHOWN}
        if run.evaluations:
            shown["val_perplexity"] = run.evaluations[-1].perplexity
        progress.advance(round(figures["progress"] * total), **shown)

    def _evaluate_round(self) -> dict[str, float]:
        """Evaluate after a round; returns its figures, the evaluation's with them."""
        run, before = self.run, self.plan.clock()
        run.losses.append((run.step, self._loss_sum / self._losses))
        evaluation = self.evaluate()
        now = self.plan.clock()
        self._seconds_evaluated += now - before
        run.elapsed = now - self._began
        figures = self._figures() | {
            "val_loss": evaluation.loss,
            "val_perplexity": evaluation.perplexity,
            "val_bits_per_byte": evaluation.bits_per_byte,
            "best_step": run.best.step if run.best else run.step,
        }
        self._loss_sum, self._losses = 0.0, 0
        return figures

    def _figures(self) -> dict[str, float]:
        run, recipe, progress = self.run, self.recipe, self.progress
        (first, began), (last, now) = self._ends[0], self._ends[-1]
        tokens = (last - first) * recipe.batch_size * recipe.context_length
        left = run.elapsed * (1 - progress) / progress if progress else math.inf
        return {
            "step": run.step,
            "loss": self._loss_sum / self._losses,
            "learning_rate": self._rate,
            "progress": progress,
            "tokens_per_second": tokens / (now - began) if now > began else 0.0,
            "seconds_left": left,
            "epochs": run.step / self._steps_per_epoch,
        }

    def _is_due(self) -> bool:
        """Whether a round's end is evaluated: of a run by the clock, not each."""
        run, plan = self.run, self.plan
        if plan.evaluate_every or plan.length.seconds is None or not run.evaluations:
            return True
        last = run.evaluations[-1]
        since = self.progress - plan.length.progress(last.step, last.elapsed)
        return self.is_over() or since > 0.999 / EVALUATIONS

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


def evaluated(run: Run) -> str:
    """The last evaluation, for people; once, that only the training text is learned."""
    last, (step, loss) = run.evaluations[-1], run.losses[-1]
    told = (
        f"step {step}: loss {loss:.3f}, validation perplexity "
        f"{as_perplexity(last.perplexity)}, "
        f"{in_bits_a_byte(last.bits_per_byte)} bits a byte"
    )
    best = run.best.step if run.best else step
    losses = dict(run.losses)
    since_best = [each for each in run.evaluations if each.step > best]
    if len(since_best) == 2 and loss < losses.get(best, -math.inf):
        told += (
            f"\nno longer learning: validation was best after step {best:,}, since "
            "then the text is learned by heart. The best is kept; more text helps, "
            "--patience ends such a run early"
        )
    return told
