"""Keeps time for a training: the rate of each step, evaluations, saves, the end.

A Keras callback that must come first; those after it find its figures in `logs`.
Knows the trainer it works for, a clock and nothing else.
"""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from minigpt_repl.training.plan import DivergedError
from minigpt_repl.training.schedule import learning_rate
from minigpt_repl.training.windows import steps_per_epoch

if TYPE_CHECKING:
    from minigpt_repl.training.trainer import Trainer

SAVE_EVERY = 50.0
"""Seconds; a step and an evaluation longer still leave it under a minute."""


class Pacer(keras.callbacks.Callback):
    """Sets the rate before each step; counts, evaluates, saves and stops after it.

    Args:
        trainer: whose run it paces.
    """

    def __init__(self, trainer: "Trainer") -> None:
        super().__init__()
        self._trainer = trainer
        self._clock = trainer.plan.clock
        self._began = self._clock() - trainer.run.elapsed
        self._saved = self._clock()
        self._mark = (trainer.run.step, self._clock())
        self._tokens_per_second = 0.0
        self._is_steady = False

    def is_over(self) -> bool:
        """Whether the run has its whole length."""
        run = self._trainer.run
        return self._trainer.plan.length.progress(run.step, run.elapsed) >= 1

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """The step's learning rate."""
        run, plan = self._trainer.run, self._trainer.plan
        progress = plan.length.progress(run.step, run.elapsed)
        self._rate = learning_rate(self._trainer.recipe, run.step, progress)
        # `self.model`, not the trainer's: on JAX a step's variables are attached to
        # the model only when a callback asks for it.
        self.model.optimizer.learning_rate.assign(self._rate)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count, tell, save once a minute, and stop when it is time.

        Raises:
            DivergedError: if the loss is no number.
        """
        run, plan = self._trainer.run, self._trainer.plan
        run.step += 1
        run.elapsed = self._clock() - self._began
        if not np.isfinite(logs["loss"]):
            raise DivergedError(
                f"the loss is {logs['loss']} at step {run.step}: go on from the last "
                "saved state with --resume, or start anew with a lower --learning-rate"
            )
        self._measure_speed()
        logs.update(self._figures())
        # A stop asked for at the last step is no stop.
        run.was_stopped = plan.should_stop() and not self.is_over()
        if run.was_stopped or self.is_over():
            self.model.stop_training = True
        if run.was_stopped or self._clock() - self._saved > SAVE_EVERY:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Evaluate, unless the round was broken off."""
        trainer, run = self._trainer, self._trainer.run
        if run.was_stopped and run.step % trainer.evaluate_every:
            # Resumed, the round goes on to its end and is evaluated then.
            return
        run.losses.append((run.step, float(logs["loss"])))
        before = self._clock()
        evaluation = trainer.evaluate()
        now = self._clock()
        run.elapsed = now - self._began
        step, then = self._mark
        self._mark = (step, then + now - before)  # as if it had taken no time
        logs.update(
            self._figures(),
            val_loss=evaluation.loss,
            val_perplexity=evaluation.perplexity,
            val_bits_per_byte=evaluation.bits_per_byte,
        )
        if self._lost_patience():
            self.model.stop_training = True
        self._save()

    def _lost_patience(self) -> bool:
        run, patience = self._trainer.run, self._trainer.plan.patience
        if patience is None or run.best is None:
            return False
        since = sum(each.step > run.best.step for each in run.evaluations)
        return since >= patience

    def _save(self) -> None:
        self._trainer.save()
        self._saved = self._clock()

    def _measure_speed(self) -> None:
        recipe, (step, then) = self._trainer.recipe, self._mark
        now, steps = self._clock(), self._trainer.run.step - step
        if not steps or now <= then:
            return
        # Over some seconds, so that the figure can be read. Before that, over those
        # that there are, without the first step, which is traced.
        is_first, is_long = not self._tokens_per_second, now - then > 5
        if is_long or not self._is_steady:
            tokens = steps * recipe.batch_size * recipe.context_length
            self._tokens_per_second = tokens / (now - then)
        if is_long or is_first:
            self._mark = (self._trainer.run.step, now)
            self._is_steady = not is_first

    def _figures(self) -> dict[str, float]:
        run, recipe = self._trainer.run, self._trainer.recipe
        progress = self._trainer.plan.length.progress(run.step, run.elapsed)
        left = run.elapsed * (1 - progress) / progress if progress else float("inf")
        return {
            "step": run.step,
            "learning_rate": self._rate,
            "progress": progress,
            "tokens_per_second": self._tokens_per_second,
            "seconds_left": left,
            "epochs": run.step
            / steps_per_epoch(
                recipe.feeding, len(self._trainer.data.train), recipe.batch_size
            ),
        }
