"""A checkpoint's folder that has only a record: enough to start with a fake engine."""

from pathlib import Path

from fakes import VOCABULARY

from minigpt_repl.formats import Record, encode
from minigpt_repl.models.record import RECORD_FILE


def make_recorded(directory: Path) -> Path:
    """Make the folder, with the record of the fake engine's model."""
    directory.mkdir()
    record = Record(
        vocabulary_size=len(VOCABULARY),
        embedding_rows=len(VOCABULARY),
        context_length=32,
        parameter_count=1234,
        lowercase=True,
        has_draft=True,
        files={},
    )
    (directory / RECORD_FILE).write_text(encode(record))
    return directory
