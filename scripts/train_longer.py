#!/usr/bin/env python3
"""Goes on training a finished checkpoint, then teaches its draft model anew from it.

    scripts/train_longer.py --corpus simplebooks.zip --out checkpoints/longer

The rate rises within 100 steps and then falls linearly to zero. Of the decoder blocks
the matrices are trained, norms and biases stay as they are: a step takes 7% less time.
With `--beginnings 0.6` the last 60% of the steps see only beginnings of lines, as a
prompt is one. Stopped, the same command goes on.

The draft model learns from the model's own probabilities instead of from the text
(distillation: G. Hinton et al. (2015), arXiv 1503.02531), because what counts is how
often the model agrees with it.
"""

import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click
from rich.console import Console

from minigpt_repl.engine.quiet import quiet
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.paths import training_folder
from minigpt_repl.training.progress import Display
from minigpt_repl.training.recipes import (
    Length,
    Recipe,
    learning_rate,
    saved_fields,
)
from minigpt_repl.training.resume import locked, remove_state
from minigpt_repl.training.sources import SIMPLEBOOKS_URL

TOLD_EVERY = 100
DRAFT_RATE = 4e-3


@click.command()
@click.option("--corpus", default=SIMPLEBOOKS_URL, metavar="SRC")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    default=Path("checkpoints/default"),
    show_default=True,
    help="The one to go on from; its text must be the corpus.",
)
@click.option("--steps", type=click.IntRange(1), default=9000, show_default=True)
@click.option("--learning-rate", "rate", default=4.5e-3, show_default=True)
@click.option(
    "--beginnings",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="The last share of the steps, which sees only beginnings of lines.",
)
@click.option("--draft-steps", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--seed", type=int, default=77, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="A new folder."
)
def train_longer(
    corpus: str,
    checkpoint: Path,
    steps: int,
    rate: float,
    beginnings: float,
    draft_steps: int,
    seed: int,
    out: Path,
) -> None:
    """Train a checkpoint further, and its draft model on what it has become."""
    if out.exists():
        raise click.UsageError(f"{out} is there already: name another with --out")
    display = Display(Console(file=sys.stderr))
    with quiet(), contextlib.closing(display) as progress, locked(out):
        from minigpt_repl.models.checkpoint import load_checkpoint, save_checkpoint
        from minigpt_repl.training.callbacks import ShowProgress
        from minigpt_repl.training.dataset import training_data
        from minigpt_repl.training.trainable import in_float32
        from minigpt_repl.training.trainer import Plan, Trainer

        begun = load_checkpoint(checkpoint)
        before = begun.record.training
        recipe = falling(before["recipe"], rate).changed(beginnings=beginnings)
        text = same_text(corpus, begun, recipe, progress)
        model = taken_up(begun.causal_lm, recipe)
        length = Length(steps=steps)
        shown = ShowProgress(progress, length)
        plan = Plan(length, seed=seed, state_folder=training_folder(out))
        data = training_data(recipe, text)
        trainer = Trainer(model, recipe, data, plan, [shown])
        trainer.resume()
        run = trainer.train()
        shown.close()
        record = continued_record(before, recipe, seed, text, run)
        draft = begun.draft
        if draft is not None:
            smaller = falling(before["draft"]["recipe"], DRAFT_RATE)
            draft = taken_up(draft, smaller)
            told = distil(
                trainer.model, draft, smaller, data, draft_steps, seed, progress
            )
            record["draft"] = before["draft"] | {"distilled": told}
            draft = in_float32(draft)
        save_checkpoint(out, in_float32(model), record, draft)
        remove_state(training_folder(out))


def falling(recipe: dict[str, Any], rate: float) -> Recipe:
    """A checkpoint's own recipe, but with a rate that falls from the first step on."""
    return Recipe(**saved_fields(recipe)).changed(
        learning_rate=rate, schedule="trapezoid", decay_fraction=1.0
    )


def same_text(corpus: str, begun: Any, recipe: Recipe, progress: Any) -> Any:
    """The text that a checkpoint was made from, ready to train on.

    Raises:
        click.UsageError: if it is another one.
    """
    from minigpt_repl.training.corpus import load_corpus
    from minigpt_repl.training.prepared_text import prepare_text

    record = begun.record
    loaded = load_corpus(
        corpus,
        record.training["data"]["min_length"],
        progress,
        tokenizer=record.tokenizer,
        document=record.document,
    )
    text = prepare_text(loaded, recipe.vocabulary_size, record.lowercase, progress)
    words = begun.causal_lm.preprocessor.tokenizer.get_vocabulary()
    if text.vocabulary.tokenizer().get_vocabulary() != words:
        raise click.UsageError(f"{begun.directory} was made from another text")
    return text


