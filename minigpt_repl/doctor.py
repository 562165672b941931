"""What `minigpt-repl doctor` looks at: is everything there that a text needs?

Each check yields one finding, with what to do if it is not well. TensorFlow is imported
only for its own checks.
"""

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from minigpt_repl import paths
from minigpt_repl.engine.request import Engine, finished
from minigpt_repl.errors import MiniGPTError
from minigpt_repl.models.record import read_record, verify_files
from minigpt_repl.settings import Settings
from minigpt_repl.shown import and_more, in_seconds
from minigpt_repl.version import __version__

DISTRIBUTION = "minigpt-repl"
TEST_TOKENS = 20
MISSING = "is not installed"


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what was found, and what to do
    unless all is well."""

    subject: str
    detail: str
    advice: str = ""

    def __str__(self) -> str:
        state, advice = ("fix", f"; {self.advice}") if self.advice else ("ok", "")
        return f"{state:<4} {self.subject:<18} {self.detail}{advice}"


def examine(
    checkpoint: Path,
    verify: bool,
    problems: Sequence[str],
    open_engine: Callable[[str], Engine],
) -> Iterator[Finding]:
    """Every finding, as it is found.

    Args:
        checkpoint: the folder to look at.
        verify: whether its files must agree with its record.
        problems: what is wrong in the config file and the environment.
        open_engine: makes the engine of the folder, for a few tokens.
    """
    wanted = _requirements()
    yield _python(wanted.pop("python", SpecifierSet()))
    packages = [_package(name, versions) for name, versions in wanted.items()]
    yield from packages
    missing = [each.subject for each in packages if each.detail == MISSING]
    if "tensorflow" not in missing:
        yield _devices()
    yield _checkpoint(checkpoint, verify)
    yield _settings(problems)
    yield _writable("config folder", paths.config_home())
    yield _writable("state folder", paths.state_home())
    yield _writable("data folder", paths.data_home())
    yield _writable("cache folder", paths.cache_home())
    if not missing:
        yield _generates(checkpoint, open_engine)


def _python(wanted: SpecifierSet) -> Finding:
    detail = f"{platform.python_version()} on {platform.platform(terse=True)}"
    is_right = ".".join(map(str, sys.version_info[:3])) in wanted
    return Finding("python", detail, "" if is_right else f"install Python {wanted}")


def _package(name: str, wanted: SpecifierSet) -> Finding:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = MISSING
    is_right = version != MISSING and version in wanted
    advice = "" if is_right else f"run: pip install '{name}{wanted}'"
    return Finding(name, version, advice)


def _requirements() -> dict[str, SpecifierSet]:
    """The versions that Python and each dependency must have, such as `>=8.1,<9`."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
        lines = [f"python{metadata.metadata(DISTRIBUTION)['Requires-Python']}", *lines]
    except metadata.PackageNotFoundError:  # run from a clone that is not installed
        lines = ["tensorflow"]
    parsed = map(Requirement, lines)
    return {each.name: each.specifier for each in parsed if each.marker is None}


def _devices() -> Finding:
    import tensorflow as tf

    names = [device.device_type for device in tf.config.list_physical_devices()]
    counts = ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names)))
    return Finding("devices", f"{counts}, {os.cpu_count()} cores")


def _checkpoint(directory: Path, verify: bool) -> Finding:
    try:
        record = read_record(directory)
        if verify:
            verify_files(directory, record)
    except MiniGPTError as error:
        detail, _, advice = str(error).rpartition(": ")
        return Finding("checkpoint", detail or str(error), advice)
    state = "as it was saved" if verify else "not verified"
    return Finding(
        "checkpoint",
        f"{directory}, {record.parameter_count:,} weights, "
        f"{record.vocabulary_size:,} words, {state}",
    )


def _settings(problems: Sequence[str]) -> Finding:
    if not problems:
        return Finding("settings", "config file and environment are understood")
    found = f"{problems[0]}{and_more(len(problems) - 1)}"
    return Finding("settings", found, "correct it or take it out")


def _writable(name: str, folder: Path) -> Finding:
    # A folder that is not there yet is made when it is needed: what counts then
    # is the nearest one above it.
    place = next(p for p in (folder, *folder.parents) if os.path.exists(p))
    try:
        with tempfile.NamedTemporaryFile(dir=place):
            return Finding(name, str(folder))
    except OSError as error:
        detail = f"{folder} can't be written ({error.strerror})"
        return Finding(name, detail, f"make {place} a folder that you may write to")


def _generates(checkpoint: Path, open_engine: Callable[[str], Engine]) -> Finding:
    subject = f"{TEST_TOKENS} tokens"
    settings, _ = Settings().set({"length": str(TEST_TOKENS), "seed": "1"})
    try:
        with closing(open_engine(str(checkpoint))) as engine:
            *_, last = engine.generate(settings.request(""))
        made = finished(last)
    except MiniGPTError as error:
        return Finding(subject, str(error), "correct what is said above and try again")
    if len(made.tokens) != TEST_TOKENS:
        return Finding(subject, "did not come", f"report this, with {__version__}")
    times = made.timings
    return Finding(
        subject,
        f"loaded in {in_seconds(times.load_s)}, first token after "
        f"{in_seconds(times.first_token_s)}, all in {in_seconds(times.decode_s)}",
    )
