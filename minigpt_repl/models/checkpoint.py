"""Saving and loading a checkpoint: a KerasHub preset folder plus its record.

`keras_hub.models.CausalLM.from_preset(DIRECTORY)` reads the same folder once
`minigpt_repl.lm` is imported; loading it here also checks that it is whole and
that it is nothing but data.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_hub.models import CausalLM

from minigpt_repl.errors import CheckpointError
from minigpt_repl.files import explained, open_directory_atomically
from minigpt_repl.formats import Record, encode
from minigpt_repl.models.backbone import MiniGPTBackbone
from minigpt_repl.models.causal_lm import MiniGPTCausalLM
from minigpt_repl.models.preprocessor import MiniGPTCausalLMPreprocessor
from minigpt_repl.models.record import (
    DRAFT_FOLDER,
    MEND,
    PRESET_FILES,
    RECORD_FILE,
    check_folder,
    hash_files,
    incomplete,
    is_file,
    read_json,
    read_record,
    verify_files,
)
from minigpt_repl.models.tokenizer import RESERVED_WORDS, MiniGPTTokenizer

CLASSES = {
    "config.json": MiniGPTBackbone,
    "preprocessor.json": MiniGPTCausalLMPreprocessor,
    "task.json": MiniGPTCausalLM,
    "tokenizer.json": MiniGPTTokenizer,
}
"""The class that each configuration file must be of."""

ALLOWED = frozenset(
    [
        (module, cls.__name__, f"minigpt_repl>{cls.__name__}")
        for cls in CLASSES.values()
        # Version 0.1.0 had the same classes in `minigpt_repl.lm`.
        for module in (cls.__module__, cls.__module__.replace(".models.", ".lm."))
    ]
    + [("keras", "DTypePolicy", None)]
)
"""Module, class and registered name of all that a checkpoint may ask for."""

HEAD_WEIGHTS = "task.weights.h5"


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
        text = encode(record, indent=True)
        (made / RECORD_FILE).write_text(f"{text}\n", encoding="utf-8")
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
        training=dict(training),
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
    check_folder(directory)
    record = None
    if verify or is_file(directory / RECORD_FILE):
        record = read_record(directory)
        if verify:
            verify_files(directory, record)
    causal_lm = _load_preset(directory)
    # A folder that the record does not know was not verified, so it isn't used.
    has_draft = (directory / DRAFT_FOLDER).is_dir()
    if verify and record is not None:
        has_draft = record.has_draft
    draft = _load_preset(directory / DRAFT_FOLDER) if has_draft else None
    if record is None or not verify:
        record = describe(directory, causal_lm, record.training if record else {})
    _check_agreement(directory, causal_lm, draft, record)
    return Checkpoint(directory, causal_lm, record, draft)


def _load_preset(directory: Path) -> MiniGPTCausalLM:
    for name in PRESET_FILES:
        if not is_file(directory / name):
            raise incomplete(directory, name)
    for path in sorted(directory.glob("*.json")):
        if path.name != RECORD_FILE:
            _check_is_data(path)
    try:
        causal_lm: MiniGPTCausalLM = CausalLM.from_preset(str(directory))
    except Exception as error:  # the files decide what Keras raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"can't load {directory} ({reason}): {MEND}") from error
    # Without this file Keras would leave the head as it was drawn at random.
    if causal_lm.has_task_weights() and not is_file(directory / HEAD_WEIGHTS):
        raise incomplete(directory, HEAD_WEIGHTS)
    return causal_lm


def _check_is_data(path: Path) -> None:
    """Refuse a configuration that names any class but ours.

    Keras imports the modules that a configuration names, and some layers hold
    code, so nothing else is let through to it.
    """
    content = read_json(path)
    expected = CLASSES.get(path.name)
    named = content.get("class_name") if isinstance(content, dict) else None
    if expected is not None and named != expected.__name__:
        raise CheckpointError(
            f"{path} is of class {named}, not {expected.__name__}: {MEND}"
        )
    for node in _dictionaries(content):
        asked = [node.get(key) for key in ("module", "class_name", "registered_name")]
        if any(asked) and tuple(asked) not in ALLOWED:
            names = " ".join(str(name) for name in asked if name)
            raise CheckpointError(
                f"{path} asks for {names}, which is not a part of a minigpt-repl "
                f"checkpoint: {MEND}"
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
    if tuple(words[: len(RESERVED_WORDS)]) != RESERVED_WORDS:
        raise CheckpointError(
            f"{directory}: the vocabulary does not begin with "
            f"{' '.join(RESERVED_WORDS)}: {MEND}"
        )
    rows = causal_lm.backbone.vocabulary_size
    if len(words) > rows:
        raise CheckpointError(
            f"{directory}: the vocabulary has {len(words)} words but the model only "
            f"{rows} rows: {MEND}"
        )
    facts = {
        "words": (record.vocabulary_size, len(words)),
        "rows": (record.embedding_rows, rows),
        "positions": (record.context_length, causal_lm.backbone.max_sequence_length),
        "weights": (record.parameter_count, causal_lm.count_params()),
    }
    for name, (said, found) in facts.items():
        if said != found:
            raise CheckpointError(
                f"{directory}: {RECORD_FILE} says {said} {name}, the model has "
                f"{found}: {MEND}"
            )
    if draft is not None and draft.preprocessor.tokenizer.get_vocabulary() != words:
        raise CheckpointError(
            f"{directory}: the draft model has another vocabulary: {MEND}"
        )
