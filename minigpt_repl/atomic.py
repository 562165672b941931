"""Files and folders that are written whole or not at all.

Everything is written beside its place, forced to the disk and then renamed, so
that whatever kills the program, a reader finds the old content or the new one.
Knows file systems only: nothing of what is written.
"""

import contextlib
import ctypes
import errno
import glob
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from minigpt_repl.errors import MiniGPTError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


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
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with explained(path):
        try:
            _remove_leftovers(path)
            with open(beside, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
            sync_folder(path.parent)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def open_directory_atomically(path: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `path` when the block ends well.

    Raises:
        MiniGPTError: as `replace_directory`.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with explained(path):
        try:
            _remove_leftovers(path)
            beside.mkdir()
            yield beside
            replace_directory(beside, path)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise


def replace_directory(made: Path, path: Path) -> None:
    """Put the folder `made` in the place of `path`; the old content is removed.

    Both must lie on one file system. On Linux the two change places in one step.
    Elsewhere the old folder is moved away first, and a crash between the two
    renames leaves it whole as `.NAME.old`.

    Raises:
        MiniGPTError: if it can't be done; the old folder is then where it was.
    """
    made, path = Path(made), Path(path)
    with explained(path):
        for file in sorted(made.rglob("*")):
            if file.is_file():
                _sync_file(file)
            elif file.is_dir():
                sync_folder(file)
        sync_folder(made)
        if not path.exists():
            os.rename(made, path)
        elif path.is_dir():
            _exchange(made, path)
        else:
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way")
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk, where the system can do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems can't sync a folder; the rename still holds.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an `OSError` about writing `path` into one line for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; free some space and run it again"
        else:
            reason = error.strerror or str(error)
        raise MiniGPTError(f"can't write {path}: {reason}") from error


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(made: Path, path: Path) -> None:
    if not _swap_in_one_step(made, path):
        old = path.with_name(f".{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(path, old)
        try:
            os.rename(made, path)
        except OSError:
            os.rename(old, path)
            raise
        os.rename(old, made)
    shutil.rmtree(made)


def _swap_in_one_step(made: Path, path: Path) -> bool:
    """Whether the kernel could exchange the two names (Linux, most systems)."""
    if not sys.platform.startswith("linux"):
        return False
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if swap is None:
        return False
    arguments = (_AT_FDCWD, os.fsencode(made), _AT_FDCWD, os.fsencode(path))
    if swap(*arguments, _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False  # a file system without it
    raise OSError(code, os.strerror(code))


def _remove_leftovers(path: Path) -> None:
    """Removes what killed processes left beside `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        process = left.name.removesuffix(".part").rpartition(".")[2]
        if process.isdecimal() and not _is_running(int(process)):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
