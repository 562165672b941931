#!/usr/bin/env python3
"""Two recipes side by side: as many steps of the same size, from the same seed.

    scripts/compare_recipes.py --corpus simplebooks.zip --steps 325
    scripts/compare_recipes.py --corpus simplebooks.zip --throughput 60

Prints validation perplexity and bits per byte by step and by time, and writes them
as JSON and, where matplotlib is installed, as a plot. Throughput is a run of its
own: the two take turns, so that whatever else the machine does slows both.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click
from rich.console import Console

from minigpt_repl.engine.worker import quiet
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.training.progress import Display, duration
from minigpt_repl.training.recipes import RECIPES, get_recipe
from minigpt_repl.training.sources import SIMPLEBOOKS_URL

ROUND = 10
WARM_UP = 5


@click.command()
@click.option("--corpus", default=SIMPLEBOOKS_URL, metavar="SRC")
@click.option("--steps", type=click.IntRange(1), default=325, show_default=True)
@click.option("--evaluate-every", type=click.IntRange(1), default=325)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--recipe",
    "names",
    multiple=True,
    default=("tutorial", "default"),
    help=f"Give it once for each; there are {', '.join(RECIPES)}.",
)
@click.option(
    "--throughput", type=click.IntRange(1), help="Time so many steps each, no more."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("comparison"),
    show_default=True,
    help="Writes OUT.json and OUT.png.",
)
def compare(
    corpus: str,
    steps: int,
    evaluate_every: int,
    seed: int,
    names: tuple[str, ...],
    throughput: int | None,
    out: Path,
) -> None:
    """Train recipes for the same number of steps and compare them."""
    recipes = [get_recipe(name) for name in names]
    with quiet():
        from minigpt_repl.training.corpus import load_corpus
        from minigpt_repl.training.dataset import prepare_text

        progress = Display(Console(file=sys.stderr))
        loaded = load_corpus(corpus, progress=progress)
        text = prepare_text(loaded, recipes[0].vocabulary_size, True, progress)
        if throughput is not None:
            report = time_steps(recipes, text, seed, throughput)
        else:
            report, curves = train_each(
                recipes, text, seed, steps, evaluate_every, progress
            )
            plot(out.with_suffix(".png"), curves)
    out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    click.echo(f"written: {out.with_suffix('.json')}")


def train_each(
    recipes: list[Any], text: Any, seed: int, steps: int, every: int, progress: Any
) -> tuple[list[dict[str, Any]], list[tuple[str, Any]]]:
    """Train one recipe after the other; prints a row for each evaluation."""
    from minigpt_repl.training.dataset import training_data
    from minigpt_repl.training.recipes import Length
    from minigpt_repl.training.trainable import build_model, trainable
    from minigpt_repl.training.trainer import Plan, Trainer

    report: list[dict[str, Any]] = []
    curves: list[tuple[str, Any]] = []
    heads = ("recipe", "steps", "time", "perplexity", "bits/byte")
    click.echo("{:<10}{:>7}{:>9}{:>12}{:>11}".format(*heads))
    for recipe in recipes:
        length = Length(steps=steps)
        causal_lm = build_model(recipe, text.vocabulary.tokenizer(), seed)
        trainer = Trainer(
            trainable(causal_lm, recipe),
            recipe,
            training_data(recipe, text),
            Plan(length, seed=seed, evaluate_every=every, progress=progress),
        )
        run = trainer.train()
        curves.append((recipe.name, run.evaluations))
        for each in run.evaluations:
            click.echo(
                f"{recipe.name:<10}{each.step:>7,}{duration(each.elapsed):>9}"
                f"{each.perplexity:>12.2f}{each.bits_per_byte:>11.4f}"
            )
        report.append(
            {
                "recipe": asdict(recipe),
                "parameters": causal_lm.count_params(),
                "seed": seed,
                "evaluations": [asdict(each) for each in run.evaluations],
            }
        )
    return report, curves


def plot(path: Path, curves: list[tuple[str, Any]]) -> None:
    """Draw the curves, if there is something to draw with."""
    from minigpt_repl.training.pipeline import draw_curves
    from minigpt_repl.training.setup_options import check_installed

    try:
        check_installed("matplotlib", "a plot", "plot")
    except UsageError as error:
        click.echo(f"no plot: {error}", err=True)
    else:
        draw_curves(path, curves)
        click.echo(f"written: {path}")


def time_steps(
    recipes: list[Any], text: Any, seed: int, steps: int
) -> list[dict[str, Any]]:
    """Seconds a step of each recipe, evaluations left out.

    The tutorial's is the example's own step, compiled as Keras compiles it there, but
    fed with ids made beforehand; the example tokenizes while it trains.
    """
    from minigpt_repl.training.dataset import batches, training_data
    from minigpt_repl.training.trainable import build_model, trainable

    fits = []
    for recipe in recipes:
        causal_lm = build_model(recipe, text.vocabulary.tokenizer(), seed)
        model = trainable(causal_lm, recipe)
        windows = training_data(recipe, text).train
        feed = batches(windows, recipe.feeding, recipe.batch_size, seed)
        fits.append((model, [next(feed) for _ in range(ROUND)]))
    spent = {recipe.name: 0.0 for recipe in recipes}
    # Of all cores together; tells how much work a step is on a machine that is shared.
    processor = {recipe.name: 0.0 for recipe in recipes}
    for turn in range(-1, -(-steps // ROUND)):
        for recipe, (model, made) in zip(recipes, fits, strict=True):
            count = WARM_UP if turn < 0 else min(ROUND, steps - turn * ROUND)
            began, worked = time.perf_counter(), time.process_time()
            for inputs, labels in made[:count]:
                model.train_on_batch(inputs, labels)
            if turn >= 0:
                spent[recipe.name] += time.perf_counter() - began
                processor[recipe.name] += time.process_time() - worked
    report = []
    for recipe in recipes:
        seconds = spent[recipe.name] / steps
        tokens = recipe.batch_size * recipe.context_length / seconds
        times = spent[recipes[0].name] / spent[recipe.name]
        click.echo(
            f"{recipe.name:<10}{seconds:>8.3f} s/step{tokens:>9,.0f} tokens/s"
            f"{times:>7.2f} x {recipes[0].name}"
            f"{processor[recipe.name] / steps:>8.3f} processor s/step"
        )
        report.append(
            {
                "recipe": asdict(recipe),
                "steps": steps,
                "seconds_per_step": seconds,
                "processor_seconds_per_step": processor[recipe.name] / steps,
            }
        )
    return report


if __name__ == "__main__":
    try:
        compare()
    except MiniGPTError as error:
        sys.exit(str(error))
