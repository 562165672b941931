#!/usr/bin/env python3
"""Goes on training a finished checkpoint, then teaches its draft model anew from it.

    scripts/train_longer.py --corpus simplebooks.zip --out checkpoints/longer

The rate rises within 100 steps and then falls linearly to zero. Of the decoder blocks
the matrices are trained, norms and biases stay as they are: a step takes 7% less time.
With `--beginnings 0.6` the last 60% of the steps see only beginnings of lines, as a
prompt is one. Stopped, the same command goes on.

With `--teacher`, as often as you like, half of what it learns are other checkpoints'
probabilities, in each step those of one, and half is the text (distillation: G. Hinton
et al. (2015), arXiv 1503.02531): several ends of long runs know more together than each
alone. The draft model learns from the model in the same way, because what counts is how
often the model agrees with it. With `--anew` the pupil is a new model of the shape that
`--recipe default` has today, of which only the embeddings and the last norm are the
checkpoint's: so a better recipe inherits what the old one learned. With `--halfway` the
weights end in the middle between where they began and where the steps led: after a
short run at a low rate that is better than either end (M. Wortsman et al. (2022), arXiv
2109.01903).
"""

import contextlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click
from rich.console import Console

from minigpt_repl.engine.worker import quiet
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.paths import training_folder
from minigpt_repl.training.progress import Display
from minigpt_repl.training.recipes import DEFAULT, Length, Recipe, saved_fields
from minigpt_repl.training.resume import locked, remove_state
from minigpt_repl.training.sources import SIMPLEBOOKS_URL

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
@click.option(
    "--teacher",
    "teachers",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A checkpoint of the same vocabulary to learn from, beside the text.",
)
@click.option("--anew", is_flag=True, help="Begin with new blocks of today's shape.")
@click.option("--batch-size", type=click.IntRange(1), help="Windows a step.")
@click.option("--halfway", is_flag=True, help="Save the mean of both ends' weights.")
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
    teachers: tuple[Path, ...],
    anew: bool,
    batch_size: int | None,
    halfway: bool,
    draft_steps: int,
    seed: int,
    out: Path,
) -> None:
    """Train a checkpoint further, and its draft model on what it has become."""
    if out.exists():
        raise click.UsageError(f"{out} is there already: name another with --out")
    with contextlib.ExitStack() as during:
        during.enter_context(quiet())  # it gives another `sys.stderr`
        display = Display(Console(file=sys.stderr))
        progress = during.enter_context(contextlib.closing(display))
        during.enter_context(locked(out))
        from minigpt_repl.models.checkpoint import load_checkpoint, save_checkpoint
        from minigpt_repl.training.dataset import training_data
        from minigpt_repl.training.pipeline import training_record
        from minigpt_repl.training.trainable import in_float32, trainable
        from minigpt_repl.training.trainer import Plan, Trainer

        begun = load_checkpoint(checkpoint)
        before = begun.record.training
        shape = todays_shape(before["recipe"]) if anew else before["recipe"]
        recipe = falling(shape, rate).changed(
            beginnings=beginnings, batch_size=batch_size
        )
        text = same_text(corpus, begun, recipe, progress)
        taught_by = [of_same_words(folder, begun) for folder in teachers]
        model = (begun_anew if anew else taken_up)(begun.causal_lm, recipe)
        length = Length(steps=steps)
        state_folder = training_folder(out)
        plan = Plan(length, seed, state_folder=state_folder, progress=progress)
        data = training_data(recipe, text)
        others = [
            taken_up(each.causal_lm, falling(each.record.training["recipe"], rate))
            for each in taught_by
        ]
        learns = taught(model, recipe, others) if others else trainable(model, recipe)
        first = learns.get_weights()
        trainer = Trainer(learns, recipe, data, plan)
        trainer.resume()
        run = trainer.train()
        if halfway:
            go_halfway(trainer, first)
            assert run.best
            progress.say(f"halfway: validation perplexity {run.best.perplexity:.2f}")
        record = training_record(recipe, seed, text, run)
        if not anew:
            record = continued(before, record)
        record["begun_as"] = begun_as(before)
        record["halfway"] = halfway
        record["teachers"] = [each.record.training["metrics"] for each in taught_by]
        draft = None
        if begun.draft is not None:
            progress.say("now its draft model learns from it")
            length = Length(steps=draft_steps)
            plan = Plan(length, seed, evaluate_every=draft_steps, progress=progress)
            draft, told = taught_draft(begun, data, plan, model, trainer)
            record["draft"] = before["draft"] | {"distilled": told}
        save_checkpoint(out, in_float32(model), record, draft)
        remove_state(training_folder(out))


def falling(recipe: dict[str, Any], rate: float) -> Recipe:
    """A checkpoint's own recipe, but with a rate that falls from the first step on."""
    return Recipe(**saved_fields(recipe)).changed(
        learning_rate=rate, schedule="trapezoid", decay_fraction=1.0
    )


