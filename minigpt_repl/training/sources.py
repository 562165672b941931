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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from minigpt_repl import paths
from minigpt_repl.errors import CorpusError
from minigpt_repl.files import explained, open_atomically
from minigpt_repl.shown import and_more
from minigpt_repl.training.progress import Progress

SIMPLEBOOKS_URL = "https://dldata-public.s3.us-east-2.amazonaws.com/simplebooks.zip"
"""The reference example's data, 282 MB."""

TEXT_SUFFIXES = (".txt", ".text", ".md")
"""A file of a folder or zip that is called so is text, whatever it begins with."""

MAX_BYTES = 16 << 30
"""The most that is read from one archive."""

TIMEOUT = 30.0
"""Seconds without a byte until a download counts as broken."""

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
_DAMAGE = (
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    ValueError,
)


@dataclass(frozen=True)
class Document:
    """One text of a source: its path within it, with `/`, and what reads its bytes."""

    name: str
    read: Callable[[], bytes]


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
    if is_url(source):
        return _open_file(fetch(source, progress), source, progress)
    path = Path(source).expanduser()
    with _readable(path):
        if path.is_dir():
            return _open_folder(path, source, progress)
        if path.is_file():
            return _open_file(path, source, progress)
        if path.exists():
            raise CorpusError(f"{source} is not an ordinary file")
    if glob.has_magic(source):
        found = sorted(glob.glob(str(path), recursive=True))
        files = {name: Path(name) for name in found if Path(name).is_file()}
        if not files:
            raise CorpusError(f"no file matches {source}")
        return _open_several(files, source, progress)
    raise CorpusError(
        f"there is no {source}: give a text file, a folder, a glob, a .zip, a .gz "
        "or a URL"
    )


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
        _download(url, file, progress)
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


def _download(url: str, file: IO[bytes], progress: Progress) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": paths.APP})
    suffix = PurePosixPath(urllib.parse.urlsplit(url).path).suffix.lower()
    with _network(url):
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    with response:
        total = response.length
        # Then a broken connection looks like the end; a cut archive is found out.
        is_endless = total is None and not response.chunked
        if is_endless and suffix not in (".zip", ".gz"):
            raise CorpusError(
                f"can't fetch {url}: the server does not say how long the file is, so "
                "nobody can tell whether all of it came"
            )
        is_page = response.headers.get_content_type() == "text/html"
        progress.start("download", total, "bytes")
        got = 0
        while True:
            with _network(url):
                block = response.read(_BLOCK)
            is_page = is_page or (not got and bool(_WEB_PAGE.match(block)))
            if is_page and suffix not in _PAGES:
                raise CorpusError(
                    f"can't fetch {url}: the server sent a web page instead of the file"
                )
            if not block:
                break
            file.write(block)
            got += len(block)
            progress.advance(got)
    if total is not None and got < total:
        raise CorpusError(f"can't fetch {url}: {got:,} of {total:,} bytes came")
    progress.finish()


@contextlib.contextmanager
def _network(url: str) -> Iterator[None]:
    """Turn what a server or the way to it does into one line."""
    try:
        yield
    except urllib.error.HTTPError as error:
        reason = f"the server answered {error.code} {error.reason}".strip()
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, TimeoutError):
            reason = "the server does not answer"
        elif isinstance(error, urllib.error.URLError):
            reason = getattr(cause, "strerror", None) or str(cause)
        else:
            reason = f"the transfer broke off ({str(error) or type(error).__name__})"
    else:
        return
    raise CorpusError(f"can't fetch {url}: {' '.join(reason.split())}")


def _check_download(url: str, path: Path) -> None:
    """The archive's own check: one that was cut is not kept."""
    name = urllib.parse.urlsplit(url).path
    if name.endswith(".zip") and not zipfile.is_zipfile(path):
        raise CorpusError(f"{url} is not a zip file, or a damaged one")
    if name.endswith(".gz"):
        told = f"{url} is not a gz file, or a damaged one"
        with _undamaged(told), gzip.open(path, "rb") as file:
            while file.read(_BLOCK):
                pass


