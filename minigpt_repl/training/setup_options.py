"""What a setup is asked to do: the options of `minigpt-setup` as one value.

Whatever can be refused before any work is done is refused here. Knows neither click
nor TensorFlow.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from minigpt_repl.errors import UsageError
from minigpt_repl.models.record import (
    DRAFT_FOLDER,
    PRESET_FILES,
    RECORD_FILE,
    TOKENIZER_FILES,
)
from minigpt_repl.paths import default_output, training_folder
from minigpt_repl.sampling.registry import SamplerSpec, all_samplers, find_sampler
from minigpt_repl.training.corpus import Tokenizer
from minigpt_repl.training.devices import Cluster, check_backend
from minigpt_repl.training.documents import Kind
from minigpt_repl.training.encodings import check_encoding
from minigpt_repl.training.recipes import Recipe, get_recipe
from minigpt_repl.training.resume import STATE_FILE, read_header
from minigpt_repl.training.sources import SIMPLEBOOKS_URL, is_url

NO_SAMPLE = "none"
LENGTHS = ("epochs", "steps", "minutes")
CHECKPOINT_FILES = {
    *(RECORD_FILE, "task.weights.h5", *PRESET_FILES),
    *(name for files in TOKENIZER_FILES.values() for name in files),
}

_NOT_KEPT = ("out", "resume", "overwrite", "coordinator", "num_processes", "process_id")


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
        encoding: of the text's files, or `None` to find it.
        tokenizer: its kind, or `None` for the one that suits the text.
        document: what has an end that is learned, or `None` to find it.
        lowercase: whether WordPiece folds case.
        with_draft: also train a draft model for speculative decoding.
        sampler: writes a text at each evaluation, or `None`.
        prompt: how that text begins.
        tensorboard: folder for TensorBoard, or `None`.
        plot: draw the curve at the end.
        patience: evaluations without a new best that end the run, or `None`.
        cluster: the processes that train together, or `None` for this one alone.
        options: as they came, for a next run to go on with.
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
    encoding: str | None = None
    tokenizer: Tokenizer | None = None
    document: Kind | None = None
    lowercase: bool = True
    with_draft: bool = False
    sampler: SamplerSpec | None = None
    prompt: str = ""
    tensorboard: Path | None = None
    plot: bool = False
    patience: int | None = None
    cluster: Cluster | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files and is watched."""
        return self.cluster is None or self.cluster.process_id == 0


def make_setup(options: Mapping[str, Any], given: Collection[str]) -> Setup:
    """The options as they came, checked and made into what the setup works with.

    A run that goes on takes what is not given from the state of the one before.

    Args:
        options: by the names of the fields of `Setup` and of `Recipe`; `recipe` and
            `sampler` are names, and the three of `Cluster` stand side by side.
        given: names of those that were given, rather than left at their defaults.

    Raises:
        UsageError: if an option is out of range, or two do not fit together.
    """
    if options["resume"] and options["overwrite"]:
        raise UsageError("--resume goes on, --overwrite starts anew: give one of them")
    out = (options["out"] or default_output()).expanduser()
    header = read_header(training_folder(out)) if options["resume"] else None
    if header is not None:
        options = _resumed(options, given, header, out)
    lengths = [name for name in LENGTHS if options[name]]
    if len(lengths) > 1:
        raise UsageError(
            f"--{lengths[0]} and --{lengths[1]} both say how long: give one of them"
        )
    shape = {each.name for each in fields(Recipe)} - {"name", "summary"}
    recipe = get_recipe(options["recipe"])
    if header is not None and header["recipe"]["name"] == recipe.name:
        # As it was then, whatever that recipe is called for in this version.
        then = header["recipe"]
        recipe = recipe.changed(**{name: then[name] for name in shape & then.keys()})
    cluster = _cluster(options)
    check_backend(cluster)
    # A state that does not say was made when there was no other.
    is_older = header is not None and "tokenizer" not in header.get("options", {})
    if options["tokenizer"] is None and (recipe.name == "tutorial" or is_older):
        options = {**options, "tokenizer": "wordpiece"}
    if options["encoding"] is not None:
        check_encoding(options["encoding"])
    corpus = options["corpus"]
    kept = {name: options[name] for name in options if name not in _NOT_KEPT}
    kept["corpus"] = corpus if is_url(corpus) else os.path.abspath(corpus)
    kept["tensorboard"] = options["tensorboard"] and str(options["tensorboard"])
    made = {
        "recipe": recipe.changed(
            **{name: options[name] for name in shape & options.keys()}
        ),
        "cluster": cluster,
        "sampler": _sample_sampler(options["sampler"]),
        "out": out,
        "tensorboard": options["tensorboard"] and Path(options["tensorboard"]),
        "options": kept,
    }
    return Setup(
        **({each.name: options.get(each.name) for each in fields(Setup)} | made)
    )


def _resumed(
    options: Mapping[str, Any],
    given: Collection[str],
    header: Mapping[str, Any],
    out: Path,
) -> dict[str, Any]:
    """The options of the run before, changed by those that were given for this one."""
    saved = dict(header.get("options", {}))
    if not saved:  # by 0.1.0, which kept recipe and seed alone
        if "corpus" not in given:
            raise UsageError(
                f"the unfinished training of {out} does not say of which text it is: "
                "give --corpus and the other options as before, with --resume (if no "
                f"--corpus was given then: --corpus {SIMPLEBOOKS_URL})"
            )
        saved = {"recipe": header["recipe"]["name"], "seed": header["seed"]}
    if any(name in given for name in LENGTHS):
        saved = {name: saved[name] for name in saved if name not in LENGTHS}
    return {
        name: value if name in given or name not in saved else saved[name]
        for name, value in options.items()
    }


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


def is_finished(setup: Setup) -> bool:
    """Whether there is nothing to go on with, only a checkpoint.

    Raises:
        UsageError: if there is something that only the user may let go of.
    """
    out, folder = setup.out, training_folder(setup.out)
    has_state = any(folder.rglob(STATE_FILE))
    has_checkpoint = (out / RECORD_FILE).exists()
    if (mine := _not_ours(out)) is not None:
        raise UsageError(
            f"{mine} is not a checkpoint's and would be lost: move it away, or name "
            "another folder with --out"
        )
    if setup.overwrite:
        return False
    if setup.resume:
        return has_checkpoint and not has_state
    if has_state:
        raise UsageError(
            f"there is an unfinished training of {out}: go on with --resume, or start "
            "anew with --overwrite"
        )
    if has_checkpoint:
        raise UsageError(
            f"{out} is there already: replace it with --overwrite, or name another "
            "folder with --out"
        )
    return False


def _not_ours(out: Path) -> Path | None:
    """What lies at a checkpoint's place and is of no checkpoint, if anything."""
    if out.exists() and not out.is_dir():
        return out
    files = CHECKPOINT_FILES | {f"{DRAFT_FOLDER}/{name}" for name in CHECKPOINT_FILES}
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    for path in sorted(out.rglob("*")):
        if path.relative_to(out).as_posix() not in (
            folders if path.is_dir() else files
        ):
            return path
    return None
