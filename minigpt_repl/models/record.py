"""A checkpoint's folder: what its record says, and whether its files are what it says.

The record, `training.json`, lets a terminal know the vocabulary's size before any model
is loaded. A checkpoint comes from anywhere, so it is looked at before anything is built
of it: its configurations are data and name no class but ours; they agree with each
other and with the weights' files, so that none makes us build more than there is; and
the weights are numbers.
"""

import contextlib
import hashlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from minigpt_repl import formats
from minigpt_repl.errors import CheckpointError, MiniGPTError
from minigpt_repl.files import open_user_file, read_user_file
from minigpt_repl.formats import BackboneConfig, FormatError, Record
from minigpt_repl.models.text.bytelevel import SPLIT_PATTERN, SPLIT_PATTERNS
from minigpt_repl.paths import (
    PROGRESS_FILE,
    RECORD_FILE,
    known_checkpoints,
    training_folder,
)
from minigpt_repl.shown import did_you_mean, quoted, shown_path

VOCABULARY_FILE = "assets/tokenizer/vocabulary.txt"
DRAFT_FOLDER = "draft"
WEIGHTS, HEAD_WEIGHTS = "model.weights.h5", "task.weights.h5"

TOKENIZERS = {"MiniGPTTokenizer": "wordpiece", "MiniGPTBytePairTokenizer": "bpe"}
"""What a record calls each class of tokenizer."""

TOKENIZER_FILES = {
    "wordpiece": (VOCABULARY_FILE,),
    "bpe": ("assets/tokenizer/vocabulary.json", "assets/tokenizer/merges.txt"),
}
"""What each kind of tokenizer has beside its configuration."""

CLASSES = {
    "config.json": ("MiniGPTBackbone",),
    "preprocessor.json": ("MiniGPTCausalLMPreprocessor",),
    "task.json": ("MiniGPTCausalLM",),
    "tokenizer.json": tuple(TOKENIZERS),
}
"""Classes of ours that each configuration file may be of."""

PRESET_FILES = (*CLASSES, "metadata.json", WEIGHTS)
"""What every checkpoint has; `HEAD_WEIGHTS` too if its head has weights."""

REPEATED = (
    ("config.json", "task.json", "backbone"),
    ("preprocessor.json", "task.json", "preprocessor"),
    ("tokenizer.json", "preprocessor.json", "tokenizer"),
)
"""Files whose content is also a part of another's."""

LARGEST_JSON = 16 * 1024 * 1024
"""Bytes of the largest record or configuration that is read."""

LONGEST_NAME = 200
UNHASHED = (RECORD_FILE, "README.md")
FIX_HINT = "make a good one with minigpt-setup, or name another with --checkpoint"


@contextlib.contextmanager
def as_checkpoint_error() -> Iterator[None]:
    """Tell what is wrong with a file in one line that ends with what to do."""
    try:
        yield
    except CheckpointError:  # says it already
        raise
    except MiniGPTError as error:
        raise CheckpointError(f"{error}: {FIX_HINT}") from error
    except OSError as error:
        name = shown_path(error.filename or "the checkpoint")
        line = f"can't read {name}: {error.strerror}"
        raise CheckpointError(f"{line}: {FIX_HINT}") from error


def read_record(directory: Path) -> Record:
    """The record of a checkpoint.

    Raises:
        CheckpointError: if there is none, or it can't be read or understood.
    """
    record = find_record(directory)
    if record is None:
        raise CheckpointError(
            f"{shown_path(directory)} has no {RECORD_FILE}, so its files can't be "
            f"checked: {FIX_HINT}, or load it as it is with --no-verify"
        )
    return record


@as_checkpoint_error()
def find_record(directory: Path) -> Record | None:
    """As `read_record`; `None` if the folder has no record."""
    _check_folder(directory)
    path = directory / RECORD_FILE
    if not path.is_file():
        return None
    text = read_user_file(path, LARGEST_JSON)
    record = formats.decode(text, shown_path(path), Record)
    for name in record.files:
        is_inside = ".." not in Path(name).parts and not Path(name).is_absolute()
        if not is_inside or not name.isprintable() or len(name) > LONGEST_NAME:
            raise FormatError(f"{shown_path(path)} names a file {quoted(name)}")
    return record


