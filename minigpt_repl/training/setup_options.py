"""What a setup is asked to do: each option of `minigpt-setup`, once, as a field.

Whatever can be refused before any work is done is refused here.
"""

# ruff: noqa: RUF009 (what is called there makes fields)

import importlib.util
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click

from minigpt_repl.errors import UsageError
from minigpt_repl.formats import DocumentKind
from minigpt_repl.paths import RECORD_FILE, default_output, training_folder
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import (
    SamplerSpec,
    all_samplers,
    choose_sampler,
    read_sampler,
)
from minigpt_repl.shown import quoted
from minigpt_repl.training.corpus import Tokenizer, check_encoding
from minigpt_repl.training.recipes import RECIPES, Recipe, get_recipe, saved_fields
from minigpt_repl.training.resume import read_header
from minigpt_repl.training.sources import SIMPLEBOOKS_URL, is_url

NO_SAMPLE = "none"
LENGTHS = ("epochs", "steps", "minutes")
_NOT_KEPT = ("out", "resume", "overwrite", "coordinator", "num_processes", "process_id")


def _option(help: str, *flags: str, default: Any = None, **attributes: Any) -> Any:
    """A field that is an option; `flags` only if it is not called as the field is."""
    told = {"flags": flags, "help": help, **attributes}
    return field(default=default, metadata=told)


_flag = partial(_option, default=False, is_flag=True)
_at_least_1 = partial(_option, type=click.IntRange(1))
_folder = partial(_option, type=click.Path(path_type=Path))


@dataclass(frozen=True)
class Options:
    """The command line as it came; kept in the state, for a next run to go on with."""

    corpus: str = _option(
        "A text file, a folder or glob of them, a .zip or .gz, or a URL. By default "
        "SimpleBooks (282 MB).",
        default=SIMPLEBOOKS_URL,
        metavar="SRC",
    )
    out: Path | None = _folder(
        "Folder of the checkpoint. By default checkpoints/mine in a clone."
    )
    recipe: str = _option(
        " ".join(f"{name}: {recipe.summary}" for name, recipe in RECIPES.items()),
        default="default",
        metavar="NAME",
        show_default=True,
    )
    epochs: int | None = _at_least_1("Passes over the text.")
    steps: int | None = _at_least_1("Steps of the optimizer.")
    minutes: float | None = _option(
        "Time to train.", type=click.FloatRange(0, min_open=True)
    )
    resume: bool = _flag("Go on with an unfinished training.")
    overwrite: bool = _flag("Replace what is at --out.")
    seed: int = _option("", default=1, type=click.IntRange(0), show_default=True)
    min_length: int | None = _option(
        "Keep lines longer than this many bytes. By default 512 for SimpleBooks, 16 "
        "for WordPiece, 0 for any other text.",
        type=click.IntRange(0),
    )
    encoding: str | None = _option(
        "Of the files, such as cp1252 or gbk. By default found, and said.",
        metavar="NAME",
    )
    tokenizer: Tokenizer | None = _option(
        "bpe: every text comes back as it was written. wordpiece: words in lower "
        "case, as in the reference. byte: nothing is learned. By default bpe; "
        "wordpiece for SimpleBooks and --recipe tutorial.",
        type=click.Choice(get_args(Tokenizer)),
    )
    document: DocumentKind | None = _option(
        "What has an end that the model learns. By default found, and said.",
        type=click.Choice(get_args(DocumentKind)),
    )
    lowercase: bool = _option(
        "Whether wordpiece drops case, as in the reference.  [default: lowercase]",
        "--lowercase/--no-lowercase",
        default=True,
    )
    with_draft: bool = _flag("Train a small draft model, too.", "--draft")
    sampler: str = _option(
        "Writes a text at each evaluation, a chain too; none for no text.",
        default="top_k",
        metavar="SAMPLER",
        show_default=True,
    )
    prompt: str = _option("How that text begins.", default="")
    patience: int | None = _at_least_1(
        "Stop early after N evaluations without a new best.", metavar="N"
    )
    tensorboard: Path | None = _folder("Folder for TensorBoard.")
    plot: bool = _flag("Draw the curve at the end, into a PNG (matplotlib).")
    num_layers: int | None = _at_least_1("Decoder blocks.", "--layers")
    hidden_dim: int | None = _at_least_1("Width of the hidden states.", "--width")
    num_heads: int | None = _at_least_1("Attention heads.", "--heads")
    intermediate_dim: int | None = _at_least_1(
        "Width of the feedforward.", "--feedforward"
    )
    context_length: int | None = _option(
        "Tokens of context.", "--context", type=click.IntRange(2)
    )
    vocabulary_size: int | None = _option(
        "Most words or pieces that are learned.", type=click.IntRange(4)
    )
    dropout: float | None = _option("", type=click.FloatRange(0, 1, max_open=True))
    batch_size: int | None = _at_least_1("Windows in a step.")
    learning_rate: float | None = _option(
        "The peak of the schedule.", type=click.FloatRange(0, min_open=True)
    )
    mixed_precision: bool | None = _option(
        "bfloat16 products, or float32 throughout. By default the recipe's.",
        "--mixed-precision/--full-precision",
    )
    coordinator: str | None = _option(
        "Train in several processes: where process 0 listens. See docs/scaling.md.",
        metavar="HOST:PORT",
    )
    num_processes: int | None = _at_least_1("How many there are.")
    process_id: int | None = _option(
        "Which one this is, from 0.", type=click.IntRange(0)
    )

    def to_json(self) -> dict[str, Any]:
        """What is kept for a next run, which may be started in another folder."""
        kept = {k: v for k, v in asdict(self).items() if k not in _NOT_KEPT}
        if not is_url(self.corpus):
            kept["corpus"] = os.path.abspath(self.corpus)
        return kept | {"tensorboard": self.tensorboard and str(self.tensorboard)}