def _open_folder(folder: Path, source: str, progress: Progress) -> Source:
    found_paths = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in found_paths}
    readers = {name: partial(path.open, "rb") for name, path in names.items()}
    found = _texts_among(readers, f"the folder {source}", progress)
    # The folder's own name counts: it may be the one that a layout is known by.
    base = folder.resolve().name
    files = {f"{base}/{name}": names[name] for name in found}
    return _open_several(files, source, progress)


def _texts_among(
    readers: Mapping[str, Callable[[], Any]], where: str, progress: Progress
) -> list[str]:
    """The names, in order, of the files of a folder or zip that are text; says which.

    Raises:
        CorpusError: if there is none.
    """
    found: list[str] = []
    left: list[str] = []
    for name in sorted(readers):
        if not _is_hidden(name):
            (found if _is_text(name, readers[name]) else left).append(name)
    if not found:
        raise CorpusError(f"{where} has no text file among {len(left):,}")
    kinds = Counter(PurePosixPath(name).suffix or "no suffix" for name in found)
    told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(9))
    progress.say(f"files: {len(found):,} read ({told})")
    if left:
        progress.say(
            f"left out, no text: {', '.join(left[:5])}{and_more(len(left) - 5)}"
        )
    return found


def _open_several(files: Mapping[str, Path], source: str, progress: Progress) -> Source:
    digest = hashlib.sha256()
    documents: list[Document] = []
    for name, file in files.items():
        digest.update(f"{name}\0{_sha256(file)}\n".encode("utf-8", "surrogateescape"))
        documents.extend(_documents(file, name, progress))
    return Source(f"{source} ({len(files)} files)", digest.hexdigest(), (*documents,))


def _open_file(path: Path, source: str, progress: Progress) -> Source:
    sha256 = _sha256(path)
    return Source(source, sha256, tuple(_documents(path, path.name, progress)))


def _documents(path: Path, name: str, progress: Progress) -> Iterator[Document]:
    with _readable(path), open(path, "rb") as file:
        start = file.read(4)
    if start[:2] == _GZIP:
        yield Document(name, partial(_read_gzip, path))
    elif start != _ZIP and not zipfile.is_zipfile(path):
        yield Document(name, partial(_read_file, path))
    else:
        with _undamaged(f"{path} is a damaged zip"), zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        # No more than the size that a member is said to have is ever read of it.
        if sum(member.file_size for member in members) > _limit(path):
            raise _bomb(path)
        if any(member.flag_bits & 1 for member in members):
            raise CorpusError(f"{path} is encrypted; unpack it and give the folder")
        files = {each.filename: each for each in members if not each.is_dir()}
        with _undamaged(f"{path} is damaged"), zipfile.ZipFile(path) as archive:
            readers = {each: partial(archive.open, files[each]) for each in files}
            texts = _texts_among(readers, f"the zip {name}", progress)
        for text in texts:
            yield Document(text, partial(_read_member, path, files[text]))


def _read_member(path: Path, member: zipfile.ZipInfo) -> bytes:
    with (
        _readable(path),
        _undamaged(f"{member.filename} in {path} is damaged"),
        zipfile.ZipFile(path) as archive,
    ):
        return archive.read(member)


def _read_gzip(path: Path) -> bytes:
    limit = _limit(path)
    with (
        _readable(path),
        _undamaged(f"{path} is a damaged gz"),
        gzip.open(path, "rb") as file,
    ):
        data = file.read(limit + 1)
    if len(data) > limit:
        raise _bomb(path)
    return data


def _read_file(path: Path) -> bytes:
    with _readable(path):
        return path.read_bytes()


def _limit(path: Path) -> int:
    """The most bytes that an archive may unpack to."""
    return min(MAX_BYTES, max(_SMALL, _MAX_RATIO * path.stat().st_size))


def _bomb(path: Path) -> CorpusError:
    return CorpusError(
        f"{path} is not safe: it unpacks to more than {_limit(path):,} bytes"
    )


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def _is_text(name: str, opened: Callable[[], Any]) -> bool:
    """Whether a file of a folder or zip is read: by its name, or how it begins."""
    if PurePosixPath(name).suffix.lower() in TEXT_SUFFIXES:
        return True
    with opened() as file:
        start = file.read(_LOOKED_AT)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    return bool(start) and _CONTROL.search(start) is None


def _sha256(path: Path) -> str:
    with _readable(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CorpusError(f"can't read {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def _undamaged(told: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise CorpusError(f"{told}: {error}") from error