def taken_up(causal_lm: Any, recipe: Recipe) -> Any:
    """The same model in the recipe's precision, whose matrices alone learn."""
    from minigpt_repl.training.trainable import build_model

    model = build_model(recipe, causal_lm.preprocessor.tokenizer, seed=0)
    model.set_weights(causal_lm.get_weights())
    for variable in model.trainable_variables:
        if len(variable.shape) < 2 or "bias" in variable.path:
            variable.trainable = False
    return model


def continued_record(
    before: dict[str, Any], recipe: Recipe, seed: int, text: Any, run: Any
) -> dict[str, Any]:
    """How the model was made, its steps and time counted from the very beginning."""
    from minigpt_repl.training.pipeline import training_record

    steps, seconds = before["steps"], before["wall_seconds"]
    record = training_record(recipe, seed, text, run)

    def later(evaluation: dict[str, Any]) -> dict[str, Any]:
        moved = {
            "step": evaluation["step"] + steps,
            "elapsed": evaluation["elapsed"] + seconds,
        }
        return evaluation | moved

    losses = [(step + steps, loss) for step, loss in record["training_losses"]]
    # What it was before, all the way back; its history is in the new one's.
    apart = ("history", "training_losses", "data", "draft")
    begun_as = {name: before[name] for name in before if name not in apart}
    return record | {
        "steps": record["steps"] + steps,
        "wall_seconds": record["wall_seconds"] + seconds,
        "metrics": later(record["metrics"]),
        "history": before["history"] + [later(each) for each in record["history"]],
        "training_losses": [*before["training_losses"], *losses],
        "begun_as": begun_as,
    }


def distil(
    teacher: Any,
    draft: Any,
    recipe: Recipe,
    data: Any,
    steps: int,
    seed: int,
    progress: Any,
) -> dict[str, Any]:
    """Has a draft model learn from the model for so many steps.

    Args:
        teacher: the model, from ids to logits; stays as it is.
        draft: the draft model; learns in place.
        recipe: the draft model's.
        data: windows of the text that both learned from.
        steps: how many to take.
        seed: of the windows' order.
        progress: is told the loss now and then.

    Returns:
        What the record tells of it: how often the draft's most probable token is the
        model's, before and after, on the validation text.
    """
    import keras

    from minigpt_repl.training.dataset import batches
    from minigpt_repl.training.devices import jit_compile
    from minigpt_repl.training.trainable import trainable

    student = trainable(draft, replace(recipe, name="student"))
    teacher.trainable = False
    pair = by_position(divergence, student, teacher)
    pair.compile(
        student.optimizer,
        loss=lambda _, losses: keras.ops.mean(losses),
        jit_compile=jit_compile(),
    )
    choices = by_position(is_same_choice, student, teacher)
    choices.compile(jit_compile=jit_compile())
    before = agreement(choices, data.validation)
    feed = batches(data.train, recipe.feeding, recipe.batch_size, seed)
    for step, (inputs, _) in zip(range(steps), feed, strict=False):
        pair.optimizer.learning_rate.assign(learning_rate(recipe, step, step / steps))
        loss = pair.train_on_batch(inputs.astype("int32"), inputs.astype("float32"))
        if (step + 1) % TOLD_EVERY == 0:
            progress.say(f"draft: step {step + 1:,}, loss {float(loss):.4f}")
    teacher.trainable = True  # the checkpoint's configuration has it
    after = agreement(choices, data.validation)
    return {"steps": steps, "agreed_before": before, "agreed": after}


def by_position(measure: Any, draft: Any, model: Any) -> Any:
    """A model from ids to what a measure says of two models' logits."""
    import keras

    ids = keras.Input((None,), dtype="int32")
    # The layer casts the logits to its dtype, whatever the models' own is.
    layer = keras.layers.Lambda(measure, output_shape=(None,), dtype="float32")
    return keras.Model(ids, layer([draft(ids), model(ids)]))


def divergence(logits: Any) -> Any:
    """The draft's cross-entropy under the model, by position: `(batch, length)`.

    Its gradient is the difference of the two distributions.
    """
    from keras import ops

    of_draft, of_model = logits
    surprise = ops.logsumexp(of_draft, axis=-1, keepdims=True) - of_draft
    return ops.sum(ops.softmax(of_model) * surprise, axis=-1)


def is_same_choice(logits: Any) -> Any:
    """1 where both hold one token most probable, by position: `(batch, length)`."""
    from keras import ops

    of_draft, of_model = (ops.argmax(each, axis=-1) for each in logits)
    return ops.cast(ops.equal(of_draft, of_model), "float32")


def agreement(choices: Any, windows: Any) -> float:
    """Share of the windows' labels before which both hold one token most probable."""
    from minigpt_repl.training.dataset import PAD_ID, for_predict

    inputs = [windows.inputs.astype("int32")]
    is_same = choices.predict(**for_predict(inputs, 64), verbose=0)
    return float(is_same[windows.labels != PAD_ID].mean())


if __name__ == "__main__":
    try:
        train_longer()
    except MiniGPTError as error:
        sys.exit(str(error))
