"""Opens a training text, whatever form it has: file, folder, glob, zip, gz, URL.

Archives are read member by member; nothing of them is ever unpacked to the disk.
Gives names and bytes; does not know what a line or a paragraph is.
"""

import glob
import gzip
import hashlib
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from minigpt_repl.errors import CorpusError
from minigpt_repl.training.download import fetch, is_url
from minigpt_repl.training.progress import Progress

TEXT_SUFFIXES = (".txt", ".text", ".md")
"""How the files are called that are read from a folder or a zip."""

MAX_BYTES = 16 << 30
"""The most that is read from one archive."""

# Prose shrinks to a third; a run of one byte shrinks a thousandfold.
_MAX_RATIO = 100
_SMALL = 10 << 20  # below this, any ratio is harmless

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Document:
    """One text of a source.

    Attributes:
        name: path within the source, with `/`; for errors too.
        read: returns all of its bytes.
    """

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Source:
    """A training text as the user named it, opened.

    Attributes:
        description: what it is, in a few words.
        sha256: of the file; of names and contents if it is several files.
        documents: its texts, in order of their names.
    """

    description: str
    sha256: str
    documents: tuple[Document, ...]


def open_source(source: str, progress: Progress) -> Source:
    """Finds the texts that a source means.

    Args:
        source: a path, a glob pattern or a URL.
        progress: shows a download.

    Raises:
        CorpusError: if it is missing, can't be read, or holds no text.
    """
    if is_url(source):
        return _open_file(fetch(source, progress), source)
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            return _open_folder(path, source)
        if path.exists():
            return _open_file(path, source)
    except OSError as error:
        raise _unreadable(path, error) from error
    if glob.has_magic(source):
        found = sorted(glob.glob(str(path), recursive=True))
        files = [Path(name) for name in found if Path(name).is_file()]
        if not files:
            raise CorpusError(f"no file matches {source}")
        return _open_several(files, [file.as_posix() for file in files], source)
    raise CorpusError(
        f"there is no {source}: give a text file, a folder, a glob, a .zip, a .gz "
        "or a URL"
    )


def _open_folder(folder: Path, source: str) -> Source:
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in TEXT_SUFFIXES
        and file.is_file()
        and not _is_hidden(file.relative_to(folder).as_posix())
    )
    if not files:
        raise CorpusError(
            f"the folder {source} has no text file ({', '.join(TEXT_SUFFIXES)})"
        )
    # The folder's own name counts: it may be the one that a layout is known by.
    base = folder.resolve()
    names = [f"{base.name}/{file.relative_to(folder).as_posix()}" for file in files]
    return _open_several(files, names, source)


def _open_several(files: list[Path], names: list[str], source: str) -> Source:
    digest = hashlib.sha256()
    documents: list[Document] = []
    for file, name in zip(files, names, strict=True):
        digest.update(f"{name}\0{_sha256(file)}\n".encode("utf-8", "surrogateescape"))
        documents.extend(_documents(file, name))
    return Source(f"{source} ({len(files)} files)", digest.hexdigest(), (*documents,))


def _open_file(path: Path, source: str) -> Source:
    sha256 = _sha256(path)
    documents = tuple(_documents(path, path.name))
    if not documents:
        raise CorpusError(
            f"the zip {source} has no text file ({', '.join(TEXT_SUFFIXES)})"
        )
    return Source(source, sha256, documents)


def _documents(path: Path, name: str) -> Iterator[Document]:
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError as error:
        raise _unreadable(path, error) from error
    if start[:2] == b"\x1f\x8b":
        yield Document(name, partial(_read_gzip, path))
    elif start == b"PK\x03\x04" or zipfile.is_zipfile(path):
        yield from _zip_members(path)
    else:
        yield Document(name, partial(_read_file, path))


def _zip_members(path: Path) -> Iterator[Document]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CorpusError(f"{path} is a damaged zip: {error}") from error
    total = 0
    for member in members:
        _check_member(path, member)
        total += member.file_size
    if total > MAX_BYTES:
        raise CorpusError(
            f"{path} unpacks to {total:,} bytes; at most {MAX_BYTES:,} are read"
        )
    texts = [
        member
        for member in members
        if PurePosixPath(member.filename).suffix.lower() in TEXT_SUFFIXES
        and not member.is_dir()
        and not _is_hidden(member.filename)
    ]
    for member in sorted(texts, key=lambda member: member.filename):
        yield Document(member.filename, partial(_read_member, path, member))


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    """Refuses what no honest archive of texts holds."""
    name = member.orig_filename
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in name:
        raise CorpusError(f"{path} is not safe: it holds a file named {name!r}")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise CorpusError(f"{path} is not safe: {name!r} is a link")
    if member.flag_bits & 1:
        raise CorpusError(f"{path} is encrypted; unpack it and give the folder")
    packed = max(member.compress_size, 1)
    if member.file_size > _SMALL and member.file_size > _MAX_RATIO * packed:
        raise CorpusError(
            f"{path} is not safe: {name!r} unpacks {packed:,} bytes to "
            f"{member.file_size:,}"
        )


def _read_member(path: Path, member: zipfile.ZipInfo) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            # The size was checked above; a member that lies about it stops there.
            return file.read(member.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise CorpusError(f"{member.filename} in {path} is damaged: {error}") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_gzip(path: Path) -> bytes:
    limit = min(MAX_BYTES, max(_SMALL, _MAX_RATIO * path.stat().st_size))
    try:
        with gzip.open(path, "rb") as file:
            data = file.read(limit + 1)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise CorpusError(f"{path} is a damaged gz: {error}") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > limit:
        raise CorpusError(
            f"{path} is not safe: it unpacks to more than {limit:,} bytes"
        )
    return data


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            _feed(digest.update, file)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def _feed(update: Callable[[bytes], object], file: BinaryIO) -> None:
    while block := file.read(_BLOCK):
        update(block)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _unreadable(path: Path, error: OSError) -> CorpusError:
    return CorpusError(f"can't read {path}: {error.strerror or error}")
