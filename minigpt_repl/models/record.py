"""A checkpoint's record, `training.json`: what it is made of and how it was made.

It lets a terminal know the vocabulary's size before any model is loaded.
"""

import hashlib
import shlex
from pathlib import Path
from typing import Any

import msgspec

from minigpt_repl import formats
from minigpt_repl.errors import CheckpointError, MiniGPTError
from minigpt_repl.files import read_user_file
from minigpt_repl.formats import Record
from minigpt_repl.paths import (
    PROGRESS_FILE,
    RECORD_FILE,
    known_checkpoints,
    training_folder,
)
from minigpt_repl.shown import did_you_mean, quoted, shown_path

VOCABULARY_FILE = "assets/tokenizer/vocabulary.txt"
DRAFT_FOLDER = "draft"
PRESET_FILES = (
    "config.json",
    "metadata.json",
    "model.weights.h5",
    "preprocessor.json",
    "task.json",
    "tokenizer.json",
)
"""What every checkpoint has; `task.weights.h5` too if its head has weights."""

TOKENIZERS = {"MiniGPTTokenizer": "wordpiece", "MiniGPTBytePairTokenizer": "bpe"}
"""What a record calls each class of tokenizer."""

TOKENIZER_FILES = {
    "wordpiece": (VOCABULARY_FILE,),
    "bpe": ("assets/tokenizer/vocabulary.json", "assets/tokenizer/merges.txt"),
}
"""What each kind of tokenizer has beside them."""

LARGEST_JSON = 16 * 1024 * 1024
"""Bytes of the largest record or configuration that is read."""

LONGEST_NAME = 200
UNHASHED = (RECORD_FILE, "README.md")
FIX_HINT = "make a good one with minigpt-setup, or name another with --checkpoint"


def read_record(directory: Path) -> Record:
    """The record of a checkpoint.

    Raises:
        CheckpointError: if there is none, or it can't be read or understood.
    """
    check_folder(directory)
    path = directory / RECORD_FILE
    if not is_file(path):
        raise CheckpointError(
            f"{shown_path(directory)} has no {RECORD_FILE}, so its files can't be "
            f"checked: {FIX_HINT}, or load it as it is with --no-verify"
        )
    try:
        record = formats.decode(_read(path), shown_path(path), Record)
    except formats.FormatError as error:
        raise CheckpointError(f"{error}: {FIX_HINT}") from None
    for name in record.files:
        is_inside = ".." not in Path(name).parts and not Path(name).is_absolute()
        if not is_inside or not name.isprintable() or len(name) > LONGEST_NAME:
            raise damaged(path, f" names a file {quoted(name)}")
    return record


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
            raise damaged(directory / RECORD_FILE, f" does not cover {name}")
    for name, expected in record.files.items():
        require_file(directory, name)
        if hash_file(directory / name) != expected:
            raise damaged(
                directory / name,
                " is not the file that was saved (its sha256 differs from "
                f"{RECORD_FILE})",
            )
    check_rows(directory, record.vocabulary_size, record.embedding_rows)


def check_rows(directory: Path, words: int, rows: int) -> None:
    """Refuse a vocabulary of more words than the model has rows."""
    if words > rows:
        problem = f"the vocabulary has {words} words but the model only {rows} rows"
        raise damaged(directory, f": {problem}")


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        CheckpointError: if it can't be read or is not JSON.
    """
    try:
        return msgspec.json.decode(_read(path))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f" is damaged ({error})") from None


def _read(path: Path) -> str:
    try:
        return read_user_file(path, LARGEST_JSON)
    except MiniGPTError as error:
        raise CheckpointError(f"{error}: {FIX_HINT}") from None


def is_file(path: Path) -> bool:
    """As `Path.is_file`, with an error of ours.

    Raises:
        CheckpointError: if the system does not let us look.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError, hint: str = "") -> CheckpointError:
    return CheckpointError(f"can't read {shown_path(path)}: {error.strerror}{hint}")


def require_file(directory: Path, name: str) -> None:
    """Refuse a checkpoint that has no file of this name."""
    if not is_file(directory / name):
        raise damaged(directory, f" is incomplete, {name} is missing")


def damaged(path: Path, problem: str) -> CheckpointError:
    """The error for a checkpoint or a file of it: its name, the problem, what to do."""
    return CheckpointError(f"{shown_path(path)}{problem}: {FIX_HINT}")


def hash_files(directory: Path) -> dict[str, str]:
    """sha256 of every file in a folder that a record covers, by relative path."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    files = {path.relative_to(directory).as_posix(): path for path in paths}
    return {name: hash_file(files[name]) for name in files if name not in UNHASHED}


def hash_file(path: Path) -> str:
    """sha256 of a file's content, in hexadecimal.

    Raises:
        CheckpointError: if it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def check_folder(directory: Path) -> None:
    """Make sure that a checkpoint's folder is there.

    Raises:
        CheckpointError: if there is nothing, a file, or no permission to look.
    """
    try:
        exists = directory.exists()
    except OSError as error:
        raise _unreadable(directory, error, f"; {FIX_HINT}") from error
    if not exists:
        known = known_checkpoints()
        names = ", ".join(map(shown_path, known))
        hint = f"; known by name: {names}" if names else ""
        raise CheckpointError(
            f"there is no checkpoint at {shown_path(directory)}{_unfinished(directory)}"
            f"{did_you_mean(directory.name, known) or hint}"
        )
    if not directory.is_dir():
        raise CheckpointError(
            f"{shown_path(directory)} is a file; a checkpoint is a folder, such as "
            "the one that minigpt-setup --out FOLDER makes"
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
