"""Fetches a training text from a URL into Keras' cache folder, whole or not at all.

The file lies where `keras.utils.get_file` would put it, but a server that hangs is
given up, a broken transfer goes on where it broke (also in a later run), and what
is short, changed on the server or a web page is never taken for the file. Knows
places and local files; `http_transfer` knows HTTP.
"""

import contextlib
import os
import re
import tempfile
import time
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from minigpt_repl.errors import CorpusError
from minigpt_repl.files import explained
from minigpt_repl.training.http_transfer import HttpTransfer, Patience
from minigpt_repl.training.part_file import PartFile, Version, read_version
from minigpt_repl.training.progress import Progress, SilentProgress

SCHEMES = ("http", "https", "file")

_BLOCK = 1 << 18


def is_url(source: str) -> bool:
    """Whether a source is a URL rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


def cache_path(url: str) -> Path:
    """Where `keras.utils.get_file(origin=url)` would put the file.

    Raises:
        CorpusError: if the URL does not end in a file's name.
    """
    name = os.path.basename(urllib.parse.urlsplit(url).path)
    if name in ("", ".", ".."):
        raise CorpusError(f"{url} does not end in a file's name, such as books.zip")
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    with contextlib.suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
    if not os.access(home, os.W_OK):
        home = Path(tempfile.gettempdir()) / ".keras"
    path = home / "datasets" / name
    # What get_file(extract=True) unpacked has that name; its archive has this one.
    return path.with_name(f"{name}_archive") if path.is_dir() else path


def fetch(
    url: str,
    progress: Progress | None = None,
    patience: Patience | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """The file of a URL, fetched now or in an earlier run.

    Args:
        url: `http://`, `https://` or `file://`.
        progress: shows the bytes.
        patience: how long to wait for a server.
        sleep: waits for seconds.

    Returns:
        Path of the file in Keras' cache folder.

    Raises:
        CorpusError: if it can't be fetched; what has come is kept for a next run.
        MiniGPTError: if it can't be written, such as on a full disk.
    """
    progress = progress or SilentProgress()
    scheme = urllib.parse.urlsplit(url).scheme.lower()
    if scheme not in SCHEMES:
        raise CorpusError(
            f"can't fetch {url}: a URL begins with http://, https:// or file://, "
            f"not {scheme}://"
        )
    path = cache_path(url)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if scheme == "file":
        _copy(url, path, progress)
    elif not _is_here(path, url):
        with PartFile.locked(path) as part:
            transfer = HttpTransfer(url, part, progress, patience or Patience(), sleep)
            part.accept(transfer.receive())
            progress.finish()
    return path


def _is_here(path: Path, url: str) -> bool:
    """Whether the whole file of the URL is in the cache already."""
    if not path.is_file():
        return False
    noted = read_version(path)
    if noted is None:
        # Put here by somebody else. A cut zip has no directory at its end; of
        # other files nobody can tell.
        return zipfile.is_zipfile(path)
    return noted.url == url and noted.size == path.stat().st_size


def _copy(url: str, path: Path, progress: Progress) -> None:
    """Bring a local file into the cache, unless just this one is there."""
    source = Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
    try:
        with open(source, "rb") as file:
            about = os.fstat(file.fileno())
            version = Version(url, about.st_size, None, str(about.st_mtime_ns))
            if read_version(path) == version and path.is_file():
                return
            with PartFile.locked(path) as part:
                part.start_anew()
                progress.start("download", about.st_size, "bytes")
                while block := file.read(_BLOCK):
                    part.write(block)
                    progress.advance(part.size)
                part.accept(version)
                progress.finish()
    except OSError as error:
        raise CorpusError(f"can't read {source}: {error.strerror or error}") from error
