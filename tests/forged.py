"""Checkpoints changed as a forger or a bug would."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minigpt_repl.models.record import RECORD_FILE, hash_files


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    """Change a file's content in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def sign(directory: Path, **record: object) -> None:
    """Make the record agree with the files, and say what else it is to say."""
    changed = {**record, "files": hash_files(directory)}
    edit_json(directory / RECORD_FILE, lambda content: content.update(changed))
