"""What a run starts from: the options as given, and the settings of all layers.

Reads the config file, the environment and the checkpoint's record; loads no model
and knows neither click nor the terminal.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt_repl import paths
from minigpt_repl.config import Layer, read_config, read_environment
from minigpt_repl.errors import UsageError
from minigpt_repl.models.record import RECORD_FILE, check_folder, is_file, read_record
from minigpt_repl.sampling.parameters import Limits, Value
from minigpt_repl.settings import Settings

if TYPE_CHECKING:
    from minigpt_repl.repl.session import Session


@dataclass(frozen=True)
class Options:
    """What the user gave on the command line, as it was given."""

    checkpoint: str | None = None
    no_verify: bool = False
    prompt: str | None = None
    sampler: str | None = None
    assignments: tuple[tuple[str, str], ...] = ()
    seed: str | None = None
    length: str | None = None
    count: int = 1
    as_json: bool = False
    jsonl: bool = False
    only_new: bool = False
    script: str | None = None
    commands: tuple[str, ...] = ()
    keep_going: bool = False
    config: str | None = None
    print_config: bool = False
    color: str | None = None
    no_history: bool = False
    debug: bool = False

    @property
    def wants_json(self) -> bool:
        """Whether texts are written as JSON."""
        return self.as_json or self.jsonl


def prepare(options: Options) -> tuple[Path, "Session"]:
    """The checkpoint's folder, and a session with the settings of all layers.

    Reads no more of the checkpoint than its record. What is wrong in the config
    file or the environment is told on stderr and left out.

    Raises:
        MiniGPTError: for a checkpoint that is not there or a flag's value that is
            not allowed.
    """
    from minigpt_repl.repl.session import Session

    config = read_settings_file(options)
    directory = paths.find_checkpoint(options.checkpoint, config.checkpoint)
    limits = _limits(directory, verify=not options.no_verify)
    layers = {"config": config, "environment": read_environment(os.environ)}
    settings = Settings(
        {name: _allowed(layer, name, limits) for name, layer in layers.items()}, limits
    )
    return directory, Session(_with_flags(settings, options))


def read_settings_file(options: Options) -> Layer:
    """The settings of the config file that the options name, or of the user's own."""
    return read_config(Path(options.config) if options.config else None)


def _allowed(layer: Layer, name: str, limits: Limits) -> dict[str, Value]:
    """Values of a layer that the checkpoint allows too; tells what is left out."""
    problems = list(layer.problems)
    values = {}
    for key, value in layer.values.items():
        try:
            if key != "sampler":
                Settings().parameter(key).check(value, limits)
            values[key] = value
        except UsageError as error:
            problems.append(f"{name}: {key}: {error}")
    for problem in problems:
        _tell(problem)
    return values


def _limits(directory: Path, verify: bool) -> dict[str, int]:
    check_folder(directory)
    if not verify and not is_file(directory / RECORD_FILE):
        return {}
    return {"vocabulary": read_record(directory).vocabulary_size}


def _with_flags(settings: Settings, options: Options) -> Settings:
    named = {
        "sampler": options.sampler,
        "seed": options.seed,
        "length": options.length,
        "color": options.color,
    }
    values = {name: value for name, value in named.items() if value is not None}
    return settings.set(values | dict(options.assignments), origin="flag")[0]


def _tell(message: str) -> None:
    sys.stderr.write(f"minigpt-repl: {message}\n")
