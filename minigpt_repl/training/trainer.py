"""The training itself: steps, evaluations, saved states; to its end or to a stop.

Keras' `fit` makes the steps, paced by a callback (`pacer.py`). Whatever wants to
watch is a Keras callback after that, and finds its figures in `logs`. Knows no
files but the state's, no terminal and no signals.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from minigpt_repl.errors import UsageError
from minigpt_repl.lm import MiniGPTCausalLM
from minigpt_repl.training.distribution import own_rows
from minigpt_repl.training.evaluation import Evaluation, Evaluator
from minigpt_repl.training.feed import Batches, for_fit
from minigpt_repl.training.model import trainable
from minigpt_repl.training.pacer import Pacer
from minigpt_repl.training.plan import Plan, Run, TrainingData
from minigpt_repl.training.recipes import Recipe
from minigpt_repl.training.state import State, load_state, save_state
from minigpt_repl.training.windows import batches, steps_per_epoch

NO_END = 1_000_000
"""Rounds of a run that a clock ends."""


class Trainer:
    """Trains one causal LM by one recipe.

    Args:
        causal_lm: the model; its weights are trained in place.
        recipe: what is done at each step.
        data: windows for training and validation.
        plan: how long, and with which order of batches.
        callbacks: watchers. Their `logs` hold `step`, `epochs`, `loss`,
            `learning_rate`, `progress`, `tokens_per_second` and `seconds_left` after
            each step; after each evaluation, which is what Keras calls an epoch, also
            `val_loss`, `val_perplexity` and `val_bits_per_byte`. `epochs` is how
            often the text was seen.
    """

    def __init__(
        self,
        causal_lm: MiniGPTCausalLM,
        recipe: Recipe,
        data: TrainingData,
        plan: Plan,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.plan = plan
        self.run = Run()
        self.model = trainable(causal_lm, recipe)
        self.evaluator = Evaluator(self.model, data.validation, data.tokens_per_byte)
        self.best_weights: list[Any] = []
        self._callbacks = list(callbacks)
        epoch = steps_per_epoch(recipe.feeding, len(data.train), recipe.batch_size)
        usual = epoch if recipe.feeding == "cut" else min(epoch, 250)
        self.evaluate_every = plan.evaluate_every or usual

    def train(self) -> Run:
        """Make all the steps that are left; the best weights are the model's then.

        Raises:
            DivergedError: if the loss stops being a number.
            MiniGPTError: if the state can't be saved.
        """
        pacer = Pacer(self)
        late = self.run.step % self.evaluate_every
        if not late:
            self._catch_up()
        if late and not pacer.is_over():
            # The rest of a round that was broken off, so that evaluations fall on
            # the same steps as without the break.
            self._fit(pacer, self.evaluate_every - late, rounds=1)
        if not self.run.was_stopped and not pacer.is_over():
            self._fit(pacer, self.evaluate_every, rounds=NO_END)
        if self.run.was_stopped:
            return self.run
        self._catch_up()
        self.model.set_weights(self.best_weights)
        return self.run

    def _catch_up(self) -> None:
        """Evaluate, if the run was killed between a step and its evaluation."""
        measured = {each.step for each in self.run.evaluations}
        if self.run.step and self.run.step not in measured:
            self.evaluate()

    def evaluate(self) -> Evaluation:
        """Measure the model as it is; the best weights so far are kept."""
        run = self.run
        evaluation = self.evaluator.measure(run.step, run.elapsed)
        run.evaluations.append(evaluation)
        if run.best is None or evaluation.loss < run.best.loss:
            run.best = evaluation
            self.best_weights = self.model.get_weights()
        return evaluation

    def _fit(self, pacer: "Pacer", steps: int, rounds: int) -> None:
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
        feed = batches(
            self.data.train,
            self.recipe.feeding,
            self.recipe.batch_size,
            self.plan.seed,
            self.run.step,
        )
        for inputs, labels in feed:
            yield own_rows(inputs), own_rows(labels)

    def save(self) -> None:
        """Save the state, if the plan names a place for it."""
        if self.plan.state_folder is None or not self.plan.is_chief:
            return
        header = {
            "recipe": self.recipe.to_json(),
            "seed": self.plan.seed,
            "data": self.data.fingerprint,
            "step": self.run.step,
            "elapsed": self.run.elapsed,
            "evaluations": [each.to_json() for each in self.run.evaluations],
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
        self._check_same(state)
        variables = {
            "model": self.model.variables,
            "optimizer": self.model.optimizer.variables,
        }
        for group, members in variables.items():
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

    def _check_same(self, state: State) -> None:
        saved = state.header["recipe"]
        for name, value in self.recipe.to_json().items():
            if saved.get(name) != value:
                raise UsageError(
                    f"the unfinished training has {name} {saved.get(name)}, not "
                    f"{value}: resume with the same options, or start anew with "
                    "--overwrite"
                )
        if state.header["seed"] != self.plan.seed:
            raise UsageError(
                f"the unfinished training has seed {state.header['seed']}, not "
                f"{self.plan.seed}: resume with the same seed, or start anew with "
                "--overwrite"
            )
        if state.header["data"] != self.data.fingerprint:
            raise UsageError(
                "the unfinished training is of another text or vocabulary: resume with "
                "the same --corpus, or start anew with --overwrite"
            )
