"""What a setup is asked to do: the options of `minigpt-setup` as one value.

Whatever can be refused before any work is done is refused here. Knows neither click
nor TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from minigpt_repl.errors import UsageError
from minigpt_repl.models.record import RECORD_FILE
from minigpt_repl.paths import default_output
from minigpt_repl.sampling.registry import SamplerSpec, all_samplers, find_sampler
from minigpt_repl.training.devices import Cluster, check_backend
from minigpt_repl.training.recipes import Recipe, get_recipe

NO_SAMPLE = "none"
LENGTHS = ("epochs", "steps", "minutes")


@dataclass(frozen=True)
class Setup:
    """What a setup is asked to do.

    Attributes:
        corpus: where the text is; see `load_corpus`.
        out: folder of the checkpoint.
        recipe: how the model is trained.
        steps: of the run, or `None`.
        minutes: of the run, or `None`; with neither, the recipe's epochs.
        seed: of initial weights, order and samples.
        resume: take up an unfinished run.
        overwrite: replace what is at `out`.
        min_length: bytes of the lines kept, or `None` for the corpus' own.
        lowercase: whether the tokenizer folds case.
        with_draft: also train a draft model for speculative decoding.
        sampler: writes a text at each evaluation, or `None`.
        prompt: how that text begins.
        tensorboard: folder for TensorBoard, or `None`.
        plot: draw the curve at the end.
        patience: evaluations without a new best that end the run, or `None`.
        cluster: the processes that train together, or `None` for this one alone.
    """

    corpus: str
    out: Path
    recipe: Recipe
    steps: int | None = None
    minutes: float | None = None
    seed: int = 1
    resume: bool = False
    overwrite: bool = False
    min_length: int | None = None
    lowercase: bool = True
    with_draft: bool = False
    sampler: SamplerSpec | None = None
    prompt: str = ""
    tensorboard: Path | None = None
    plot: bool = False
    patience: int | None = None
    cluster: Cluster | None = None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files and is watched."""
        return self.cluster is None or self.cluster.process_id == 0


def make_setup(options: Mapping[str, Any]) -> Setup:
    """The options as they came, checked and made into what the setup works with.

    Args:
        options: by the names of the fields of `Setup` and of `Recipe`; `recipe` and
            `sampler` are names, and the three of `Cluster` stand side by side.

    Raises:
        UsageError: if an option is out of range, or two do not fit together.
    """
    lengths = [name for name in LENGTHS if options[name]]
    if len(lengths) > 1:
        raise UsageError(
            f"--{lengths[0]} and --{lengths[1]} both say how long: give one of them"
        )
    if options["resume"] and options["overwrite"]:
        raise UsageError("--resume goes on, --overwrite starts anew: give one of them")
    shape = {each.name for each in fields(Recipe)} - {"name", "summary"}
    cluster = _cluster(options)
    check_backend(cluster)
    made = {
        "recipe": get_recipe(options["recipe"]).changed(
            **{name: options[name] for name in shape & options.keys()}
        ),
        "cluster": cluster,
        "sampler": _sample_sampler(options["sampler"]),
        "out": (options["out"] or default_output()).expanduser(),
    }
    given = {each.name: options.get(each.name) for each in fields(Setup)}
    return Setup(**(given | made))


def _cluster(options: Mapping[str, Any]) -> Cluster | None:
    given = [options[name] for name in ("coordinator", "num_processes", "process_id")]
    if all(each is None for each in given):
        return None
    if any(each is None for each in given):
        raise UsageError("--coordinator, --num-processes and --process-id go together")
    if options["minutes"]:
        raise UsageError(
            "several processes have several clocks: give --steps or --epochs, "
            "not --minutes"
        )
    return Cluster(*given)


def _sample_sampler(name: str) -> SamplerSpec | None:
    if name == NO_SAMPLE:
        return None
    spec = find_sampler(name)
    unable = ("contrastive", "speculative")
    if spec.name in unable:
        able = [each.name for each in all_samplers() if each.name not in unable]
        raise UsageError(
            f"{spec.name} can't write samples during training (it needs hidden states "
            f"or a draft model): choose {', '.join(able)}"
        )
    return spec


def is_finished(setup: Setup, folder: Path) -> bool:
    """Whether there is nothing to go on with, only a checkpoint.

    Args:
        setup: says where the checkpoint goes.
        folder: holds the states of an unfinished training.

    Raises:
        UsageError: if there is something that only the user may let go of.
    """
    out = setup.out
    has_state = any(folder.rglob("state.npz")) if folder.is_dir() else False
    has_checkpoint = (out / RECORD_FILE).exists()
    if setup.overwrite:
        return False
    if setup.resume:
        return has_checkpoint and not has_state
    if has_state:
        raise UsageError(
            f"there is an unfinished training of {out}: go on with --resume, or start "
            "anew with --overwrite"
        )
    if out.exists() and (has_checkpoint or not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"{out} is there already: replace it with --overwrite, or name another "
            "folder with --out"
        )
    return False
