"""Is a checkpoint what it says it is? Looked at before anything is built of it.

A checkpoint comes from anywhere. Its configurations are data and name no class but
ours; they agree with each other, with the record and with the weights' files, so that
none makes us build more than there is; and the weights are numbers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minigpt_repl.errors import CheckpointError
from minigpt_repl.formats import BackboneConfig, FormatError, Record, checked
from minigpt_repl.models.record import (
    DRAFT_FOLDER,
    FIX_HINT,
    PRESET_FILES,
    TOKENIZER_FILES,
    TOKENIZERS,
    check_folder,
    damaged,
    is_file,
    read_json,
    read_record,
    require_file,
    verify_files,
)
from minigpt_repl.models.text.bytelevel import SPLIT_PATTERN, SPLIT_PATTERNS
from minigpt_repl.paths import RECORD_FILE
from minigpt_repl.shown import quoted, shown_path

CLASSES = {
    "config.json": "MiniGPTBackbone",
    "preprocessor.json": "MiniGPTCausalLMPreprocessor",
    "task.json": "MiniGPTCausalLM",
}
"""Class that each configuration file must be of."""

MODULES = ("backbone", "byte_pair", "causal_lm", "preprocessor", "tokenizer")
"""Where our classes are or were; in version 0.1.0 in a package `lm`."""

ALLOWED = [("keras", "DTypePolicy", None)] + [
    (f"minigpt_repl.{package}.{module}", name, f"minigpt_repl>{name}")
    for name in (*CLASSES.values(), *TOKENIZERS)
    for module in MODULES
    for package in ("models", "lm")
]
"""Module, class and registered name of all that a checkpoint may ask for."""

REPEATED = (
    ("config.json", "task.json", "backbone"),
    ("preprocessor.json", "task.json", "preprocessor"),
    ("tokenizer.json", "preprocessor.json", "tokenizer"),
)
"""Files whose content is also a part of another's."""

WEIGHTS, HEAD_WEIGHTS = "model.weights.h5", "task.weights.h5"
LARGEST_VOCABULARY = 64 * 1024 * 1024


def check_checkpoint(directory: Path, verify: bool = True) -> Record | None:
    """The record of a checkpoint whose files were checked; `None` if it has none.

    Args:
        directory: the folder.
        verify: whether the record must be there and the files must agree with it.

    Raises:
        CheckpointError: in one line, what is wrong and how to have a good one.
    """
    check_folder(directory)
    draft = directory / DRAFT_FOLDER
    if not verify:
        has_record = is_file(directory / RECORD_FILE)
        known = read_record(directory) if has_record else None
        _check_preset(directory)
        if draft.is_dir():
            _check_preset(draft)
        return known
    record = read_record(directory)
    verify_files(directory, record)
    _check_facts(directory, _check_preset(directory), record)
    if record.has_draft:
        _check_preset(draft)
    return record


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


def _check_preset(directory: Path) -> BackboneConfig:
    for name in PRESET_FILES:
        require_file(directory, name)
    _check_tokenizer(directory)
    contents = {
        path.name: _read_data(path)
        for path in sorted(directory.glob("*.json"))
        if path.name != RECORD_FILE
    }
    for name, other, part in REPEATED:
        _check_same(directory, contents, name, other, part)
    path = directory / "config.json"
    try:
        config = checked(
            contents[path.name].get("config"), BackboneConfig, shown_path(path)
        )
    except FormatError as error:
        raise CheckpointError(f"{error}: {FIX_HINT}") from None
    expected, head = parameter_count(config)
    _check_weights(directory / WEIGHTS, expected)
    if head:
        # Without this file Keras would leave the head as it was drawn at random.
        require_file(directory, HEAD_WEIGHTS)
        _check_weights(directory / HEAD_WEIGHTS, head)
    return config


