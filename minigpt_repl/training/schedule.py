"""How long a run is, and what the learning rate is at each of its steps.

Plain arithmetic: no clock of its own, no model.
"""

import math
from dataclasses import dataclass

from minigpt_repl.errors import UsageError
from minigpt_repl.training.recipes import Recipe


@dataclass(frozen=True)
class Length:
    """When a run ends: after so many steps, or after so many seconds.

    Attributes:
        steps: of the optimizer, or `None`.
        seconds: of training, all sittings of a resumed run together, or `None`.
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise UsageError("give a run's length in steps or in minutes, one of them")
        length = self.steps if self.seconds is None else self.seconds
        if length is None or length <= 0:
            raise UsageError(f"a run must be longer than nothing, but {length} is not")

    def progress(self, step: int, elapsed: float) -> float:
        """The share of the run that is over, from 0 to 1.

        Args:
            step: steps taken so far.
            elapsed: seconds trained so far.
        """
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        assert self.seconds is not None  # one of the two is given
        return min(elapsed / self.seconds, 1.0)


def learning_rate(recipe: Recipe, step: int, progress: float) -> float:
    """The rate of a step.

    A linear warm-up by steps, times the recipe's schedule by `progress`. So a run
    that is measured in minutes ends with the rate at zero as well.

    Args:
        recipe: names the peak, the warm-up and the schedule.
        step: steps taken before this one.
        progress: share of the run that is over.
    """
    rate = recipe.learning_rate
    if step < recipe.warmup_steps:
        rate *= (step + 1) / recipe.warmup_steps
    if recipe.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * progress)) / 2
    elif recipe.schedule == "trapezoid":
        rate *= min(1.0, (1 - progress) / recipe.decay_fraction)
    return rate
