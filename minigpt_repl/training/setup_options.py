"""The options of `minigpt-setup` made into what the setup works with.

Whatever can be refused before any work is done is refused here. Knows the options by
their names; neither click nor TensorFlow.
"""

from pathlib import Path
from typing import Any

from minigpt_repl.errors import UsageError
from minigpt_repl.models.record import RECORD_FILE
from minigpt_repl.paths import default_output
from minigpt_repl.sampling.registry import SamplerSpec, all_samplers, find_sampler
from minigpt_repl.training.devices import Cluster, check_backend
from minigpt_repl.training.recipes import get_recipe

NO_SAMPLE = "none"
RECIPE_OPTIONS = (
    "epochs",
    "num_layers",
    "hidden_dim",
    "num_heads",
    "intermediate_dim",
    "context_length",
    "vocabulary_size",
    "dropout",
    "batch_size",
    "learning_rate",
    "mixed_precision",
)


def check_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options with a recipe, a sampler, a cluster and a folder in their places.

    Raises:
        UsageError: if an option is out of range, or two do not fit together.
    """
    lengths = [name for name in ("epochs", "steps", "minutes") if options[name]]
    if len(lengths) > 1:
        raise UsageError(
            f"--{lengths[0]} and --{lengths[1]} both say how long: give one of them"
        )
    if options["resume"] and options["overwrite"]:
        raise UsageError("--resume goes on, --overwrite starts anew: give one of them")
    recipe = get_recipe(options["recipe_name"]).changed(
        **{name: options[name] for name in RECIPE_OPTIONS}
    )
    cluster = _cluster(options)
    check_backend(cluster)
    sampler = _sample_sampler(options["sampler_name"])
    out = (options["out"] or default_output()).expanduser()
    return {
        **options,
        "recipe": recipe,
        "sampler": sampler,
        "out": out,
        "cluster": cluster,
    }


def _cluster(options: dict[str, Any]) -> Cluster | None:
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
    if spec.name in ("contrastive", "speculative"):
        able = [
            each.name
            for each in all_samplers()
            if each.name not in ("contrastive", "speculative")
        ]
        raise UsageError(
            f"{spec.name} can't write samples during training (it needs hidden states "
            f"or a draft model): choose {', '.join(able)}"
        )
    return spec


def is_finished(options: dict[str, Any], folder: Path) -> bool:
    """Whether there is nothing to go on with, only a checkpoint.

    Raises:
        UsageError: if there is something that only the user may let go of.
    """
    out: Path = options["out"]
    has_state = any(folder.rglob("state.npz")) if folder.is_dir() else False
    has_checkpoint = (out / RECORD_FILE).exists()
    if options["overwrite"]:
        return False
    if options["resume"]:
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
