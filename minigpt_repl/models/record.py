"""A checkpoint's record, `training.json`: what it is made of and how it was made.

The record lets a terminal know the vocabulary's size before any model is
loaded, and lets the loader tell a damaged checkpoint from a whole one. No
TensorFlow here.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minigpt_repl.errors import CheckpointError

RECORD_FILE = "training.json"
VOCABULARY_FILE = "assets/tokenizer/vocabulary.txt"
DRAFT_FOLDER = "draft"
PRESET_FILES = (
    "config.json",
    "metadata.json",
    "model.weights.h5",
    "preprocessor.json",
    "task.json",
    "tokenizer.json",
    VOCABULARY_FILE,
)
"""What every checkpoint has; `task.weights.h5` too if its head has weights."""

VERSION = 1
UNHASHED = (RECORD_FILE, "README.md")
MEND = "make a good one with minigpt-setup, or name another with --checkpoint"


@dataclass(frozen=True)
class Record:
    """What a checkpoint says of itself.

    Attributes:
        vocabulary_size: words in the vocabulary, reserved ones included.
        embedding_rows: rows of the model's embedding; at least as many.
        context_length: positions of the model.
        parameter_count: weights of the model.
        lowercase: whether the tokenizer folds case.
        has_draft: whether a draft model is in the folder `draft`.
        files: sha256 of each file, by its path inside the folder.
        training: recipe, data, history, metrics, seed, versions, wall time.
        version: of this format.
    """

    vocabulary_size: int
    embedding_rows: int
    context_length: int
    parameter_count: int
    lowercase: bool
    has_draft: bool
    files: Mapping[str, str]
    training: Mapping[str, Any] = field(default_factory=dict)
    version: int = VERSION

    @property
    def sha256(self) -> str:
        """Identifies weights, configuration and vocabulary together."""
        lines = (f"{name} {digest}\n" for name, digest in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def to_json(self) -> str:
        """The text of `training.json`."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def read_record(directory: Path) -> Record:
    """The record of a checkpoint.

    Raises:
        CheckpointError: if the folder or its record is missing, unreadable,
            from a newer version or not a record.
    """
    check_folder(directory)
    path = directory / RECORD_FILE
    if not is_file(path):
        raise CheckpointError(
            f"{directory} has no {RECORD_FILE}, so its files can't be checked: "
            f"{MEND}, or load it as it is with --no-verify"
        )
    return _parse(read_json(path), path)


def verify_files(directory: Path, record: Record) -> None:
    """Compare every file of a checkpoint with its record.

    Raises:
        CheckpointError: naming the first file that is missing or differs.
    """
    required = list(PRESET_FILES)
    if record.has_draft:
        required += [f"{DRAFT_FOLDER}/{name}" for name in PRESET_FILES]
    for name in required:
        if name not in record.files:
            raise CheckpointError(
                f"{directory / RECORD_FILE} does not cover {name}: {MEND}"
            )
    for name, expected in record.files.items():
        path = directory / name
        if not is_file(path):
            raise incomplete(directory, name)
        if hash_file(path) != expected:
            raise CheckpointError(
                f"{path} is not the file that was saved (its sha256 differs from "
                f"{RECORD_FILE}): {MEND}"
            )
    if record.vocabulary_size > record.embedding_rows:
        raise CheckpointError(
            f"{directory}: the vocabulary has {record.vocabulary_size} words but the "
            f"model only {record.embedding_rows} rows: {MEND}"
        )


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        CheckpointError: if it can't be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {MEND}") from error


def is_file(path: Path) -> bool:
    """Whether there is such a file.

    Raises:
        CheckpointError: if the system does not let us look.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}") from error


def incomplete(directory: Path, name: str) -> CheckpointError:
    """The error for a file that is not there."""
    return CheckpointError(f"{directory} is incomplete, {name} is missing: {MEND}")


def hash_files(directory: Path) -> dict[str, str]:
    """sha256 of every file in a folder that a record covers, by relative path."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    names = {path: path.relative_to(directory).as_posix() for path in paths}
    return {
        name: hash_file(path) for path, name in names.items() if name not in UNHASHED
    }


def hash_file(path: Path) -> str:
    """sha256 of a file's content, in hexadecimal.

    Raises:
        CheckpointError: if it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}") from error


def check_folder(directory: Path) -> None:
    """Make sure that a checkpoint's folder is there.

    Raises:
        CheckpointError: if there is nothing, a file, or no permission to look.
    """
    try:
        exists = directory.exists()
    except OSError as error:
        raise CheckpointError(
            f"can't read {directory}: {error.strerror}; {MEND}"
        ) from error
    if not exists:
        raise CheckpointError(f"there is no checkpoint at {directory}: {MEND}")
    if not directory.is_dir():
        raise CheckpointError(
            f"{directory} is a file; a checkpoint is a folder, such as the one that "
            "minigpt-setup --out FOLDER makes"
        )


def _parse(content: Any, path: Path) -> Record:
    version = content.get("version") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{path} is not a checkpoint's record: {MEND}")
    if version > VERSION:
        raise CheckpointError(
            f"{path} is of version {version}, this program reads up to {VERSION}: "
            "install a newer minigpt-repl"
        )
    kinds: dict[str, type] = {
        "vocabulary_size": int,
        "embedding_rows": int,
        "context_length": int,
        "parameter_count": int,
        "lowercase": bool,
        "has_draft": bool,
        "files": dict,
        "training": dict,
    }
    for name, kind in kinds.items():
        if type(content.get(name)) is not kind:
            raise CheckpointError(f"{path} has no valid {name!r}: {MEND}")
    for name, digest in content["files"].items():
        parts = Path(name).parts
        if not isinstance(digest, str) or ".." in parts or Path(name).is_absolute():
            raise CheckpointError(f"{path} names an invalid file {name!r}: {MEND}")
    return Record(**{name: content[name] for name in kinds}, version=version)
