"""How `train_longer.py` teaches one model what others know, and how alike they are.

Distillation: G. Hinton et al. (2015), arXiv 1503.02531. Half of what is learned are the
teachers' probabilities, half is the text.
"""

import functools
from collections.abc import Sequence
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

from minigpt_repl.models.text.codec import PAD_ID
from minigpt_repl.training.devices import jit_compile
from minigpt_repl.training.recipes import Recipe
from minigpt_repl.training.trainable import (
    Learner,
    compiled,
    ids_and_logits,
    learner,
    mean_over_tokens,
)

AT_ONCE = 64
"""Windows on which two models are compared at once; changes the speed only."""


class Pupil(Learner):
    """Learns the text, and what other models give on the same ids.

    Attributes:
        teach: from ids to their logits. A function, because the weights of models that
            are attributes would be this model's, and saved with every state.
    """

    teach: Any = None

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """As Keras asks for it."""
        return taught_cross_entropy(y_pred, self.teach(x), y)


def pupil(causal_lm: Any, recipe: Recipe, teachers: Sequence[Any]) -> Any:
    """As `trainable`, but it learns from other models of the same vocabulary, too."""
    model = learner(Pupil, causal_lm, recipe)
    model.teach = by_turns([keras.Model(*ids_and_logits(each)) for each in teachers])
    return model


def by_turns(models: list[keras.Model]) -> Any:
    """From ids to the logits of one of the models."""

    def teach(ids: Any) -> Any:
        # Which one follows from the batch, so that the choice needs no state. Over many
        # batches the gradient is that of the mean of all models' probabilities, and a
        # step takes the time of one.
        turn = ops.mod(ops.sum(ids), len(models))
        answers = [functools.partial(model, ids) for model in models]
        return ops.stop_gradient(ops.switch(turn, answers))

    return teach


def taught_cross_entropy(logits: Any, taught: Any, labels: Any) -> Any:
    """The cross-entropy under a teacher's probabilities, and under the text, by halves.

    Its gradient is the difference of the model's distribution and the target, which is
    the mean of the teacher's and the one that is sure of the label.

    Args:
        logits: float tensor of shape `(batch, length, rows)`.
        taught: the teacher's logits, of the same shape.
        labels: int tensor of shape `(batch, length)`; where it is `[PAD]`, nothing
            counts.
    """
    labels = ops.cast(labels, "int32")
    return mean_over_tokens(_half_taught()(logits, taught, labels), labels)


@cache
def _half_taught() -> Any:
    """From logits, a teacher's and labels to the loss by position."""

    def cross_entropy(logits: Any, taught: Any, labels: Any) -> Any:
        logits, taught = (ops.cast(each, "float32") for each in (logits, taught))
        target = ops.softmax(taught) + ops.one_hot(labels, logits.shape[-1])
        at_target = ops.sum(target * logits, axis=-1) / 2
        return ops.logsumexp(logits, axis=-1) - at_target  # (batch, length)

    return compiled(cross_entropy)


def same_choices(draft: Any, model: Any) -> Any:
    """From ids to where two models hold one token most probable."""
    ids = keras.Input((None,), dtype="int32")
    layer = keras.layers.Lambda(is_same_choice, output_shape=(None,), dtype="float32")
    choices = keras.Model(ids, layer([draft(ids), model(ids)]))
    choices.compile(jit_compile=jit_compile())
    return choices


def is_same_choice(logits: Any) -> Any:
    """1 where both hold one token most probable, by position: `(batch, length)`."""
    of_draft, of_model = (ops.argmax(each, axis=-1) for each in logits)
    return ops.cast(ops.equal(of_draft, of_model), "float32")


def agreement(choices: Any, windows: Any) -> float:
    """Share of the windows' labels before which both hold one token most probable."""
    inputs, labels = windows.batch()
    is_same = [
        choices.predict_on_batch(inputs[start : start + AT_ONCE])
        for start in range(0, len(inputs), AT_ONCE)
    ]
    return float(np.concatenate(is_same)[labels != PAD_ID].mean())
