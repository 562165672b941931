"""Opens a training text, whatever form it has: file, folder, glob, zip, gz, URL.

Archives are read member by member; nothing of them is ever unpacked to the disk. A file
from a URL is in the cache folder whole or not at all.
"""

import codecs
import contextlib
import glob
import gzip
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from minigpt_repl import paths
from minigpt_repl.errors import CorpusError
from minigpt_repl.files import explained, open_atomically
from minigpt_repl.shown import and_more
from minigpt_repl.training.progress import Progress

SIMPLEBOOKS_URL = "https://dldata-public.s3.us-east-2.amazonaws.com/simplebooks.zip"
"""The reference example's data, 282 MB."""

TEXT_SUFFIXES = (".txt", ".text", ".md")
"""A file of a folder or zip that is called so is text, whatever it begins with."""

MAX_BYTES = 16 << 30  # the most that is read from one archive
TIMEOUT = 30.0  # seconds without a byte until a download counts as broken

# Prose shrinks to a third; a run of one byte shrinks a thousandfold.
_MAX_RATIO = 100
_SMALL = 10 << 20  # below this, any ratio is harmless

_BLOCK = 1 << 16
_LOOKED_AT = 4096
# In no text of an encoding that writes ASCII as it is.
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a]")
_PAGES = (".html", ".htm", ".xhtml")
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_WEB_PAGE = re.compile(rb"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html)", re.I | re.S)
# What reading a file, a gz or a zip may raise: damaged, encrypted or of a kind unknown.
_UNREADABLE = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Document:
    """One text of a source."""

    name: str  # its path within the source, with `/`
    path: Path  # of the file that it is, or is packed into
    opened: Callable[[], Any]  # a file of its bytes

    def read(self) -> bytes:
        """All of it.

        Raises:
            CorpusError: if it can't be read, or is larger than can be right.
        """
        limit = _limit(self.path)
        data = self._first(limit + 1)
        if len(data) > limit:
            raise _bomb(self.path)
        return data

    def is_text(self) -> bool:
        """Whether one of a folder or zip is read: by its name, or how it begins."""
        if PurePosixPath(self.name).suffix.lower() in TEXT_SUFFIXES:
            return True
        start = self._first(_LOOKED_AT)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return True
        return bool(start) and _CONTROL.search(start) is None

    def _first(self, most: int) -> bytes:
        with _reading(self.path), self.opened() as file:
            data: bytes = file.read(most)
        return data


@dataclass(frozen=True)
class Source:
    """A training text as the user named it, opened."""

    description: str  # what it is, in a few words
    sha256: str  # of the file; of names and contents if it is several files
    documents: tuple[Document, ...]  # in order of their names


def open_source(source: str, progress: Progress) -> Source:
    """Find the texts that a path, a glob pattern or a URL means.

    Raises:
        CorpusError: if it is missing, can't be read, or holds no text.
    """
    path = fetch(source, progress) if is_url(source) else Path(source).expanduser()
    with _reading(path):
        if is_url(source) or path.is_file():
            return Source(source, _sha256(path), _documents(path, path.name, progress))
        files = _files_of(path, source, progress)
    digest = hashlib.sha256()
    documents: list[Document] = []
    for name, file in files.items():
        digest.update(f"{name}\0{_sha256(file)}\n".encode("utf-8", "surrogateescape"))
        documents.extend(_documents(file, name, progress))
    return Source(f"{source} ({len(files)} files)", digest.hexdigest(), (*documents,))


def _files_of(path: Path, source: str, progress: Progress) -> dict[str, Path]:
    """The files of a folder or of a glob pattern, by their names in order."""
    if path.is_dir():
        found = (each for each in path.rglob("*") if each.is_file())
        inside = [_plain(each, each.relative_to(path).as_posix()) for each in found]
        texts = _texts_among(inside, f"the folder {source}", progress)
        # The folder's own name counts: it may be the one that a layout is known by.
        return {f"{path.resolve().name}/{each.name}": each.path for each in texts}
    if path.exists():
        raise CorpusError(f"{source} is not an ordinary file")
    names = sorted(glob.glob(str(path), recursive=True))
    files = {name: Path(name) for name in names if Path(name).is_file()}
    if not files:
        raise CorpusError(
            f"there is no {source}: give a text file, a folder, a glob, a .zip, a .gz "
            "or a URL"
        )
    return files


def is_url(source: str) -> bool:
    """Whether a source is a URL rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


def fetch(url: str, progress: Progress) -> Path:
    """The file of a URL, fetched now or in an earlier run.

    That of a `file://` is read where it lies.

    Raises:
        CorpusError: if it can't be fetched whole.
        MiniGPTError: if it can't be written, such as on a full disk.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme.lower() == "file":
        return Path(urllib.request.url2pathname(parts.path))
    if parts.scheme.lower() not in ("http", "https"):
        raise CorpusError(
            f"can't fetch {url}: a URL begins with http://, https:// or file://, "
            f"not {parts.scheme}://"
        )
    path = cache_path(url)
    # What lies at Keras' place may have been put there by a program that was killed.
    if path.is_file() and (path.suffix != ".zip" or zipfile.is_zipfile(path)):
        return path
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomically(path) as file:
        for block in _blocks_of(url, progress):
            file.write(block)
        file.flush()
        _check_download(url, Path(file.name))
    return path