def _check_tokenizer(directory: Path) -> None:
    """Refuse another class than ours, and files that are missing or too large."""
    path = directory / "tokenizer.json"
    content = read_json(path)
    named = content.get("class_name") if isinstance(content, dict) else None
    if not isinstance(named, str) or named not in TOKENIZERS:
        names = " or ".join(TOKENIZERS)
        raise damaged(path, f" is of class {quoted(named)}, not {names}")
    pattern = _config(content).get("split_pattern", SPLIT_PATTERN)
    if pattern not in SPLIT_PATTERNS:
        raise CheckpointError(
            f"{shown_path(path)} splits text by {quoted(str(pattern))}; only this "
            "program's own, Llama 3's and GPT-2's split_pattern are allowed: another "
            "one may take for ever"
        )
    for name in TOKENIZER_FILES[TOKENIZERS[named]]:
        require_file(directory, name)
        if (directory / name).stat().st_size > LARGEST_VOCABULARY:
            limit = f"{LARGEST_VOCABULARY // 2**20} MB"
            raise damaged(directory / name, f" is larger than {limit}")


def _check_facts(directory: Path, config: BackboneConfig, record: Record) -> None:
    facts = {
        "rows": (record.embedding_rows, config.vocabulary_size),
        "positions": (record.context_length, config.max_sequence_length),
        "weights": (record.parameter_count, sum(parameter_count(config))),
    }
    for name, (said, found) in facts.items():
        if said != found:
            raise damaged(
                directory,
                f": {RECORD_FILE} says {said:,} {name}, config.json {found:,}",
            )


def _read_data(path: Path) -> Any:
    """A configuration's content, which names no class but ours.

    Keras imports the modules that a configuration names, and some layers hold
    code, so nothing else is let through to it.
    """
    content = read_json(path)
    expected = CLASSES.get(path.name)
    named = content.get("class_name") if isinstance(content, dict) else None
    if expected is not None and named != expected:
        raise damaged(path, f" is of class {quoted(named)}, not {expected}")
    for node in _dictionaries(content):
        asked = [node.get(key) for key in ("module", "class_name", "registered_name")]
        if any(asked) and tuple(asked) not in ALLOWED:
            names = quoted(" ".join(str(name) for name in asked if name))
            raise damaged(
                path,
                f" asks for {names}, which is not a part of a minigpt-repl checkpoint",
            )
    return content


def _dictionaries(content: Any) -> Iterator[dict[str, Any]]:
    left = [content]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            yield each
            left += each.values()
        elif isinstance(each, list):
            left += each


def _check_same(
    directory: Path, contents: dict[str, Any], name: str, other: str, part: str
) -> None:
    """Refuse two files that say different things of one and the same part."""
    one, two = _config(contents[name]), _config(_config(contents[other]).get(part))
    for key in [*one, *two]:
        if key not in one or key not in two or one[key] != two[key]:
            said, says = (quoted(each.get(key)) for each in (one, two))
            raise damaged(
                directory,
                f": {name} says {quoted(key)} is {said}, {other} that it is {says}",
            )


def _config(content: Any) -> dict[str, Any]:
    config = content.get("config") if isinstance(content, dict) else None
    return config if isinstance(config, dict) else {}


def _check_weights(path: Path, expected: int) -> None:
    """Refuse a file of other weights than expected, and of such as are no numbers."""
    import h5py
    import numpy as np

    found = 0
    try:
        with h5py.File(path, "r") as file:
            for values in _datasets(file):
                found += values.size
                # A file may say that it holds what it does not: zeros, or another's.
                is_there = values.id.get_storage_size() >= values.nbytes
                if not is_there or values.external or values.is_virtual:
                    raise OSError("it holds less than it says")
                if found > expected:
                    break
                weights = np.ravel(values[()]).astype(np.float32, copy=False)
                # Finite only if all are, and small enough to be multiplied.
                if not np.isfinite(np.vdot(weights, weights)):
                    raise damaged(
                        path,
                        " has weights that are not finite or too large to compute "
                        f"with ({values.name})",
                    )
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"can't load {shown_path(path)} ({quoted(str(error))}): {FIX_HINT}"
        ) from None
    if found != expected:
        raise damaged(
            path,
            f" does not hold the {expected:,} weights that config.json asks for",
        )


def _datasets(file: Any) -> list[Any]:
    import h5py

    found: list[Any] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            found.append(item)

    file.visititems(note)
    return found
