"""Saving and loading a checkpoint: a KerasHub preset folder plus its record.

`keras_hub.models.CausalLM.from_preset(DIRECTORY)` reads the same folder once
`minigpt_repl.lm` is imported; here it is checked too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_hub.models import CausalLM
from msgspec.structs import asdict

from minigpt_repl.files import explained, open_directory_atomically
from minigpt_repl.formats import FormatError, Record, encode
from minigpt_repl.models.causal_lm import MiniGPTCausalLM, language_model
from minigpt_repl.models.language_model import LanguageModel
from minigpt_repl.models.record import (
    DRAFT_FOLDER,
    TOKENIZERS,
    as_checkpoint_error,
    check_checkpoint,
    hash_files,
)
from minigpt_repl.models.text.codec import RESERVED
from minigpt_repl.paths import RECORD_FILE
from minigpt_repl.shown import quoted, shown_path


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: the model, what is said of it, and a small model that drafts
    for it, if there is one."""

    directory: Path
    causal_lm: MiniGPTCausalLM
    record: Record
    draft: MiniGPTCausalLM | None

    def language_models(self) -> tuple[LanguageModel, LanguageModel | None]:
        """The model and its draft, if there is one, to decode with."""
        draft = None if self.draft is None else language_model(self.draft)
        return language_model(self.causal_lm), draft


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
        files = hash_files(made)
        record = describe(causal_lm, training, files, has_draft=draft is not None)
        text = encode(record, indent=True)
        (made / RECORD_FILE).write_text(f"{text}\n", encoding="utf-8")
    return record


def describe(
    causal_lm: MiniGPTCausalLM,
    training: Mapping[str, Any],
    files: dict[str, str],
    has_draft: bool,
) -> Record:
    """The record of a model, with the sha256 of each of its files."""
    tokenizer = causal_lm.preprocessor.tokenizer
    kind: Any = TOKENIZERS[type(tokenizer).__name__]
    return Record(
        vocabulary_size=tokenizer.vocabulary_size(),
        embedding_rows=causal_lm.backbone.vocabulary_size,
        context_length=causal_lm.backbone.max_sequence_length,
        parameter_count=causal_lm.count_params(),
        lowercase=tokenizer.lowercase,
        has_draft=has_draft,
        files=files,
        training=dict(training),
        tokenizer=kind,
        document=tokenizer.document,
    )


@as_checkpoint_error()
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
    record = check_checkpoint(directory, verify)
    causal_lm = _load_preset(directory)
    if record is not None and verify:
        # A draft that the record does not know was not verified, so it isn't used.
        files, has_draft = record.files, record.has_draft
    else:
        files, has_draft = hash_files(directory), (directory / DRAFT_FOLDER).is_dir()
    draft = _load_preset(directory / DRAFT_FOLDER) if has_draft else None
    _check_vocabulary(directory, causal_lm, draft)
    training = record.training if record else {}
    found = describe(causal_lm, training, files, has_draft)
    said = asdict(record) if record is not None and verify else {}
    for name, value in said.items():
        if value != getattr(found, name):
            raise FormatError(
                f"{shown_path(directory)}: {RECORD_FILE} says {name} is "
                f"{quoted(value)}, it is {quoted(getattr(found, name))}"
            )
    return Checkpoint(directory, causal_lm, found, draft)


def _load_preset(directory: Path) -> MiniGPTCausalLM:
    try:
        causal_lm: MiniGPTCausalLM = CausalLM.from_preset(str(directory))
    except Exception as error:  # the files decide what Keras raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        line = f"can't load {shown_path(directory)} ({quoted(reason)})"
        raise FormatError(line) from error
    return causal_lm


def _check_vocabulary(
    directory: Path, causal_lm: MiniGPTCausalLM, draft: MiniGPTCausalLM | None
) -> None:
    words = causal_lm.preprocessor.tokenizer.get_vocabulary()
    rows = causal_lm.backbone.vocabulary_size
    problem = ""
    if tuple(words[: len(RESERVED)]) != RESERVED:
        problem = f"does not begin with {' '.join(RESERVED)}"
    elif len(words) > rows:
        problem = f"has {len(words)} words but the model only {rows} rows"
    elif draft is not None and draft.preprocessor.tokenizer.get_vocabulary() != words:
        problem = "is not that of the draft model"
    if problem:
        raise FormatError(f"{shown_path(directory)}: the vocabulary {problem}")
