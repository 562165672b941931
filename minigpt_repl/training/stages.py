"""Finished stages of the training, kept so that a next run need not repeat them.

A stage's result is found by a fingerprint of all that it was made from. A result
is in the cache folder whole or not at all, whatever ended the run that made it;
the folder may be deleted at any time. Knows nothing of what the stages do.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minigpt_repl import paths
from minigpt_repl.atomic import (
    explained,
    open_directory_atomically,
    write_bytes_atomically,
)


def fingerprint(**made_from: Any) -> str:
    """Names a result by what it was made from: 24 hexadecimal digits.

    Args:
        **made_from: values that JSON can hold; any change gives another name.
    """
    canonical = json.dumps(made_from, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class StageCache:
    """Where results are kept; by default in the user's cache folder."""

    folder: Path = field(default_factory=paths.cache_home)

    def value(self, stage: str, key: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, or what it returned in an earlier run.

        Args:
            stage: name of the stage, for the file's name.
            key: the result's `fingerprint`.
            make: makes the result, a value that JSON can hold.

        Raises:
            MiniGPTError: if the result can't be kept, such as on a full disk.
        """
        path = self._place(f"{stage}-{key}.json")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            pass
        except (OSError, ValueError):
            with explained(path):
                path.unlink(missing_ok=True)  # damaged: made again
        value = make()
        text = json.dumps(value, ensure_ascii=False)
        write_bytes_atomically(path, text.encode("utf-8"))
        return value

    def directory(self, stage: str, key: str, make: Callable[[Path], None]) -> Path:
        """A folder that `make` filled, now or in an earlier run.

        Args:
            stage: name of the stage, for the folder's name.
            key: the result's `fingerprint`.
            make: called with an empty folder to write files into.

        Raises:
            MiniGPTError: if it can't be written, such as on a full disk.
        """
        path = self._place(f"{stage}-{key}")
        if not path.is_dir():
            self.directory_again(stage, key, make)
        return path

    def directory_again(
        self, stage: str, key: str, make: Callable[[Path], None]
    ) -> Path:
        """As `directory`, but made now: what was there turned out to be damaged."""
        path = self._place(f"{stage}-{key}")
        with open_directory_atomically(path) as made:
            make(made)
        return path

    def _place(self, name: str) -> Path:
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name