@as_checkpoint_error()
def check_checkpoint(directory: Path, verify: bool = True) -> Record | None:
    """The record of a checkpoint whose files were checked; `None` if it has none.

    Args:
        directory: the folder.
        verify: whether the record must be there and the files must agree with it.

    Raises:
        CheckpointError: in one line, what is wrong and how to have a good one.
    """
    draft = directory / DRAFT_FOLDER
    record: Record | None
    if verify:
        record = read_record(directory)
        verify_files(directory, record)
        has_draft = record.has_draft
    else:
        record = find_record(directory)
        has_draft = draft.is_dir()
    for preset in (directory, draft) if has_draft else (directory,):
        _check_preset(preset)
    return record


@as_checkpoint_error()
def verify_files(directory: Path, record: Record) -> None:
    """Compare every file of a checkpoint with its record.

    Raises:
        CheckpointError: naming the first file that is missing or differs.
    """
    required = [*PRESET_FILES, *TOKENIZER_FILES[record.tokenizer]]
    if record.has_draft:
        required += [f"{DRAFT_FOLDER}/{name}" for name in required]
    for name in required:
        if name not in record.files:
            path = shown_path(directory / RECORD_FILE)
            raise FormatError(f"{path} does not cover {name}")
    for name, expected in record.files.items():
        _require_file(directory, name)
        if _hash_file(directory / name) != expected:
            raise FormatError(
                f"{shown_path(directory / name)} is not the file that was saved (its "
                f"sha256 differs from {RECORD_FILE})"
            )


def hash_files(directory: Path) -> dict[str, str]:
    """sha256 of every file in a folder that a record covers, by relative path."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    files = {path.relative_to(directory).as_posix(): path for path in paths}
    return {name: _hash_file(files[name]) for name in files if name not in UNHASHED}


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@as_checkpoint_error()
def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        CheckpointError: if it can't be read or is not JSON.
    """
    try:
        return msgspec.json.decode(read_user_file(path, LARGEST_JSON))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{shown_path(path)} is damaged ({error})") from None


def _check_folder(directory: Path) -> None:
    """Refuse a folder that is not there, with the nearest of those that are known."""
    if directory.is_dir():
        return
    if directory.exists():
        raise CheckpointError(
            f"{shown_path(directory)} is a file; a checkpoint is a folder, such as "
            "the one that minigpt-setup --out FOLDER makes"
        )
    known = known_checkpoints()
    names = ", ".join(map(shown_path, known))
    hint = f"; known by name: {names}" if names else ""
    raise CheckpointError(
        f"there is no checkpoint at {shown_path(directory)}{_unfinished(directory)}"
        f"{did_you_mean(directory.name, known) or hint}"
    )


def _unfinished(directory: Path) -> str:
    """How far a training for this place came, if there is one, and what goes on."""
    try:
        content = read_json(training_folder(directory) / PROGRESS_FILE)
        told = formats.checked(content, formats.Progress, PROGRESS_FILE)
    except MiniGPTError:
        return ": make one with minigpt-setup, or name another"
    command = shlex.join(["minigpt-setup", "--out", str(directory), "--resume"])
    return (
        f" yet: its training stopped after step {told.step:,}, {told.progress:.0%} "
        f"done; go on with {command}"
    )


def _require_file(directory: Path, name: str) -> None:
    if not (directory / name).is_file():
        raise FormatError(f"{shown_path(directory)} is incomplete, {name} is missing")


def _check_preset(directory: Path) -> None:
    """Refuse what Keras should not be given: see the top of this module."""
    for name in PRESET_FILES:
        _require_file(directory, name)
    contents = {
        path.name: _read_configuration(path)
        for path in sorted(directory.glob("*.json"))
        if path.name != RECORD_FILE
    }
    for name, other, part in REPEATED:
        _check_same(directory, contents, name, other, part)
    _check_tokenizer(directory, contents["tokenizer.json"])
    name = shown_path(directory / "config.json")
    config = formats.checked(_config(contents["config.json"]), BackboneConfig, name)
    expected, head = parameter_count(config)
    _check_weights(directory / WEIGHTS, expected)
    if head:
        # Without this file Keras would leave the head as it was drawn at random.
        _require_file(directory, HEAD_WEIGHTS)
        _check_weights(directory / HEAD_WEIGHTS, head)


