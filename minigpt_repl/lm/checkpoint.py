"""Saving and loading a checkpoint: a KerasHub preset folder plus its record.

`keras_hub.models.CausalLM.from_preset(DIRECTORY)` reads the same folder once
`minigpt_repl.lm` is imported; loading it here also checks that it is whole and
that it is nothing but data.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_hub.models import CausalLM

from minigpt_repl.atomic import explained, open_directory_atomically
from minigpt_repl.errors import CheckpointError
from minigpt_repl.lm.causal_lm import MiniGPTCausalLM
from minigpt_repl.record import (
    DRAFT_FOLDER,
    MEND,
    RECORD_FILE,
    VOCABULARY_FILE,
    Record,
    hash_files,
    read_record,
    verify_files,
)

ALLOWED_CLASSES = frozenset(
    {
        "MiniGPTBackbone",
        "MiniGPTCausalLM",
        "MiniGPTCausalLMPreprocessor",
        "MiniGPTTokenizer",
        "DTypePolicy",
    }
)
"""All that the configuration files of a checkpoint may name."""

PRESET_FILES = (
    "config.json",
    "metadata.json",
    "model.weights.h5",
    "preprocessor.json",
    "task.json",
    "tokenizer.json",
    VOCABULARY_FILE,
)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        directory: where it was loaded from.
        causal_lm: the model, with its tokenizer in `preprocessor.tokenizer`.
        record: what it says of itself.
        draft: the small model for speculative decoding, or `None`.
    """

    directory: Path
    causal_lm: MiniGPTCausalLM
    record: Record
    draft: MiniGPTCausalLM | None


def save_checkpoint(
    directory: Path,
    causal_lm: MiniGPTCausalLM,
    training: Mapping[str, Any],
    draft: MiniGPTCausalLM | None = None,
) -> Record:
    """Save a model whole: written beside, then put in place of what was there.

    Args:
        directory: the folder to make or replace.
        causal_lm: the model, with its preprocessor.
        training: how it was made; goes into the record as it is.
        draft: a smaller model with the same vocabulary.

    Returns:
        The record that was written.

    Raises:
        MiniGPTError: if it can't be written; what was there is left intact.
    """
    directory = directory.absolute()
    with explained(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
    with open_directory_atomically(directory) as made:
        causal_lm.save_to_preset(str(made))
        if draft is not None:
            draft.save_to_preset(str(made / DRAFT_FOLDER))
        record = describe(made, causal_lm, training)
        (made / RECORD_FILE).write_text(record.to_json(), encoding="utf-8")
    return record


def describe(
    directory: Path, causal_lm: MiniGPTCausalLM, training: Mapping[str, Any]
) -> Record:
    """The record of a model whose files are in `directory`."""
    tokenizer = causal_lm.preprocessor.tokenizer
    return Record(
        vocabulary_size=tokenizer.vocabulary_size(),
        embedding_rows=causal_lm.backbone.vocabulary_size,
        context_length=causal_lm.backbone.max_sequence_length,
        parameter_count=causal_lm.count_params(),
        lowercase=tokenizer.lowercase,
        has_draft=(directory / DRAFT_FOLDER).is_dir(),
        files=hash_files(directory),
        training=training,
    )


def load_checkpoint(directory: Path, verify: bool = True) -> Checkpoint:
    """Load a checkpoint after checking it.

    Args:
        directory: a folder; never a name that would be looked up elsewhere.
        verify: whether the record must be there and the files must agree with
            it. Without, a folder with no record is loaded as it is.

    Raises:
        CheckpointError: in one line, what is wrong and how to have a good one.
    """
    directory = Path(directory).absolute()
    record = None
    if verify or (directory / RECORD_FILE).is_file() or not directory.is_dir():
        record = read_record(directory)
        if verify:
            verify_files(directory, record)
    causal_lm = _load_preset(directory)
    has_draft = (directory / DRAFT_FOLDER).is_dir()
    draft = _load_preset(directory / DRAFT_FOLDER) if has_draft else None
    if record is None or not verify:
        record = describe(directory, causal_lm, record.training if record else {})
    _check_agreement(directory, causal_lm, draft, record)
    return Checkpoint(directory, causal_lm, record, draft)


def _load_preset(directory: Path) -> MiniGPTCausalLM:
    for name in PRESET_FILES:
        if not (directory / name).is_file():
            raise CheckpointError(
                f"{directory} is incomplete, {name} is missing: {MEND}"
            )
    for path in sorted(directory.glob("*.json")):
        if path.name != RECORD_FILE:
            _check_is_data(path)
    try:
        causal_lm = CausalLM.from_preset(str(directory))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "?"
        raise CheckpointError(f"can't load {directory} ({reason}): {MEND}") from error
    return causal_lm


def _check_is_data(path: Path) -> None:
    """Refuse a configuration that names any class but ours.

    Keras imports the modules that a configuration names, and some layers hold
    code, so nothing else is let through to it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {MEND}") from error
    for node in _dictionaries(content):
        name = node.get("class_name")
        module = str(node.get("module") or "")
        if name is None and "module" not in node:
            continue
        root = "keras" if name == "DTypePolicy" else "minigpt_repl"
        if name not in ALLOWED_CLASSES or module.split(".")[0] != root:
            raise CheckpointError(
                f"{path} asks for {module}.{name}, which is not a part of a "
                f"minigpt-repl checkpoint: {MEND}"
            )


def _dictionaries(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        yield content
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from _dictionaries(item)


def _check_agreement(
    directory: Path,
    causal_lm: MiniGPTCausalLM,
    draft: MiniGPTCausalLM | None,
    record: Record,
) -> None:
    words = causal_lm.preprocessor.tokenizer.get_vocabulary()
    rows = causal_lm.backbone.vocabulary_size
    if len(words) > rows:
        raise CheckpointError(
            f"{directory}: the vocabulary has {len(words)} words but the model only "
            f"{rows} rows: {MEND}"
        )
    facts = (len(words), rows, causal_lm.backbone.max_sequence_length)
    said = (record.vocabulary_size, record.embedding_rows, record.context_length)
    if facts != said:
        raise CheckpointError(
            f"{directory}: {RECORD_FILE} says (words, rows, context) {said}, the model "
            f"has {facts}: {MEND}"
        )
    if draft is not None and draft.preprocessor.tokenizer.get_vocabulary() != words:
        raise CheckpointError(
            f"{directory}: the draft model has another vocabulary: {MEND}"
        )