def todays_shape(recipe: dict[str, Any]) -> dict[str, Any]:
    """The default recipe as it is now, for the embeddings of another one."""
    kept = ("all_rows", "vocabulary_size", "hidden_dim", "context_length")
    then = saved_fields(recipe)
    return asdict(DEFAULT.changed(**{name: then[name] for name in kept}))


def same_text(corpus: str, begun: Any, recipe: Recipe, progress: Any) -> Any:
    """The text that a checkpoint was made from, ready to train on.

    Raises:
        click.UsageError: if it is another one.
    """
    from minigpt_repl.training.corpus import load_corpus
    from minigpt_repl.training.dataset import prepare_text

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


def of_same_words(folder: Path, begun: Any) -> Any:
    """A checkpoint whose token ids mean the same words.

    Raises:
        click.UsageError: if they do not.
    """
    from minigpt_repl.models.checkpoint import load_checkpoint

    other = load_checkpoint(folder)
    one, another = (
        each.causal_lm.preprocessor.tokenizer.get_vocabulary()
        for each in (begun, other)
    )
    if one != another:
        raise click.UsageError(
            f"{folder} has another vocabulary than {begun.directory}: "
            "it can't be its teacher"
        )
    return other


def taken_up(causal_lm: Any, recipe: Recipe) -> Any:
    """The same model in the recipe's precision, whose matrices alone learn."""
    from minigpt_repl.training.trainable import build_model

    model = build_model(recipe, causal_lm.preprocessor.tokenizer, seed=0)
    model.set_weights(causal_lm.get_weights())
    for variable in model.trainable_variables:
        if len(variable.shape) < 2 or "bias" in variable.path:
            variable.trainable = False
    return model


def begun_anew(causal_lm: Any, recipe: Recipe) -> Any:
    """A new model of the recipe's shape with another one's embeddings and last norm."""
    from minigpt_repl.training.trainable import build_model

    model = build_model(recipe, causal_lm.preprocessor.tokenizer, seed=0)
    new, old = model.backbone, causal_lm.backbone
    new.token_embedding.set_weights(old.token_embedding.get_weights())
    if old.final_norm is not None:
        new.final_norm.set_weights(old.final_norm.get_weights())
    return model


def taught(causal_lm: Any, recipe: Recipe, teachers: list[Any]) -> Any:
    """The Keras model of a causal LM that learns from teachers beside the text."""
    from distillation import pupil

    return pupil(causal_lm, recipe, teachers)


def go_halfway(trainer: Any, first: list[Any]) -> None:
    """Give a trained model the mean of its first and its best weights; measure it."""
    ends = zip(first, trainer.best_weights, strict=True)
    trainer.model.set_weights([(one + best) / 2 for one, best in ends])
    # In place of the end's, so that the last one tells of the weights there are.
    trainer.run.best = None
    trainer.run.evaluations.pop()
    trainer.evaluate()
    trainer.measure_on_seen()


def continued(before: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """A run's record, its steps and time counted from the model's very beginning."""
    steps, seconds = before["steps"], before["wall_seconds"]

    def later(evaluation: dict[str, Any]) -> dict[str, Any]:
        moved = {
            "step": evaluation["step"] + steps,
            "elapsed": evaluation["elapsed"] + seconds,
        }
        return evaluation | moved

    losses = [(step + steps, loss) for step, loss in record["training_losses"]]
    return record | {
        "steps": record["steps"] + steps,
        "wall_seconds": record["wall_seconds"] + seconds,
        "metrics": later(record["metrics"]),
        "history": before["history"] + [later(each) for each in record["history"]],
        "training_losses": [*before["training_losses"], *losses],
    }


def begun_as(before: dict[str, Any]) -> dict[str, Any]:
    """What a record keeps of the checkpoint that was gone on from, all the way back."""
    apart = ("history", "training_losses", "data", "draft")
    return {name: before[name] for name in before if name not in apart}


def taught_draft(
    begun: Any, data: Any, plan: Any, model: Any, trainer: Any
) -> tuple[Any, dict[str, Any]]:
    """A checkpoint's draft model, after it has learned from what the model became.

    `model` is what it became, `trainer` its trainer; `plan` is the draft model's.

    Returns:
        The draft model, to be saved; and what the record tells of it: how often its
        most probable token is the model's, before and after, on the validation text,
        and its perplexity there.
    """
    from distillation import agreement, same_choices

    from minigpt_repl.training.trainable import in_float32
    from minigpt_repl.training.trainer import Trainer

    recipe = falling(begun.record.training["draft"]["recipe"], DRAFT_RATE)
    draft = taken_up(begun.draft, recipe)
    pupil = taught(draft, recipe, [model])
    choices = same_choices(pupil, trainer.model)
    before = agreement(choices, data.validation)
    run = Trainer(pupil, recipe, data, plan).train()
    assert run.best
    return in_float32(draft), {
        "steps": run.step,
        "seconds": round(run.elapsed, 1),
        "agreed_before": before,
        "agreed": agreement(choices, data.validation),
        "perplexity": run.best.perplexity,
    }


if __name__ == "__main__":
    try:
        train_longer()
    except MiniGPTError as error:
        sys.exit(str(error))
