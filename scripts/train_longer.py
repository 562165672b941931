#!/usr/bin/env python3
"""Goes on training a finished checkpoint, then teaches its draft model anew from it.

    scripts/train_longer.py --corpus simplebooks.zip --out checkpoints/longer

The rate rises within 100 steps and then falls linearly to zero. Of the decoder blocks
the matrices are trained, norms and biases stay as they are: a step takes 7% less time.
Stopped, the same command goes on. The draft model learns from the model's own
probabilities instead of from the text (distillation: G. Hinton et al. (2015),
arXiv 1503.02531), because what counts is how often the model agrees with it.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click
from rich.console import Console

from minigpt_repl.engine.quiet import quiet
from minigpt_repl.paths import training_folder
from minigpt_repl.training.progress import Display
from minigpt_repl.training.recipes import Length, Recipe, learning_rate
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
    draft_steps: int,
    seed: int,
    out: Path,
) -> None:
    """Train a checkpoint further, and its draft model on what it has become."""
    with quiet():
        from minigpt_repl.models.checkpoint import load_checkpoint, save_checkpoint
        from minigpt_repl.training.callbacks import ShowProgress
        from minigpt_repl.training.corpus import load_corpus
        from minigpt_repl.training.dataset import training_data
        from minigpt_repl.training.prepared_text import prepare_text
        from minigpt_repl.training.trainable import in_float32
        from minigpt_repl.training.trainer import Plan, Trainer

        progress = Display(Console(file=sys.stderr))
        begun = load_checkpoint(checkpoint)
        recipe = falling(begun.record.training["recipe"], begun.causal_lm, rate)
        told = begun.record
        loaded = load_corpus(
            corpus,
            told.training["data"]["min_length"],
            progress,
            tokenizer=told.tokenizer,
            document=told.document,
        )
        text = prepare_text(loaded, recipe.vocabulary_size, told.lowercase, progress)
        words = begun.causal_lm.preprocessor.tokenizer.get_vocabulary()
        if text.vocabulary.tokenizer().get_vocabulary() != words:
            raise click.UsageError(f"{checkpoint} was made from another text")
        model = taken_up(begun.causal_lm, recipe)
        length = Length(steps=steps)
        shown = ShowProgress(progress, length)
        plan = Plan(length, seed=seed, state_folder=training_folder(out))
        data = training_data(recipe, text)
        trainer = Trainer(model, recipe, data, plan, [shown])
        trainer.resume()
        run = trainer.train()
        shown.close()
        record = continued_record(begun, recipe, seed, text, run)
        draft = begun.draft
        if draft is not None:
            smaller = falling(record["draft"]["recipe"], draft, DRAFT_RATE)
            draft, agreed = distilled(
                trainer.model,
                taken_up(draft, smaller),
                smaller,
                data,
                draft_steps,
                seed,
            )
            record["draft"]["distilled"] = agreed
            draft = in_float32(draft)
        save_checkpoint(out, in_float32(model), record, draft)


def falling(recipe: dict[str, Any], causal_lm: Any, rate: float) -> Recipe:
    """A checkpoint's own recipe, but with a rate that falls from the first step on."""
    words = causal_lm.preprocessor.tokenizer.vocabulary_size()
    return Recipe(**recipe).changed(
        learning_rate=rate,
        schedule="trapezoid",
        decay_fraction=1.0,
        all_rows=causal_lm.backbone.vocabulary_size > words,
    )


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
    begun: Any, recipe: Recipe, seed: int, text: Any, run: Any
) -> dict[str, Any]:
    """How the model was made, its steps and time counted from the very beginning."""
    from minigpt_repl.training.pipeline import training_record

    before = begun.record.training
    steps, seconds = before["steps"], before["wall_seconds"]
    record = training_record(recipe, seed, text, run)

    def later(evaluation: dict[str, Any]) -> dict[str, Any]:
        moved = {
            "step": evaluation["step"] + steps,
            "elapsed": evaluation["elapsed"] + seconds,
        }
        return evaluation | moved

    losses = [(step + steps, loss) for step, loss in record["training_losses"]]
    begun_as = ("recipe", "seed", "steps", "wall_seconds", "metrics", "versions")
    return record | {
        "steps": record["steps"] + steps,
        "wall_seconds": record["wall_seconds"] + seconds,
        "metrics": later(record["metrics"]),
        "history": before["history"] + [later(each) for each in record["history"]],
        "training_losses": [*before["training_losses"], *losses],
        "begun_as": {name: before[name] for name in begun_as},
        "draft": dict(before.get("draft", {})),
    }


def distilled(
    teacher: Any, learner: Any, recipe: Recipe, data: Any, steps: int, seed: int
) -> tuple[Any, dict[str, Any]]:
    """A draft model after so many steps of learning from the model.

    Args:
        teacher: the model, from ids to logits; stays as it is.
        learner: the draft model; learns in place.
        recipe: the draft model's.
        data: windows of the text that both learned from.
        steps: how many to take.
        seed: of the windows' order.

    Returns:
        The draft model, and what the record tells of it: how often its most probable
        token is the model's, before and after, on the validation text.
    """
    import keras

    from minigpt_repl.training.dataset import batches
    from minigpt_repl.training.trainable import make_optimizer, trainable

    student = trainable(learner, replace(recipe, name="student"))
    teacher.trainable = False
    ids = keras.Input((None,), dtype="int32")
    losses = keras.layers.Lambda(divergence, output_shape=(None,), dtype="float32")(
        [student(ids), teacher(ids)]
    )
    pair = keras.Model(ids, losses)
    pair.compile(
        make_optimizer(recipe),
        loss=lambda _, losses: keras.ops.mean(losses),
        jit_compile=False,
    )
    before = agreement(student, teacher, data)
    feed = batches(data.train, recipe.feeding, recipe.batch_size, seed)
    for step, (inputs, _) in zip(range(steps), feed, strict=False):
        rate = learning_rate(recipe, step, step / steps)
        pair.optimizer.learning_rate.assign(rate)
        loss = pair.train_on_batch(inputs.astype("int32"), inputs.astype("float32"))
        if (step + 1) % TOLD_EVERY == 0:
            click.echo(f"draft: step {step + 1:,}, loss {float(loss):.4f}", err=True)
    after = agreement(student, teacher, data)
    teacher.trainable = True  # the checkpoint's configuration has it
    return learner, {"steps": steps, "agreed_before": before, "agreed": after}


def divergence(logits: Any) -> Any:
    """The draft's cross-entropy under the model, by position: `(batch, length)`.

    Its gradient is the difference of the two distributions.
    """
    from keras import ops

    of_draft, of_model = (ops.cast(each, "float32") for each in logits)
    surprise = ops.logsumexp(of_draft, axis=-1, keepdims=True) - of_draft
    return ops.sum(ops.softmax(of_model) * surprise, axis=-1)


def agreement(student: Any, teacher: Any, data: Any) -> float:
    """Share of validation positions at which both hold one token most probable."""
    same = seen = 0
    for start in range(0, len(data.validation), 64):
        windows = slice(start, start + 64)
        ids = data.validation.inputs[windows].astype("int32")
        is_token = data.validation.labels[windows] != 0
        best = [
            model.predict_on_batch(ids).astype("float32").argmax(-1)
            for model in (student, teacher)
        ]
        same += int(((best[0] == best[1]) & is_token).sum())
        seen += int(is_token.sum())
    return same / seen


if __name__ == "__main__":
    train_longer()
