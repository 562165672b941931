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

from minigpt_repl import paths
from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.files import read_user_file
from minigpt_repl.models.record import find_record, read_record
from minigpt_repl.paths import CHECKPOINT_VARIABLE, config_home
from minigpt_repl.sampling.parameters import Limits, Parameter, Value, format_value
from minigpt_repl.sampling.registry import all_samplers, find_sampler, read_sampler
from minigpt_repl.settings import (
    DEFAULT_SAMPLER,
    SESSION_PARAMETERS,
    Settings,
    check_value,
    limits_of,
    parameter_of,
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


def read_config(path: Path | None = None) -> Layer:
    """The settings of a config file; of the user's own if none is named.

    Raises:
        MiniGPTError: if a file was named and can't be read.
    """
    place = config_path() if path is None else path
    try:
        if path is None and not place.exists():
            return Layer()
        content = tomllib.loads(read_user_file(place, LARGEST_CONFIG))
    except MiniGPTError as error:
        if path is not None:
            raise
        return Layer(problems=(str(error),))
    except OSError as error:
        return Layer(problems=(f"can't read {place}: {error.strerror}",))
    except (ValueError, RecursionError) as error:  # of its form, or of a number in it
        return Layer(problems=(f"{shown_path(place)}: {error}",))
    return _read_content(content, shown_path(place))


def read_environment(variables: Mapping[str, str]) -> Layer:
    """The settings of variables such as `MINIGPT_LENGTH` and `MINIGPT_TOP_K_K`.

    The checkpoint's own variable is read where the checkpoint is looked for.
    """
    keys = {_variable(key): key for key in Settings().names()}
    values: dict[str, Value] = {}
    problems = []
    for name, text in sorted(variables.items()):
        if not name.startswith(PREFIX) or name == CHECKPOINT_VARIABLE:
            continue
        try:
            if name not in keys:
                near = did_you_mean(name, [known.lower() for known in keys])
                near = re.sub("minigpt_[a-z_]+", lambda word: word[0].upper(), near)
                raise UsageError(f"there is no such setting{near}")
            values |= _parse(keys[name], text)
        except UsageError as error:
            problems.append(f"environment: {plain(name)}: {error}; left out")
    return Layer(values, problems=tuple(problems))


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
    values: dict[str, Value] = {}
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
                values |= _parse(_key(table, name), value)
        except UsageError as error:
            key = plain(f"{table}.{name}".lstrip("."))
            problems.append(f"{file}: {key}: {error}; left out")
    return Layer(values, checkpoint, tuple(problems))


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


def _parse(key: str, value: Any) -> dict[str, Value]:
    """The value of a setting, given as text or as the type it has, by its key.

    A sampler may be given as a chain, with values of its own.

    Raises:
        UsageError: if it is not allowed.
    """
    if key == "sampler":
        if not isinstance(value, str):
            raise UsageError(f"sampler must be a name; got {quoted(value)}")
        spec, typed = read_sampler(value)
        own = {
            f"{spec.name}.{name}": spec.parameter(name).parse(text)
            for name, text in typed.items()
        }
        return {"sampler": spec.name, **own}
    parameter = parameter_of(key)
    if isinstance(value, str):
        return {key: parameter.parse(value)}
    return {key: parameter.check(value)}


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "_")


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
    config = read_settings_file(options)
    directory = paths.find_checkpoint(options.checkpoint, config.checkpoint)
    record = (find_record if options.no_verify else read_record)(directory)
    limits = limits_of(record) if record else {}
    layers = {"config": config, "environment": read_environment(os.environ)}
    settings = Settings(
        {name: _allowed(layer, name, limits) for name, layer in layers.items()}, limits
    )
    return directory, _with_flags(settings, options)


def read_settings_file(options: Options) -> Layer:
    """The settings of the config file that the options name, or of the user's own."""
    return read_config(Path(options.config) if options.config else None)


def _allowed(layer: Layer, name: str, limits: Limits) -> dict[str, Value]:
    """Values of a layer that the checkpoint allows too; tells what is left out."""
    problems = list(layer.problems)
    values = {}
    for key, value in layer.values.items():
        try:
            check_value(key, value, limits)
            values[key] = value
        except UsageError as error:
            problems.append(f"{name}: {key}: {error}; left out")
    for problem in problems:
        tell(problem)
    return values


def _with_flags(settings: Settings, options: Options) -> Settings:
    named = {
        "sampler": options.sampler,
        "seed": options.seed,
        "length": options.length,
        "color": options.color,
    }
    values = {name: value for name, value in named.items() if value is not None}
    return settings.set(values | dict(options.assignments), origin="flag")[0]


def tell(message: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"minigpt-repl: {shown_line(message)}\n")
