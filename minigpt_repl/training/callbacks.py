"""What watches a training: the display's figures, sample texts, the curve.

Keras callbacks that read the figures `trainer.py` puts into `logs`.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from minigpt_repl.files import explained
from minigpt_repl.lm import MiniGPTCausalLM
from minigpt_repl.models.causal_lm import text_of
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec
from minigpt_repl.shown import as_perplexity, in_bits_a_byte
from minigpt_repl.training.devices import alone
from minigpt_repl.training.progress import Progress
from minigpt_repl.training.recipes import Length
from minigpt_repl.training.trainable import in_float32
from minigpt_repl.training.trainer import Evaluation

SAMPLE_LENGTH = 60
"""Tokens of a sample, `[BOS]` and prompt with them."""

SHOWN = ("step", "loss", "learning_rate", "tokens_per_second", "seconds_left")
"""What a step's `logs` hold that the display shows."""

FORETOLD_AT = 30
"""Steps after which the speed is known well enough to say when a run will end."""


class ShowProgress(keras.callbacks.Callback):
    """Tells a `Progress` about every step and every evaluation.

    A run is counted in steps or in seconds, or where both may end it in per cent.
    """

    def __init__(self, progress: Progress, length: Length) -> None:
        super().__init__()
        self._progress = progress
        ends = (("steps", length.steps), ("seconds", length.seconds))
        given = [(unit, float(end)) for unit, end in ends if end is not None]
        self._unit, self._total = given[0] if len(given) == 1 else ("%", 100.0)
        self._perplexity: float | None = None
        self._loss_at_best = float("inf")
        self._rounds_since_best = 0
        self._has_foretold = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._progress.start("train", round(self._total), self._unit)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        figures = {name: logs[name] for name in SHOWN}
        if logs["step"] >= FORETOLD_AT and not self._has_foretold:
            self._has_foretold = True
            end = time.localtime(time.time() + logs["seconds_left"])
            times = logs["epochs"] / logs["progress"]
            self._progress.say(
                f"about {times:,.1f} times through the text, until "
                f"{time.strftime('%H:%M', end)}"
            )
        if self._perplexity is not None:
            figures["val_perplexity"] = self._perplexity
        self._progress.advance(round(logs["progress"] * self._total), **figures)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._perplexity = logs["val_perplexity"]
        self._progress.say(
            f"step {logs['step']}: loss {logs['loss']:.3f}, validation perplexity "
            f"{as_perplexity(logs['val_perplexity'])}, "
            f"{in_bits_a_byte(logs['val_bits_per_byte'])} bits a byte"
        )
        self._tell_overfitting(logs)

    def _tell_overfitting(self, logs: Any) -> None:
        """Say once that what is still learned is the training text alone."""
        if logs["best_step"] == logs["step"]:
            self._loss_at_best, self._rounds_since_best = logs["loss"], 0
            return
        self._rounds_since_best += 1
        if self._rounds_since_best == 2 and logs["loss"] < self._loss_at_best:
            self._progress.say(
                f"no longer learning: validation was best after step "
                f"{logs['best_step']:,}, since then the text is learned by heart. The "
                "best is kept; more text helps, --patience ends such a run early"
            )

    def on_train_end(self, logs: Any = None) -> None:
        self._progress.finish()


class ShowSample(keras.callbacks.Callback):
    """Shows a text at each evaluation, as the reference example does.

    The causal LM shares its weights with the model in training. One on many devices is
    copied: they would share a single row.
    """

    def __init__(
        self,
        causal_lm: MiniGPTCausalLM,
        spec: SamplerSpec,
        values: Mapping[str, Value],
        progress: Progress,
        prompt: str = "",
        seed: int = 1,
    ) -> None:
        super().__init__()
        self._trained = causal_lm
        with alone() as is_copy:
            self._causal_lm = in_float32(causal_lm) if is_copy else causal_lm
        self._progress = progress
        self._prompt = prompt
        self._name = spec.brief(values)
        self._causal_lm.compile(sampler=spec.make(values, seed))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        with alone() as is_copy:
            if is_copy:
                self._causal_lm.set_weights(self._trained.get_weights())
            text = sample_text(self._causal_lm, self._prompt)
        self._progress.say(f"{self._name}: {text}")


def sample_text(causal_lm: MiniGPTCausalLM, prompt: str) -> str:
    """A text by the sampler that the model is compiled with, for people to read."""
    tokenizer = causal_lm.preprocessor.tokenizer
    length = min(SAMPLE_LENGTH, causal_lm.backbone.max_sequence_length)
    packed = causal_lm.preprocessor.generate_preprocess([prompt], length)
    # `generate` takes ids when there is no preprocessor in between, and gives ids.
    preprocessor, causal_lm.preprocessor = causal_lm.preprocessor, None
    try:
        ids = causal_lm.generate(packed, stop_token_ids=None)["token_ids"][0]
    finally:
        causal_lm.preprocessor = preprocessor
    text = text_of(tokenizer)
    known = [int(id) for id in ids[1:] if id < len(text.pieces)]
    shown = [id for id in known if id not in text.special_ids]
    return "".join(text.parts("", (), shown))


def draw_curves(path: Path, curves: Sequence[tuple[str, Sequence[Evaluation]]]) -> None:
    """Draw validation perplexity over steps, of one or more named runs, into a PNG.

    Raises:
        MiniGPTError: if the file can't be written.
    """
    # The object interface: no window, no global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, evaluations in curves:
        axes.plot(
            [each.step for each in evaluations],
            [each.perplexity for each in evaluations],
            marker=".",
            label=name,
        )
    axes.set(xlabel="steps", ylabel="validation perplexity", yscale="log")
    axes.yaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_minor_formatter("{x:.0f}")
    axes.grid(which="both", alpha=0.3)
    if len(curves) > 1:
        axes.legend()
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
