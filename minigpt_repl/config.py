"""Where settings come from: the config file, the environment, the flags.

What is wrong in file or environment is told, with file and key, and left out.
"""

import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.files import read_user_file
from minigpt_repl.models.record import find_record, read_record
from minigpt_repl.paths import CHECKPOINT_VARIABLE, config_home, find_checkpoint
from minigpt_repl.sampling.parameters import Parameter, Value, format_value
from minigpt_repl.sampling.registry import all_samplers, find_sampler
from minigpt_repl.settings import (
    DEFAULT_SAMPLER,
    SESSION_PARAMETERS,
    Settings,
    limits_of,
)
from minigpt_repl.shown import did_you_mean, plain, quoted, shown_line, shown_path

CONFIG_FILE = "config.toml"
PREFIX = "MINIGPT_"
LARGEST_CONFIG = 16 * 1024
"""Bytes of a config file that is read. One that sets everything has 3,000; of dots
alone (`a.a.a = 1`) a reader's time grows with the square, 16 KB take 0.7 s."""


@dataclass(frozen=True)
class Layer:
    """What one source gives.

    Attributes:
        values: by the keys of `Settings`, such as `length` and `top_k.k`.
        checkpoint: the folder to load, or `None`.
        problems: a line for each thing that was wrong and left out.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    checkpoint: str | None = None
    problems: tuple[str, ...] = ()


def config_path() -> Path:
    """Where the config file is looked for."""
    return config_home() / CONFIG_FILE


def read_config(file: str | Path | None = None) -> Layer:
    """The settings of a config file; of the user's own if none is named.

    Raises:
        MiniGPTError: if a file was named and can't be read.
    """
    path = config_path() if file is None else Path(file)
    try:
        if file is None and not path.exists():
            return Layer()
        content = tomllib.loads(read_user_file(path, LARGEST_CONFIG))
    except MiniGPTError as error:
        if file is not None:
            raise
        return Layer(problems=(str(error),))
    except OSError as error:
        return Layer(problems=(f"can't read {path}: {error.strerror}",))
    except (ValueError, RecursionError) as error:  # of its form, or of a number in it
        return Layer(problems=(f"{shown_path(path)}: {error}",))
    return _read_content(content, shown_path(path))


def read_environment(variables: Mapping[str, str]) -> Layer:
    """The settings of variables such as `MINIGPT_LENGTH` and `MINIGPT_TOP_K_K`.

    The checkpoint's own variable is read where the checkpoint is looked for.
    """
    keys = {PREFIX + key.upper().replace(".", "_"): key for key in Settings().names()}
    settings = Settings()
    problems = []
    for name, text in sorted(variables.items()):
        if not name.startswith(PREFIX) or name == CHECKPOINT_VARIABLE:
            continue
        try:
            if name not in keys:
                near = did_you_mean(name, [known.lower() for known in keys])
                near = re.sub("minigpt_[a-z_]+", lambda word: word[0].upper(), near)
                raise UsageError(f"there is no such setting{near}")
            settings = settings.put(keys[name], text, "environment")
        except UsageError as error:
            problems.append(f"environment: {plain(name)}: {error}; left out")
    return Layer(settings.layers.get("environment", {}), problems=tuple(problems))


def default_config_text() -> str:
    """A config file that sets nothing: every setting, explained, as a comment."""
    names = ", ".join(spec.name for spec in all_samplers())
    text = f"""# Settings of minigpt-repl. Take the # off a line to change it.
# This file's place: $XDG_CONFIG_HOME/minigpt-repl/{CONFIG_FILE}

# folder of the model
# checkpoint = "checkpoints/mine"

# the sampler to start with: {names},
# or a chain of rules such as min_p=0.05 + temperature=0.8
# sampler = "{DEFAULT_SAMPLER}"
"""
    text += "".join(map(_commented, SESSION_PARAMETERS))
    for spec in all_samplers():
        if spec.parameters:
            text += f"\n[{spec.name}]\n# {spec.summary}\n"
        text += "".join(map(_commented, spec.parameters))
    return text


def _commented(parameter: Parameter) -> str:
    default = format_value(parameter.default)
    if isinstance(parameter.default, bool):
        default = str(parameter.default).lower()
    elif not isinstance(parameter.default, (int, float)):
        default = f'"{default}"'
    return (
        f"\n# {parameter.help}\n# {parameter.allowed()}\n"
        f"# {parameter.name} = {default}\n"
    )


def _read_content(content: Mapping[str, Any], file: str) -> Layer:
    settings = Settings()
    checkpoint = None
    problems = []
    for table, name, value in _entries(content):
        try:
            if (table, name) == ("", "checkpoint"):
                if not isinstance(value, str) or not value:
                    raise UsageError(
                        f"checkpoint must be a folder; got {quoted(value)}"
                    )
                checkpoint = value
            else:
                settings = settings.put(_key(table, name), value, "config")
        except UsageError as error:
            key = plain(f"{table}.{name}".lstrip("."))
            problems.append(f"{file}: {key}: {error}; left out")
    return Layer(settings.layers.get("config", {}), checkpoint, tuple(problems))


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Table (empty at the top), name and value of everything in the file."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from ((name, inner, item) for inner, item in value.items())
        else:
            yield "", name, value


def _key(table: str, name: str) -> str:
    """The key of `Settings` for a place in the file.

    Raises:
        UsageError: if there is no such setting.
    """
    if table:
        spec = find_sampler(table)
        return f"{spec.name}.{spec.parameter(name).name}"
    names = ["checkpoint", "sampler", *(p.name for p in SESSION_PARAMETERS)]
    if name in names:
        return name
    owners = [s.name for s in all_samplers() if name in s.parameter_names]
    if owners:
        tables = ", ".join(f"[{owner}]" for owner in owners)
        raise UsageError(f"{name} is a sampler's: put it under {tables}")
    near = did_you_mean(name, names)
    raise UsageError(f"no setting {quoted(name)}: there are {', '.join(names)}{near}")


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
    top: int = 0
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

    def changed(self, **given: Any) -> "Options":
        """A copy with what a subcommand was given; an empty value changes nothing."""
        return replace(self, **{name: value for name, value in given.items() if value})


def prepare(options: Options) -> tuple[Path, Settings]:
    """The checkpoint's folder, and the settings of all layers.

    Reads no more of the checkpoint than its record. What is wrong in the config
    file or the environment is told on stderr and left out.

    Raises:
        MiniGPTError: for a checkpoint that is not there or a flag's value that is
            not allowed.
    """
    config = read_config(options.config)
    directory = find_checkpoint(options.checkpoint, config.checkpoint)
    record = (find_record if options.no_verify else read_record)(directory)
    settings = Settings(limits=limits_of(record) if record else {})
    layers = {"config": config, "environment": read_environment(os.environ)}
    for name, layer in layers.items():
        for problem in layer.problems:
            tell(problem)
        for key, value in layer.values.items():
            try:
                settings = settings.put(key, value, name)
            except UsageError as error:  # the checkpoint does not allow it
                tell(f"{name}: {key}: {error}; left out")
    named = {
        "sampler": options.sampler,
        "seed": options.seed,
        "length": options.length,
        "color": options.color,
    }
    values = {name: value for name, value in named.items() if value is not None}
    return directory, settings.set(values | dict(options.assignments), "flag")[0]


def tell(message: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"minigpt-repl: {shown_line(message)}\n")