def click_options() -> list[click.Parameter]:
    """The fields of `Options` as click has them."""
    made: list[click.Parameter] = []
    for each in fields(Options):
        told = dict(each.metadata)
        flags = told.pop("flags") or (f"--{each.name.replace('_', '-')}",)
        made.append(click.Option([*flags, each.name], default=each.default, **told))
    return made


@dataclass(frozen=True)
class Cluster:
    """The processes that train together, and which of them this is.

    Process 0 listens at the coordinator's `HOST:PORT`, and it alone writes files.
    """

    coordinator: str
    num_processes: int
    process_id: int

    def __post_init__(self) -> None:
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(
                "--coordinator must be the HOST:PORT at which process 0 listens; got "
                f"{quoted(self.coordinator)}"
            )
        if not 0 <= self.process_id < self.num_processes:
            raise UsageError(
                f"--process-id must be from 0 to {self.num_processes - 1} of "
                f"{self.num_processes}; got {self.process_id}"
            )


@dataclass(frozen=True)
class Setup:
    """The options, checked, and what was made of them."""

    options: Options  # as they came, or were saved by the run before
    out: Path  # folder of the checkpoint
    recipe: Recipe
    sampler: SamplerSpec | None  # writes a text at each evaluation
    sampler_values: Mapping[str, Value]
    cluster: Cluster | None
    is_resumed: bool  # with the recipe of the run before
    is_small: bool = False  # the text is one that is soon learned by heart

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files and is watched."""
        return self.cluster is None or self.cluster.process_id == 0


def make_setup(options: Options, given: Collection[str]) -> Setup:
    """The options checked and made into what the setup works with.

    A run that goes on takes what is not `given`, but left at its default, from the
    state of the one before.

    Raises:
        UsageError: if an option is out of range, or two do not fit together.
    """
    if options.resume and options.overwrite:
        raise UsageError("--resume goes on, --overwrite starts anew: give one of them")
    out = (options.out or default_output()).expanduser()
    header = read_header(training_folder(out)) if options.resume else None
    if header is not None:
        options = _resumed(options, given, header, out)
    elif options.resume and "corpus" not in given and not (out / RECORD_FILE).exists():
        raise UsageError(
            f"there is no unfinished training of {out}: leave --resume out to start "
            "one, or name its folder with --out"
        )
    lengths = [name for name in LENGTHS if getattr(options, name)]
    if len(lengths) > 1:
        raise UsageError(
            f"--{lengths[0]} and --{lengths[1]} both say how long: give one of them"
        )
    recipe = _recipe(options, header)
    cluster = _cluster(options)
    check_backend(cluster)
    # A state that does not say was made when there was no other.
    is_older = header is not None and "tokenizer" not in header.get("options", {})
    if options.tokenizer is None and (recipe.name == "tutorial" or is_older):
        options = replace(options, tokenizer="wordpiece")
    if options.encoding is not None:
        check_encoding(options.encoding)
    if options.plot:
        check_installed("matplotlib", "a plot", "plot")
    if options.tensorboard is not None:
        # Without it TensorFlow can't write its summaries.
        check_installed("tensorboard", "--tensorboard", "tensorboard")
    sampler, values = _sample_sampler(options.sampler)
    is_resumed = header is not None
    return Setup(options, out, recipe, sampler, values, cluster, is_resumed)


def _recipe(options: Options, header: Mapping[str, Any] | None) -> Recipe:
    """The recipe that was named, changed by the options that are its fields."""
    shape = {each.name for each in fields(Recipe)} - {"name", "summary"}
    recipe = get_recipe(options.recipe)
    if header is not None and header["recipe"]["name"] == recipe.name:
        # As it was then, whatever that recipe is called for in this version.
        then = saved_fields(header["recipe"])
        recipe = recipe.changed(**{name: then[name] for name in shape & then.keys()})
    asked = asdict(options)
    return recipe.changed(**{name: asked[name] for name in shape & asked.keys()})


def _resumed(
    options: Options,
    given: Collection[str],
    header: Mapping[str, Any],
    out: Path,
) -> Options:
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
    known = {each.name for each in fields(Options)}.difference(_NOT_KEPT, given)
    if saved.get("tensorboard"):
        saved["tensorboard"] = Path(saved["tensorboard"])
    return replace(options, **{name: saved[name] for name in saved if name in known})


def _cluster(options: Options) -> Cluster | None:
    place, count = options.coordinator, options.num_processes
    number = options.process_id
    if place is None and count is None and number is None:
        return None
    if place is None or count is None or number is None:
        raise UsageError("--coordinator, --num-processes and --process-id go together")
    if options.minutes:
        raise UsageError(
            "several processes have several clocks: give --steps or --epochs, "
            "not --minutes"
        )
    return Cluster(place, count, number)


def check_backend(cluster: Cluster | None) -> None:
    """Refuse a backend that can't do it, before Keras is imported.

    Raises:
        UsageError: if there are several processes and the backend is not JAX, or it
            is JAX and that is not installed.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if cluster is not None and backend != "jax":
        raise UsageError(
            f"--coordinator needs the JAX backend, this is {backend}: set "
            "KERAS_BACKEND=jax"
        )
    if backend == "jax":
        check_installed("jax", "KERAS_BACKEND=jax", "scale")


def check_installed(module: str, wish: str, extra: str) -> None:
    """Check that the optional dependency of a wish is installed.

    Raises:
        UsageError: naming the extra of this package that brings it, if it is not.
    """
    if importlib.util.find_spec(module) is None:
        raise UsageError(f"{wish} needs {module}: pip install 'minigpt-repl[{extra}]'")


def _sample_sampler(text: str) -> tuple[SamplerSpec | None, dict[str, Value]]:
    if text == NO_SAMPLE:
        return None, {}
    spec, typed = read_sampler(text)
    given = {name: spec.parameter(name).parse(typed[name]) for name in typed}
    spec, values = choose_sampler(spec.name, given)
    unable = [*spec.bound_to_the_engine(given)]
    if not _can_sample(spec):
        unable.append(spec.name)
    if unable:
        able = [each.name for each in all_samplers() if _can_sample(each)]
        raise UsageError(
            f"{unable[0]} can't write samples during training, only in the REPL: "
            f"choose {', '.join(able)}, or a chain of other rules"
        )
    return spec, values


def _can_sample(spec: SamplerSpec) -> bool:
    """Whether a KerasHub model can be compiled with it."""
    return spec.search is None or spec.search.shows == "hypotheses"
