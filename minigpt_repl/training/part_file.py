"""A file that comes piece by piece, over several runs if need be.

The pieces are gathered in `NAME.part`; `NAME.part.source.json` notes which version
of which URL they belong to, so that pieces of two versions are never put together.
When all have come, the part takes the place of `NAME` and the note goes with it.
Knows files; not how the pieces come.
"""

import contextlib
import fcntl
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from minigpt_repl.errors import CorpusError
from minigpt_repl.files import explained, sync, write_bytes_atomically


@dataclass(frozen=True)
class Version:
    """Which content of a URL; two equal versions are the same bytes.

    Attributes:
        url: where it comes from.
        size: bytes of the whole file, if known.
        etag: the server's tag of the content.
        modified: when it was last changed, as the server writes it.
    """

    url: str
    size: int | None
    etag: str | None
    modified: str | None

    @property
    def validator(self) -> str | None:
        """What `If-Range` takes: a strong tag, else the date (RFC 9110, 13.1.5)."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.modified


def read_version(path: Path) -> Version | None:
    """Which version a file or part is of, or `None` if nobody noted it."""
    try:
        return Version(**json.loads(_note(path).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None  # no note, or a damaged one: nothing is known


class PartFile:
    """What has come of a file so far; get one from `PartFile.locked`."""

    def __init__(self, target: Path, path: Path, file: BinaryIO) -> None:
        self.target = target
        self._path = path
        self._file = file

    @classmethod
    @contextlib.contextmanager
    def locked(cls, target: Path) -> Iterator["PartFile"]:
        """The part of `target`, empty or as an earlier run left it, for us alone.

        Raises:
            CorpusError: if another process holds it.
            MiniGPTError: if it can't be written.
        """
        path = target.with_name(target.name + ".part")
        with explained(target):
            file = open(path, "a+b", buffering=0)  # noqa: SIM115
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ours = os.path.samestat(os.fstat(file.fileno()), os.stat(path))
            except OSError:
                ours = False
            if not ours:
                raise CorpusError(
                    f"another process is fetching {target.name}; wait until it ends"
                )
            part = cls(target, path, file)
            try:
                yield part
            finally:
                if not part.size and path.exists():
                    part.forget()

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def version(self) -> Version | None:
        """Of which version they are, if it is known."""
        return read_version(self._path)

    @property
    def must_be_zip(self) -> bool:
        """Whether the file's name promises a zip."""
        return self.target.name.removesuffix("_archive").lower().endswith(".zip")

    def start_anew(self, version: Version | None = None) -> None:
        """Drop what has come; what comes next is of `version`."""
        with explained(self.target):
            self._file.truncate(0)
            _note(self._path).unlink(missing_ok=True)
        if version:
            _write_version(self._path, version)

    def write(self, block: bytes) -> None:
        """Add the next bytes.

        Raises:
            MiniGPTError: if there is no room for them.
        """
        with explained(self.target):
            view = memoryview(block)
            while view:  # the file is unbuffered, and a write may take a part
                view = view[self._file.write(view) :]

    def accept(self, version: Version) -> None:
        """All has come: put it into its place.

        Raises:
            CorpusError: if it should be a zip and is not.
        """
        if self.must_be_zip and not zipfile.is_zipfile(self._path):
            self.forget()
            raise CorpusError(f"{version.url} is not a zip file, or a damaged one")
        with explained(self.target):
            os.fsync(self._file.fileno())
            # The old file's note must not be taken for the new one's.
            _note(self.target).unlink(missing_ok=True)
            os.replace(self._path, self.target)
            sync(self.target.parent)
            _note(self._path).unlink(missing_ok=True)
        _write_version(self.target, version)

    def forget(self) -> None:
        """Remove the part from the disk."""
        self._path.unlink(missing_ok=True)
        _note(self._path).unlink(missing_ok=True)


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.source.json")


def _write_version(path: Path, version: Version) -> None:
    write_bytes_atomically(_note(path), json.dumps(asdict(version)).encode())
