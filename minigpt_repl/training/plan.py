"""A run of the training as values: what it needs, how it goes, how it stands."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from minigpt_repl.errors import MiniGPTError
from minigpt_repl.training.evaluation import Evaluation
from minigpt_repl.training.schedule import Length
from minigpt_repl.training.windows import Windows


class DivergedError(MiniGPTError):
    """The loss is no number any more."""


@dataclass(frozen=True)
class TrainingData:
    """What is trained on and measured with.

    Attributes:
        train: windows as the recipe's feeding makes them.
        validation: windows as the reference cuts them.
        tokens_per_byte: of the validation text.
        fingerprint: tells this text and vocabulary from all others.
    """

    train: Windows
    validation: Windows
    tokens_per_byte: float
    fingerprint: str


@dataclass(frozen=True)
class Plan:
    """How a run goes, apart from recipe and data.

    Attributes:
        length: when it ends.
        seed: of the batches' order.
        state_folder: where the state is saved, or `None` to save none.
        evaluate_every: steps between evaluations; `None` for the recipe's own.
        patience: evaluations without a new best before it stops early, or `None`.
        should_stop: asked after every step; `True` ends the run, state saved.
        clock: seconds that only grow.
        is_chief: whether the state is saved by this process; all of them read it.
    """

    length: Length
    seed: int = 1
    state_folder: Path | None = None
    evaluate_every: int | None = None
    patience: int | None = None
    should_stop: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    is_chief: bool = True


@dataclass
class Run:
    """A training as it stands; the trainer changes it, others read it.

    Attributes:
        step: steps taken.
        elapsed: seconds trained, all sittings together.
        evaluations: in the order they were made.
        losses: `(step, mean training loss since the one before)`.
        best: the evaluation with the lowest loss.
        was_stopped: whether it was told to stop before its end.
    """

    step: int = 0
    elapsed: float = 0.0
    evaluations: list[Evaluation] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    best: Evaluation | None = None
    was_stopped: bool = False