def _read_configuration(path: Path) -> Any:
    """A configuration's content, which names no class but ours.

    Keras imports the modules that a configuration names, and some layers hold
    code, so nothing else is let through to it.
    """
    content = read_json(path)
    named = content.get("class_name") if isinstance(content, dict) else None
    classes = CLASSES.get(path.name)
    if classes is not None and named not in classes:
        names = " or ".join(classes)
        raise FormatError(
            f"{shown_path(path)} is of class {quoted(named)}, not {names}"
        )
    for node in _dictionaries(content):
        asked = [node.get(key) for key in ("module", "class_name", "registered_name")]
        if any(asked) and not _is_ours(*asked):
            names = quoted(" ".join(str(name) for name in asked if name))
            raise FormatError(
                f"{shown_path(path)} asks for {names}, which is not a part of a "
                "minigpt-repl checkpoint"
            )
    return content


def _is_ours(module: Any, name: Any, registered: Any) -> bool:
    """Whether a checkpoint may ask for a class.

    Keras finds ours by their registered name, and so does not look for their module,
    which was another one in older versions.
    """
    if module == "keras":
        return (name, registered) == ("DTypePolicy", None)
    is_known = any(name in classes for classes in CLASSES.values())
    is_registered = registered == f"minigpt_repl>{name}"
    return is_known and is_registered and str(module).startswith("minigpt_repl.")


def _dictionaries(content: Any) -> Iterator[dict[str, Any]]:
    left = [content]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            yield each
            left += each.values()
        elif isinstance(each, list):
            left += each


def _config(content: Any) -> dict[str, Any]:
    config = content.get("config") if isinstance(content, dict) else None
    return config if isinstance(config, dict) else {}


def _check_same(
    directory: Path, contents: dict[str, Any], name: str, other: str, part: str
) -> None:
    """Refuse two files that say different things of one and the same part."""
    one, two = _config(contents[name]), _config(_config(contents[other]).get(part))
    for key in [*one, *two]:
        said, says = one.get(key), two.get(key)
        if said != says:
            raise FormatError(
                f"{shown_path(directory)}: {name} says {quoted(key)} is "
                f"{quoted(said)}, {other} that it is {quoted(says)}"
            )


def _check_tokenizer(directory: Path, content: dict[str, Any]) -> None:
    """Refuse a split that may take for ever, and files that are not there or huge."""
    pattern = _config(content).get("split_pattern", SPLIT_PATTERN)
    if pattern not in SPLIT_PATTERNS:
        raise CheckpointError(
            f"{shown_path(directory / 'tokenizer.json')} splits text by "
            f"{quoted(str(pattern))}; only this program's own, Llama 3's and GPT-2's "
            "split_pattern are allowed: another one may take for ever"
        )
    for name in TOKENIZER_FILES[TOKENIZERS[content["class_name"]]]:
        open_user_file(directory / name).close()


def parameter_count(config: BackboneConfig) -> tuple[int, int]:
    """Weights of a backbone, and of its head if that has its own."""
    width, inner = config.hidden_dim, config.intermediate_dim
    heads = config.num_heads * (width // config.num_heads)
    attention = 3 * (width + 1) * heads + (heads + 1) * width
    feedforward = (width + 1) * inner + (inner + 1) * width
    block = attention + feedforward + 4 * width
    rows = config.vocabulary_size
    if not config.rotary:
        rows += config.max_sequence_length
    norm = 2 * width if config.normalize_first else 0
    head = 0 if config.tie_weights else (width + 1) * config.vocabulary_size
    return rows * width + config.num_layers * block + norm, head


def _check_weights(path: Path, expected: int) -> None:
    """Refuse a file of other weights than expected, and of such as are no numbers."""
    import h5py
    import numpy as np

    found = 0

    def check(name: str, values: Any) -> None:
        nonlocal found
        if not isinstance(values, h5py.Dataset) or name.startswith("optimizer/"):
            return
        # A file may say that it holds what it does not: zeros, or another's.
        is_there = values.id.get_storage_size() >= values.nbytes
        if not is_there or values.external or values.is_virtual:
            raise OSError("it holds less than it says")
        found += values.size
        if found > expected:
            return
        weights = np.ravel(values[()]).astype(np.float32, copy=False)
        # Finite only if all are, and small enough to be multiplied.
        if not np.isfinite(np.vdot(weights, weights)):
            raise FormatError(
                f"{shown_path(path)} has weights that are not finite or too large to "
                f"compute with ({values.name})"
            )

    try:
        with h5py.File(path, "r") as file:
            file.visititems(check)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        line = f"can't load {shown_path(path)} ({quoted(str(error))})"
        raise FormatError(line) from None
    if found != expected:
        raise FormatError(
            f"{shown_path(path)} does not hold the {expected:,} weights that "
            "config.json asks for"
        )