def cache_path(url: str) -> Path:
    """Where the file of a URL is kept: SimpleBooks where the reference example has it.

    Raises:
        CorpusError: if the URL does not end in a file's name.
    """
    name = PurePosixPath(urllib.parse.urlsplit(url).path).name
    if not name:
        raise CorpusError(f"{url} does not end in a file's name, such as books.zip")
    if url == SIMPLEBOOKS_URL:
        home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
        path = home / "datasets" / name
        # What get_file(extract=True) unpacked has that name; its archive has this one.
        return path.with_name(f"{name}_archive") if path.is_dir() else path
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    return paths.cache_home() / "downloads" / digest / name


def _blocks_of(url: str, progress: Progress) -> Iterator[bytes]:
    """What a server sends; its errors, and those on the way, are one line."""
    request = urllib.request.Request(url, headers={"User-Agent": paths.APP})
    suffix = PurePosixPath(urllib.parse.urlsplit(url).path).suffix.lower()
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            total = response.length
            # Then a broken connection looks like the end; a cut archive is found out.
            is_endless = total is None and not response.chunked
            if is_endless and suffix not in (".zip", ".gz"):
                raise CorpusError(
                    f"can't fetch {url}: the server does not say how long the file is, "
                    "so nobody can tell whether all of it came"
                )
            progress.start("download", total, "bytes")
            got = 0
            while block := response.read(_BLOCK):
                got += len(block)
                yield block
                progress.advance(got)
    except (OSError, http.client.HTTPException) as error:
        is_silent = isinstance(getattr(error, "reason", error), TimeoutError)
        reason = "the server does not answer" if is_silent else str(error)
        raise CorpusError(f"can't fetch {url}: {' '.join(reason.split())}") from error
    if total is not None and got < total:
        raise CorpusError(f"can't fetch {url}: {got:,} of {total:,} bytes came")
    progress.finish()


def _check_download(url: str, path: Path) -> None:
    """Refuse a web page in a file's place, and an archive that was cut."""
    suffix = PurePosixPath(urllib.parse.urlsplit(url).path).suffix.lower()
    with path.open("rb") as file:
        is_page = _WEB_PAGE.match(file.read(_BLOCK)) is not None
    if is_page and suffix not in _PAGES:
        raise CorpusError(
            f"can't fetch {url}: the server sent a web page instead of the file"
        )
    if suffix == ".zip" and not zipfile.is_zipfile(path):
        raise CorpusError(f"{url} is not a zip file, or a damaged one")
    if suffix == ".gz":
        try:
            with gzip.open(path, "rb") as packed:
                while packed.read(_BLOCK):
                    pass
        except _UNREADABLE as error:
            told = f"{url} is not a gz file, or a damaged one: {error}"
            raise CorpusError(told) from error


def _plain(path: Path, name: str) -> Document:
    return Document(name, path, partial(path.open, "rb"))


def _documents(path: Path, name: str, progress: Progress) -> tuple[Document, ...]:
    """What a file is or, if it is a zip, what texts are in it."""
    with _reading(path):
        with path.open("rb") as file:
            start = file.read(4)
        if start[:2] == _GZIP:
            return (Document(name, path, partial(gzip.open, path, "rb")),)
        if start != _ZIP and not zipfile.is_zipfile(path):
            return (_plain(path, name),)
        archive = zipfile.ZipFile(path)
    # No more than the size that a member is said to have is ever read of it.
    if sum(member.file_size for member in archive.infolist()) > _limit(path):
        raise _bomb(path)
    members = [each for each in {*archive.namelist()} if not each.endswith("/")]
    packed = [Document(each, path, partial(archive.open, each)) for each in members]
    return (*_texts_among(packed, f"the zip {name}", progress),)


def _texts_among(
    documents: list[Document], where: str, progress: Progress
) -> list[Document]:
    """Those of a folder or zip that are text, in order of their names; says which.

    Raises:
        CorpusError: if there is none.
    """
    found: list[Document] = []
    left: list[str] = []
    for document in sorted(documents, key=lambda each: each.name):
        if _is_hidden(document.name):
            continue
        if document.is_text():
            found.append(document)
        else:
            left.append(document.name)
    if not found:
        raise CorpusError(f"{where} has no text file among {len(left):,}")
    suffixes = [PurePosixPath(each.name).suffix or "no suffix" for each in found]
    kinds = Counter(suffixes).most_common(9)
    told = ", ".join(f"{count:,} {kind}" for kind, count in kinds)
    progress.say(f"files: {len(found):,} read ({told})")
    if left:
        progress.say(
            f"left out, no text: {', '.join(left[:5])}{and_more(len(left) - 5)}"
        )
    return found


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def _limit(path: Path) -> int:
    """The most bytes that a file may unpack to."""
    with _reading(path):
        return min(MAX_BYTES, max(_SMALL, _MAX_RATIO * path.stat().st_size))


def _bomb(path: Path) -> CorpusError:
    return CorpusError(
        f"{path} is not safe: it unpacks to more than {_limit(path):,} bytes"
    )


def _sha256(path: Path) -> str:
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what is wrong with a file into one line."""
    try:
        yield
    except _UNREADABLE as error:
        reason = getattr(error, "strerror", None) or error
        raise CorpusError(f"can't read {path}: {reason}") from error
