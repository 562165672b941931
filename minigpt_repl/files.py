"""Files and folders that are written whole or not at all, and files that users name.

Everything is written beside its place, forced to the disk and then renamed, so that
whatever kills the program, a reader finds the old content or the new one. What the user
names is found, and read within bounds.
"""

import contextlib
import errno
import glob
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from minigpt_repl.errors import MiniGPTError, UsageError
from minigpt_repl.shown import did_you_mean, plain, quoted, shown_path

LARGEST = 64 * 1024 * 1024
"""Bytes of the largest file that is read."""


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Make `path` a file with just these bytes; its folder must exist.

    Raises:
        MiniGPTError: if it can't be written (full disk, no permission, a folder
            in the way); what was at `path` before is then still there.
    """
    with open_atomically(path) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well.

    Raises:
        MiniGPTError: as `write_bytes_atomically`.
    """
    path = _real(path)
    with _beside(path) as beside:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync(path.parent)


@contextlib.contextmanager
def open_directory_atomically(path: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `path` when the block ends well.

    The old folder is moved away first: a crash between the two renames leaves it whole
    as `.NAME.old`, and `recover_directory` brings it back.

    Raises:
        MiniGPTError: if it can't be done; the old folder is then where it was.
    """
    path = _real(path)
    with _beside(path) as made:
        made.mkdir()
        yield made
        for each in (made, *made.rglob("*")):
            if each.is_dir() or each.is_file():
                sync(each)
        recover_directory(path)
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way")
        if path.exists():
            os.rename(path, _old(path))
        try:
            os.rename(made, path)
        except OSError:
            recover_directory(path)
            raise
        sync(path.parent)
        shutil.rmtree(_old(path), ignore_errors=True)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Where what will take the place of `path` is made; removed if the block fails."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with explained(path):
        try:
            _remove_leftovers(path)
            yield beside
        except BaseException:
            _remove(beside)
            raise


def recover_directory(path: Path) -> None:
    """Bring back the folder that a crash left moved away, if there is one."""
    path = _real(path)
    if not path.exists() and _old(path).is_dir():
        os.rename(_old(path), path)
    shutil.rmtree(_old(path), ignore_errors=True)


@contextlib.contextmanager
def explained(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn an `OSError` about writing `path`, or what is done, into one line."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; free some space and run it again"
        raise _refused(doing, path, reason) from error


def user_path(typed: str, usage: str) -> Path:
    """The path that the user typed, without quotes, `~` put in full.

    Raises:
        UsageError: if nothing was typed, an option, or what no file can be called.
    """
    name = typed.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1]
    if not name:
        raise UsageError(f"{usage}: name a file")
    if name.startswith("--"):
        raise UsageError(f"no option {quoted(name.split()[0])}: {usage}")
    if "\0" in name or "\n" in name:
        raise UsageError(f"{plain(name)} can't be the name of a file")
    return Path(os.path.expanduser(name))


def read_user_file(path: Path, largest: int = LARGEST) -> str:
    """A text file's content; arguments and errors are those of `open_user_file`.

    Raises:
        MiniGPTError: as well if it is not UTF-8.
    """
    with open_user_file(path, largest) as file, explained(path, "read"):
        content = file.read(largest + 1)
    if len(content) > largest:  # it grew, or is one of those that tell no size
        raise _refused("read", path, _too_large(largest))
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise _refused("read", path, "it is not UTF-8 text") from None


def open_user_file(path: Path, largest: int = LARGEST) -> BinaryIO:
    """An ordinary file to read, of at most `largest` bytes; a pipe or a device would
    have no end.

    Raises:
        MiniGPTError: if it is missing, no ordinary file or too large.
    """
    with explained(path, "read"):
        try:
            status = path.stat()
        except FileNotFoundError:
            near = _nearest(path)
            raise _refused("read", path, f"there is no such file{near}") from None
        except ValueError as error:  # a name that the system can't encode
            raise _refused("read", path, error) from None
        if stat.S_ISDIR(status.st_mode):
            raise _refused("read", path, "it is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise _refused("read", path, "it is not an ordinary file")
        if status.st_size > largest:
            raise _refused("read", path, _too_large(largest))
        return path.open("rb")


def write_user_file(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        MiniGPTError: if it can't be written; what was there is then still there.
    """
    with explained(path):
        if path.is_dir() or not path.name:
            raise _refused("write", path, "it is a folder")
        if not path.parent.is_dir():
            folder = shown_path(path.parent)
            raise _refused("write", path, f"there is no folder {folder}")
        if path.exists() and not path.is_file():
            raise _refused("write", path, "it is not an ordinary file")
        write_bytes_atomically(path, text.encode("utf-8"))


def _refused(doing: str, path: Path, reason: object) -> MiniGPTError:
    return MiniGPTError(f"can't {doing} {shown_path(path)}: {reason}")


def _too_large(largest: int) -> str:
    size = f"{largest // 2**20} MB" if largest >= 2**20 else f"{largest // 2**10} KB"
    return f"it is larger than {size}"


def sync(path: Path) -> None:
    """Force a file's content, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems can't sync a folder; the rename still holds.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or path.is_file():
            raise
    finally:
        os.close(descriptor)


def _real(path: Path) -> Path:
    """What a link stands for is written in its own place, and the link stays."""
    return Path(os.path.realpath(path))


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _remove_leftovers(path: Path) -> None:
    """Remove what killed processes left beside `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        process = left.name.removesuffix(".part").rpartition(".")[2]
        if process.isdecimal() and not _is_running(int(process)):
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True


def _nearest(path: Path) -> str:
    try:
        names = os.listdir(path.parent)
    except (OSError, ValueError):
        return ""
    return did_you_mean(path.name, (name for name in names if name.isprintable()))
