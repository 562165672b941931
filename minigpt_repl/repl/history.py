"""Lines of earlier sessions, in a file that only its owner can read.

A history is a convenience: whatever is wrong with the file, the session goes on,
and says so once. Several sessions may write one file: each line is one `write`.
"""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from prompt_toolkit.history import History

from minigpt_repl.paths import state_home

READ_LIMIT = 2_000_000
"""Bytes that are read, from the file's end."""


def history_file() -> Path:
    """Where lines are kept."""
    return state_home() / "history"


class LineHistory(History):
    """A history in a file of prompt_toolkit's format.

    Args:
        path: the file; it and its folder are made when first needed.

    Attributes:
        trouble: why lines are not kept, or `None`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.trouble: str | None = None

    def load_history_strings(self) -> Iterable[str]:
        """Earlier lines, the last first."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - READ_LIMIT))
                content = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            self._note(error)
            return []
        return reversed(_parse(content))

    def store_string(self, string: str) -> None:
        """Add a line to the file."""
        lines = "".join(f"+{line}\n" for line in string.split("\n"))
        entry = f"\n# {datetime.now(UTC).replace(tzinfo=None)}\n{lines}"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, entry.encode("utf-8", "replace"))
            finally:
                os.close(descriptor)
        except OSError as error:
            self._note(error)

    def _note(self, error: OSError) -> None:
        self.trouble = f"lines are not kept: {self._path}: {error.strerror}"


def _parse(content: str) -> list[str]:
    entries: list[list[str]] = []
    is_open = False
    for line in content.split("\n"):
        if not line.startswith("+"):
            is_open = False
            continue
        if not is_open:
            entries.append([])
            is_open = True
        entries[-1].append(line[1:])
    return ["\n".join(lines) for lines in entries]
